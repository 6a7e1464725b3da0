"""Optimisers, the schedules of their learning rates, and the moving average of the weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from recipes.training.schema import OptimizerRecipe


def build_optimizer(module: nn.Module, settings: OptimizerRecipe) -> torch.optim.Optimizer:
    """Build the optimiser of all parameters of ``module``, once they are on their device."""
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


class WeightAverage(AveragedModel):
    """Exponential moving average of the weights of a model; buffers are copied.

    The first ``update_parameters`` copies the weights. From then on the decay rises, 2 / 11 at first, up to ``decay``,
    so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take in the weights of ``model``. Unlike that of AveragedModel, this makes no processor wait for a GPU."""
        count = int(self.n_averaged)  # which stays on the CPU
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(model.parameters())
        if count:
            torch._foreach_lerp_(averages, weights, 1 - min(self.decay, (1 + count) / (10 + count)))
        else:
            torch._foreach_copy_(averages, weights)
        if buffers := list(model.buffers()):
            torch._foreach_copy_(list(self.module.buffers()), buffers)
        self.n_averaged += 1
