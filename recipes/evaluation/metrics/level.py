"""Levels of a synthesis: as a whole, above the band of the mel, and in silence."""

from __future__ import annotations

import numpy as np
import torch

from recipes.evaluation.metrics.signal import NAN, Signal, decibels
from vocoders.dsp.stft import STFT


def level_difference(reference: Signal, estimate: Signal) -> float:
    """Compute the level of the estimate minus that of the reference, in dB; NaN where the reference is silent.

    Levels below -120 dBFS count as -120 dBFS.
    """
    reference_level, estimate_level = (
        float(decibels(np.mean(x.audio.astype(float) ** 2))) for x in (reference, estimate)
    )
    return estimate_level - reference_level if reference_level > -120 else NAN


def treble_difference(reference: Signal, estimate: Signal, hz: float) -> float:
    """Compute the level of the estimate minus that of the reference above ``hz``, in dB.

    NaN where the reference has less than -120 dBFS there, or no frequency lies above.
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
    """Compute the RMS in dBFS (a constant 1 is 0 dBFS) where the reference is silent; NaN if it never is."""
    silent = reference.silent
    return float(decibels(np.mean(estimate.audio[silent].astype(float) ** 2))) if silent.any() else NAN
