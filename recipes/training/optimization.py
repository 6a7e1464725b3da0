"""Optimisers, the schedules of their learning rates, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from recipes.training.recipe import OptimizerRecipe


def build_optimizer(module: nn.Module, settings: OptimizerRecipe) -> torch.optim.Optimizer:
    """Build the optimiser of all parameters of ``module``."""
    kind = {"adamw": torch.optim.AdamW, "radam": torch.optim.RAdam}[settings.kind]
    return kind(
        module.parameters(),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )


def learning_rate(settings: OptimizerRecipe, step: int, steps: int) -> float:
    """Compute the learning rate of a step: linear warm-up, then the schedule.

    Args:
        settings: settings of the optimiser.
        step: number of the step, from 0.
        steps: number of steps of the whole run.
    """
    warmup = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "cosine":
        return settings.lr * warmup * 0.5 * (1 + math.cos(math.pi * step / steps))
    return settings.lr * warmup * settings.decay ** (step // settings.decay_every)


def average_weights(model: nn.Module, decay: float) -> AveragedModel:
    """Build the exponential moving average of the weights of ``model``; buffers are copied.

    The first ``update_parameters`` copies the weights. From then on the decay rises, 2 / 11 at first, up to ``decay``,
    so that the random start is soon forgotten.
    """

    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], averaged: Tensor | int) -> None:
        count = int(averaged)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averages, weights, averaged)

    return AveragedModel(model, multi_avg_fn=update).eval().requires_grad_(False)
