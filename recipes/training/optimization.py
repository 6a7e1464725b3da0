"""Optimisers and the schedules of their learning rates."""

from __future__ import annotations

import math

import torch
from torch import nn

from recipes.training.recipe import OptimizerRecipe


def build_optimizer(module: nn.Module, settings: OptimizerRecipe) -> torch.optim.Optimizer:
    kind = {"adamw": torch.optim.AdamW, "radam": torch.optim.RAdam}[settings.kind]
    return kind(
        module.parameters(),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )


def learning_rate(settings: OptimizerRecipe, step: int, steps: int) -> float:
    """Of ``step``, counted from 0, in a run of ``steps``: linear warm-up, then the schedule."""
    warmup = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "cosine":
        return settings.lr * warmup * 0.5 * (1 + math.cos(math.pi * step / steps))
    return settings.lr * warmup * settings.decay ** (step // settings.decay_every)
