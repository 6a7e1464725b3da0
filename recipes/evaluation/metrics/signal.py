"""A signal, float32 (samples,), and its tracks, one value every F0_PERIOD seconds."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.fft import dct
from scipy.ndimage import maximum_filter1d

from recipes.data.audio import resample
from recipes.data.f0_labels import F0_PERIOD, F0_RANGE, label_f0

NAN = float("nan")
LOUD = 40.0  # dB below the loudest instant at which speech ends and silence begins


class Signal:
    """A signal, float32 (samples,), with tracks computed on first use."""

    def __init__(self, audio: np.ndarray, sample_rate: int) -> None:
        self.audio = audio
        self.sample_rate = sample_rate

    @cached_property
    def f0(self) -> np.ndarray:
        """F0 in Hz, 0 = unvoiced."""
        return measure_f0(self.audio, self.sample_rate)

    @cached_property
    def cepstrum(self) -> np.ndarray:
        """Mel-cepstrum, (frames, order)."""
        return mel_cepstrum(self.envelope, self.sample_rate)

    @property
    def envelope(self) -> np.ndarray:
        """Power spectrum without harmonics, (frames, bins): WORLD's CheapTrick (Morise 2015)."""
        import pyworld

        times = np.arange(len(self.f0)) * F0_PERIOD
        return pyworld.cheaptrick(self.audio.astype(np.float64), self.f0.astype(np.float64), times, self.sample_rate)

    @cached_property
    def periodicity(self) -> np.ndarray:
        """Periodicity, 0 to 1."""
        return periodicity(self.audio, self.sample_rate)

    @cached_property
    def loud(self) -> np.ndarray:
        """Whether each instant has speech, within LOUD of the highest level."""
        level = levels(self.audio, self.sample_rate)
        return level > max(level.max() - LOUD, -100.0)

    @property
    def silent(self) -> np.ndarray:
        """Whether each sample is silent: over 50 ms from any loud instant."""
        reach = 2 * round(0.05 / F0_PERIOD) + 1
        instant = np.round(np.arange(len(self.audio)) / (self.sample_rate * F0_PERIOD)).astype(int)
        return ~maximum_filter1d(self.loud, reach)[np.minimum(instant, len(self.loud) - 1)]


def measure_f0(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Measure F0 in Hz, 0 = unvoiced: voicing by WORLD's DIO, as in the labels, F0 by its Harvest.

    DIO's F0 jumps at the ends of voiced stretches: F0 errors would be 1.4 times as large.
    """
    import pyworld

    voiced = label_f0(audio, sample_rate)
    fine, _ = pyworld.harvest(audio.astype(np.float64), sample_rate, *F0_RANGE, frame_period=F0_PERIOD * 1000)
    return np.where((voiced > 0) & (fine > 0), fine, voiced)


def periodicity(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Measure periodicity, 0 to 1: the harmonics' share of the power (Boersma 1993).

    The highest peak of the normalised cross-correlation of 28 ms with the audio after it, at 16 kHz, over the lags of
    F0_RANGE.
    """
    rate, step = 16000, round(16000 * F0_PERIOD)
    shortest, longest = int(rate / F0_RANGE[1]), int(np.ceil(rate / F0_RANGE[0]))
    window, count = 2 * longest, instants(audio, sample_rate)
    total, lags = window + longest + 1, slice(shortest - 1, longest + 2)
    audio = resample(audio, sample_rate, rate).astype(np.float64)
    audio = np.pad(audio, (total // 2, max(0, count * step - len(audio)) + total))
    frames = np.lib.stride_tricks.sliding_window_view(audio, total)[: count * step : step]
    size = 1 << (total - 1).bit_length()
    product = np.fft.rfft(frames[:, :window], size).conj() * np.fft.rfft(frames, size)
    energy = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    energy = energy[:, window : total + 1] - energy[:, : total - window + 1]  # per window and lag
    correlation = np.fft.irfft(product, size)[:, lags] / np.sqrt(energy[:, :1] * energy[:, lags] + 1e-12)
    # Only peaks count, as hum correlates at every short lag; a parabola interpolates.
    before, here, after = correlation[:, :-2], correlation[:, 1:-1], correlation[:, 2:]
    peak = (here > before) & (here >= after)
    top = here + (after - before) ** 2 / (8 * np.where(peak, 2 * here - before - after, 1.0))
    return np.where(peak, top, 0.0).max(1).clip(0.0, 1.0)


def mel_cepstrum(envelope: np.ndarray, sample_rate: int, order: int = 24) -> np.ndarray:
    """Compute the mel-cepstrum c_1 ... c_order of power spectra: (frames, bins) -> (frames, order).

    ln|H| = c_0 + sum of c_m cos(m w), with the mel scale from 0 to 8 kHz (or half a lower rate) stretched to w = 0 to
    pi; SPTK approximates it by an all-pass warping. The limit of 8 kHz makes models of all rates comparable.
    """
    bins, top = envelope.shape[1], min(8000.0, sample_rate / 2)
    mels = (np.arange(bins) + 0.5) / bins * np.log1p(top / 700)
    position = 700 * np.expm1(mels) / (sample_rate / 2) * (bins - 1)
    left = position.astype(int)
    log = 0.5 * np.log(np.maximum(envelope, 1e-20))
    warped = log[:, left] + (position - left) * (log[:, left + 1] - log[:, left])
    return dct(warped, axis=1)[:, 1 : order + 1] / bins


def levels(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Measure the level of 25 ms around each instant, dBFS (constant 1 = 0 dBFS)."""
    centres = np.round(np.arange(instants(audio, sample_rate)) * F0_PERIOD * sample_rate).astype(int)
    half = round(0.0125 * sample_rate)
    energy = np.cumsum(np.pad(audio.astype(float) ** 2, (1, 0)))
    inside = energy[np.minimum(centres + half, len(audio))] - energy[np.maximum(centres - half, 0)]
    return decibels(inside / (2 * half))


def instants(audio: np.ndarray, sample_rate: int) -> int:
    """Compute the length of a signal's tracks, rounded as in WORLD."""
    return int(1000.0 * len(audio) / sample_rate / (1000.0 * F0_PERIOD)) + 1


def decibels(power: np.ndarray) -> np.ndarray:
    """Convert mean squares to dB, at least -120."""
    return 10 * np.log10(np.maximum(power, 1e-12))
