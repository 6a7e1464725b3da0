"""Comparison of distributions instead of samples, for generators that draw noise."""

from __future__ import annotations

from torch import Tensor

from .spectral import SpectralLoss


def energy_distance(
    loss: SpectralLoss, first: Tensor, second: Tensor, reference: Tensor, repulsion: float = 1.0
) -> list[Tensor]:
    """Compute the generalised energy distance of Gritsenko et al. (2020, arXiv 2008.01160), equation 3.

    The mean distance of two estimates, drawn with different noise, to the recording, minus half the distance between
    the two (repulsion). A spectral distance alone is least for an estimate without noise, which is heard as buzz; with
    the repulsion it is a proper score, least for estimates that vary as recordings do.

    Args:
        loss: any spectral loss.
        first: audio (batch, samples).
        second: audio (batch, samples) of the same mel with independent noise.
        reference: the recording, audio (batch, samples).
        repulsion: factor of the repulsion; below 1 the result is no proper score.

    Returns:
        A float32 scalar for each term of ``loss``, in the order of ``loss.terms``.
    """
    a, b, y = (loss.transform(audio) for audio in (first, second, reference))
    # All three are relative to the recording: a distance relative to an estimate grows without limit when that
    # estimate becomes silent.
    attracted, also, repelled = loss.distance(a, y, y), loss.distance(b, y, y), loss.distance(a, b, y)
    return [(p + q - repulsion * r) / 2 for p, q, r in zip(attracted, also, repelled, strict=True)]
