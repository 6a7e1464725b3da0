"""Measure quality and intelligibility by the reference implementations of PESQ and STOI."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

from recipes.data.audio import resample
from recipes.evaluation.metrics.signal import NAN, Signal

HAS_PESQ = find_spec("pesq") is not None  # has no wheels, so only the extra pesq installs it


def pesq_wide_band(reference: Signal, estimate: Signal) -> float:
    """Measure perceptual quality, 1.04 to 4.64: ITU-T P.862.2 at 16 kHz.

    NaN without speech in the reference, and without the package pesq.
    """
    if not HAS_PESQ or not reference.audio.any():
        return NAN
    import pesq

    if not estimate.audio.any():
        return 1.04  # the package fails
    try:
        return float(pesq.pesq(16000, *(resample(x.audio, x.sample_rate, 16000) for x in (reference, estimate)), "wb"))
    except (pesq.NoUtterancesError, pesq.BufferTooShortError):
        return NAN


def stoi(reference: Signal, estimate: Signal) -> float:
    """Measure short-time objective intelligibility, at most 1, at 10 kHz (Taal et al. 2011, IEEE TASLP 19).

    NaN with less than 0.4 s of speech.
    """
    import pystoi

    if not reference.audio.any():
        return NAN
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(reference.audio, estimate.audio, reference.sample_rate))
        except (RuntimeWarning, ValueError):  # too few frames, or none
            return NAN
