"""Find artifacts that a synthesis adds to its recording: tones, stripes and clicks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import maximum_filter1d, median_filter, uniform_filter1d
from scipy.signal import find_peaks

from recipes.evaluation.metrics import Signal
from vocoders.dsp.stft import STFT

LINE = 12.0  # dB above the surroundings; 74 copies by Griffin-Lim reach 8.5, by hnmask-22k 5.3
CLICK = 9.0  # dB above the surroundings; no copy of these nor by HiFi-GAN V2 reaches 7.4 inside


class Line(NamedTuple):
    """A stationary spectral line.

    Attributes:
        hz: frequency.
        excess_db: dB above its surroundings.
    """

    hz: float
    excess_db: float


class Click(NamedTuple):
    """An instant sharper than its surroundings: time in seconds, excess in dB."""

    seconds: float
    excess_db: float


def stationary_lines(reference: Signal, estimate: Signal) -> list[Line]:
    """Find narrow lines through the whole estimate that the reference lacks, by rising frequency.

    The floor of a bin is the level exceeded in 85 % of the frames. Three differences must reach LINE dB: the floor over
    the median floor within 150 Hz; this difference over the reference's within 25 Hz (excludes recorded hum); the floor
    over the reference's (excludes ripples in quieter audio). In speech below 3 kHz, steady tones are found in two of
    three cases at -60 dBFS and nearly always at -50, above 3 kHz nearly always at -70. Clips must last 1 s.
    """
    if len(reference.audio) < reference.sample_rate:
        return []
    size = 2 ** round(np.log2(reference.sample_rate / 10))  # about 0.1 s
    stft = STFT(size, size // 4, padding="center")
    width = 2 * round(150 * size / reference.sample_rate) + 1
    near = 2 * round(25 * size / reference.sample_rate) + 1

    def floor(signal: Signal) -> np.ndarray:
        magnitude = stft(torch.from_numpy(signal.audio)).abs().numpy() * 2 / float(stft.window.sum())
        return np.percentile(20 * np.log10(np.maximum(magnitude, 1e-5)), 15, axis=1)

    levels = floor(reference), floor(estimate)
    prominence = [level - median_filter(level, width, mode="nearest") for level in levels]
    gains = [of_estimate - maximum_filter1d(of_reference, near) for of_reference, of_estimate in (levels, prominence)]
    excess = np.minimum.reduce([prominence[1], *gains])
    peaks = np.flatnonzero((excess > LINE) & (excess == maximum_filter1d(excess, 7)))
    return [Line(float(k * reference.sample_rate / size), float(excess[k])) for k in peaks]


def clicks(reference: Signal, estimate: Signal) -> list[Click]:
    """Find instants that are sharper than their surroundings and than the reference, such as bad joins of segments.

    Sharpness is the level of the fourth difference, which flattens speech and turns a jump into a spike. A click
    exceeds by CLICK dB the sharpest instant of the 20 ms on either side (not so glottal pulses, onsets and bursts), the
    reference within 5 ms, and -80 dBFS. Single samples off by 0.1 are found in 7 of 10 cases in speech and nearly
    always where it is quiet; splices that skip 2 ms of speech in 4 of 10.
    """
    of_reference, of_estimate = sharpness(reference.audio), sharpness(estimate.audio)
    own, near, far = (round(seconds * reference.sample_rate) for seconds in (0.0005, 0.005, 0.02))
    span, middle = far - own, (far + own) // 2
    highest = maximum_filter1d(np.pad(of_estimate, far, constant_values=-80.0), span)
    sides = [highest[far + shift : far + shift + len(of_estimate)] for shift in (-middle, middle)]
    others = np.maximum.reduce([*sides, maximum_filter1d(of_reference, 2 * near + 1)])
    peaks, _ = find_peaks(of_estimate - others, height=CLICK, distance=far)
    return [Click(float(max(k - 2, 0) / reference.sample_rate), float(of_estimate[k] - others[k])) for k in peaks]


def sharpness(audio: np.ndarray) -> np.ndarray:
    """Measure the level of 3 neighbouring fourth differences: (samples,) -> (samples + 4,) dBFS, at least -80.

    Value k + 2 belongs to sample k; the signal is zero beyond its ends.
    """
    difference = np.diff(np.pad(audio.astype(float), 4), 4)
    return 10 * np.log10(np.maximum(uniform_filter1d(difference**2, 3, mode="constant"), 1e-8))
