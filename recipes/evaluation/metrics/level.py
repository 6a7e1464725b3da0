"""Compare levels: overall, above the mel's band, and in silence."""

from __future__ import annotations

import numpy as np
import torch

from recipes.evaluation.metrics.signal import NAN, Signal, decibels
from vocoders.dsp.stft import STFT


def level_difference(reference: Signal, estimate: Signal) -> float:
    """Compute the estimate's level minus the reference's in dB, clipped at -120 dBFS; NaN for a silent reference."""
    reference_level, estimate_level = (
        float(decibels(np.mean(x.audio.astype(float) ** 2))) for x in (reference, estimate)
    )
    return estimate_level - reference_level if reference_level > -120 else NAN


def treble_difference(reference: Signal, estimate: Signal, hz: float) -> float:
    """Compute the estimate's level minus the reference's above ``hz``, in dB.

    NaN where the reference is below -120 dBFS there, or nothing lies above.
    """

    def power(signal: Signal) -> float:
        """Compute the mean square of the part above ``hz``, by Parseval's theorem."""
        stft = STFT(1024, 256)
        above = stft(torch.from_numpy(signal.audio)).abs()[int(hz / signal.sample_rate * 1024) + 1 : -1]
        return float(2 * above.double().square().sum(0).mean() / (1024 * stft.window.double().square().sum()))

    reference_power = power(reference)
    difference = decibels(np.array(power(estimate))) - decibels(np.array(reference_power))
    return float(difference) if reference_power > 1e-12 else NAN


def silence_level(reference: Signal, estimate: Signal) -> float:
    """Compute the RMS in dBFS (constant 1 = 0 dBFS) where the reference is silent; NaN if it never is."""
    silent = reference.silent
    return float(decibels(np.mean(estimate.audio[silent].astype(float) ** 2))) if silent.any() else NAN
