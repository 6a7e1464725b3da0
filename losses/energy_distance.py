"""Comparison of distributions instead of samples, for generators that draw noise."""

from __future__ import annotations

from torch import Tensor

from .spectral import SpectralLoss


def energy_distance(
    loss: SpectralLoss, first: Tensor, second: Tensor, reference: Tensor, repulsion: float = 1.0
) -> list[Tensor]:
    """Compute the generalised energy distance of Gritsenko et al. (2020, arXiv 2008.01160), equation 3.

    It is the mean distance of two estimates, drawn with different noise, to the recording, minus half the distance
    between the two, the repulsion. A distance between spectra alone is least for an estimate without any noise: a
    steady value in the middle is, on average, nearest to a noisy bin of a recording, so the voiced parts of speech
    become all harmonic and buzz. The repulsion makes it a proper score, which is least for estimates that vary as
    recordings do.

    Args:
        loss: any spectral loss.
        first: audio (batch, samples).
        second: audio (batch, samples) of the same mel with independent noise.
        reference: the recording, audio (batch, samples).
        repulsion: factor of the repulsion. Below 1 the result is no proper score any more: it is least for estimates
            that vary less than recordings do.

    Returns:
        A float32 scalar for each term of ``loss``, in the order of ``loss.terms``.
    """
    a, b, y = (loss.transform(audio) for audio in (first, second, reference))
    # All three are relative to the recording: a distance relative to an estimate grows without limit when that
    # estimate becomes silent.
    attracted, also, repelled = loss.distance(a, y, y), loss.distance(b, y, y), loss.distance(a, b, y)
    return [(p + q - repulsion * r) / 2 for p, q, r in zip(attracted, also, repelled, strict=True)]
