"""Comparing distributions instead of samples, for generators that draw noise."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from losses.spectral import MelLoss, MultiResolutionSTFTLoss, MultiScaleMelLoss


def energy_distance(
    loss: MelLoss | MultiScaleMelLoss | MultiResolutionSTFTLoss, first: Tensor, second: Tensor, real: Tensor
) -> list[Tensor]:
    """Mean distance of two fakes, drawn with different noise, to the recording, less half their own distance.

    The generalised energy distance of Gritsenko et al. (2020, arXiv 2008.01160), equation 3. A distance between
    spectra alone is least for a fake without any noise: a noisy bin of a recording is best met, on average, by a
    steady value in the middle, so the voiced parts of speech come out all harmonic and buzz. The repulsion makes it a
    proper score, which is least for fakes that vary as recordings do.

    Args:
        first, second: audio (batch, samples) of the same mel with independent noise.
        real: audio (batch, samples).
    Returns: the terms of ``loss``, in its order.
    """
    a, b, y = (loss.transform(audio) for audio in (first, second, real))
    # The transforms' type is the loss's own affair.
    measure: Any = loss.distance
    # All three in the same unit: one relative to a fake could be made as large as one likes by silencing that fake.
    relative = {"reference": y} if isinstance(loss, MultiResolutionSTFTLoss) else {}
    distances = [measure(a, y), measure(b, y), measure(a, b, **relative)]
    attracted, also, repelled = (list(d) if isinstance(d, tuple) else [d] for d in distances)
    return [(p + q - r) / 2 for p, q, r in zip(attracted, also, repelled, strict=True)]
