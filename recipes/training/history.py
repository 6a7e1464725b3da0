"""Losses of the last steps, checked and read together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vocoders.errors import VocoderError

STATE_KEPT = "the last saved state is kept"


class History:
    """Losses of the steps since the last read; reading waits for the GPU."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, list[str], Tensor]] = []

    def add(self, step: int, losses: dict[str, Tensor]) -> None:
        """Add the losses of a step."""
        self._steps.append((step, list(losses), torch.stack([loss.detach() for loss in losses.values()])))

    def read(self) -> dict[str, float]:
        """Check the losses of all steps and return those of the last."""
        steps, self._steps = self._steps, []
        values = iter(torch.cat([stacked for _, _, stacked in steps]).tolist())
        losses: dict[str, float] = {}
        for step, names, _ in steps:
            losses = {name: next(values) for name in names}
            check_finite(losses, step)
        return losses


def check_finite(losses: dict[str, float], step: int) -> None:
    """Check that all losses and gradient norms are finite."""
    broken = [name for name, value in losses.items() if not math.isfinite(value)]
    norms = [name for name in broken if name.endswith("_gradient_norm")]
    if len(broken) > len(norms):
        named = [name for name in broken if name not in ("total", *norms)] or ["total"]
        raise VocoderError(f"step {step}: the loss is not finite in {', '.join(named)}; {STATE_KEPT}")
    if norms:
        name = norms[0].removesuffix("_gradient_norm")
        raise VocoderError(f"step {step}: the gradient of the {name} is not finite; {STATE_KEPT}")
