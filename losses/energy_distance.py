"""Generalised energy distance, for generators that draw noise."""

from __future__ import annotations

from torch import Tensor

from .spectral import SpectralLoss


def energy_distance(
    loss: SpectralLoss, first: Tensor, second: Tensor, reference: Tensor, repulsion: float = 1.0
) -> list[Tensor]:
    """Compute the generalised energy distance of Gritsenko et al. (2020, arXiv 2008.01160), equation 3.

    The mean distance of two estimates to the recording, minus half their distance to each other (repulsion). Without
    repulsion the best estimate has no noise, which is heard as buzz; with it the score is proper.

    Args:
        loss: any spectral loss.
        first: audio (batch, samples).
        second: audio (batch, samples) of the same mel with independent noise.
        reference: the recording, (batch, samples).
        repulsion: its factor; below 1 the score is not proper.

    Returns:
        A float32 scalar for each of ``loss.terms``.
    """
    a, b, y = (loss.transform(audio) for audio in (first, second, reference))
    # Relative to the recording: relative to an estimate, the distance explodes when that is silent.
    attracted, also, repelled = loss.distance(a, y, y), loss.distance(b, y, y), loss.distance(a, b, y)
    return [(p + q - repulsion * r) / 2 for p, q, r in zip(attracted, also, repelled, strict=True)]
