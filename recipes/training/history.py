"""The losses of the last steps, checked and read together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vocoders.errors import VocoderError

STATE_KEPT = "the last saved state is kept"


class History:
    """Losses of the steps since they were last read. To read them is to wait for a GPU."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, list[str], Tensor]] = []

    def add(self, step: int, losses: dict[str, Tensor]) -> None:
        """Add the losses of a step."""
        self._steps.append((step, list(losses), torch.stack([loss.detach() for loss in losses.values()])))

    def read(self) -> dict[str, float]:
        """Return the losses of the last step, after a check of those of all steps.

        Raises:
            VocoderError: when a loss or a gradient was not finite; the message names the first such step.
        """
        steps, self._steps = self._steps, []
        values = iter(torch.cat([stacked for _, _, stacked in steps]).tolist())
        losses: dict[str, float] = {}
        for step, names, _ in steps:
            losses = {name: next(values) for name in names}
            check_finite(losses, step)
        return losses


def check_finite(losses: dict[str, float], step: int) -> None:
    """Check that all losses and norms of gradients are finite.

    Raises:
        VocoderError: when they are not; the message names them.
    """
    broken = [name for name, value in losses.items() if not math.isfinite(value)]
    norms = [name for name in broken if name.endswith("_gradient_norm")]
    if len(broken) > len(norms):
        named = [name for name in broken if name not in ("total", *norms)] or ["total"]
        raise VocoderError(f"step {step}: the loss is not finite in {', '.join(named)}; {STATE_KEPT}")
    if norms:
        name = norms[0].removesuffix("_gradient_norm")
        raise VocoderError(f"step {step}: the gradient of the {name} is not finite; {STATE_KEPT}")
