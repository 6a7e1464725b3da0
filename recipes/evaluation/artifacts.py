"""What a synthesis has and its recording has not: tones, stripes and clicks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import maximum_filter1d, median_filter, uniform_filter1d
from scipy.signal import find_peaks

from recipes.evaluation.metrics import Signal
from vocoders.dsp.stft import STFT

LINE = 12.0  # dB by which a stationary line must stand out; 74 copies by Griffin-Lim reach 8.5, by openvoices-22k 5.3
CLICK = 9.0  # dB by which a click must stand out; inside the same copies, and those by a HiFi-GAN V2, none reaches 7.4


class Line(NamedTuple):
    """A stationary spectral line: where, and by how much it stands out."""

    hz: float
    excess_db: float


class Click(NamedTuple):
    """An instant that is sharper than what surrounds it: when, and by how much."""

    seconds: float
    excess_db: float


def stationary_lines(real: Signal, fake: Signal) -> list[Line]:
    """Tones and stripes: narrow lines in the synthesis from begin to end that the recording has not.

    The level that a bin exceeds in all but 15 % of the frames is its floor. A line stands out by LINE dB in three ways:
    its floor above the median of the floors within 150 Hz; that difference above the recording's within 25 Hz, so that
    hum that was recorded is no line; its floor above the recording's there, so that ripples in what is quieter than the
    recording are none. Of steady tones in speech below 3 kHz two in three are found at -60 dBFS and nearly all at -50,
    above 3 kHz nearly all at -70 (a sine of amplitude 1 is 0 dBFS). Clips under 1 s are too short to tell: none.
    """
    if len(real.audio) < real.sample_rate:
        return []
    size = 2 ** round(np.log2(real.sample_rate / 10))  # windows of about 0.1 s
    stft = STFT(size, size // 4, padding="center")
    width = 2 * round(150 * size / real.sample_rate) + 1
    near = 2 * round(25 * size / real.sample_rate) + 1

    def floor(signal: Signal) -> np.ndarray:
        magnitude = stft(torch.from_numpy(signal.audio)).abs().numpy() * 2 / float(stft.window.sum())
        return np.percentile(20 * np.log10(np.maximum(magnitude, 1e-5)), 15, axis=1)

    levels = floor(real), floor(fake)
    prominence = [level - median_filter(level, width, mode="nearest") for level in levels]
    gains = [fake - maximum_filter1d(real, near) for real, fake in (levels, prominence)]
    excess = np.minimum.reduce([prominence[1], *gains])
    peaks = np.flatnonzero((excess > LINE) & (excess == maximum_filter1d(excess, 7)))
    return [Line(float(k * real.sample_rate / size), float(excess[k])) for k in peaks]


def clicks(real: Signal, fake: Signal) -> list[Click]:
    """Instants of the synthesis that are sharper than their surroundings and than the recording.

    Such as jumps where segments join badly, and at the ends, beyond which there is silence. Sharp is what has a high
    fourth difference: of speech that leaves no more than noise, of a jump it makes a spike. A click stands out by CLICK
    dB above the sharpest instant of the 20 ms on either side, so that pulses of a voice, onsets and bursts of noise are
    none, above the recording's within 5 ms, and above -80 dBFS. Of single samples off by 0.1, 7 in 10 are found in
    speech and nearly all where it is quiet; of splices that leave out 2 ms of speech 4 in 10.
    """
    wanted, found = sharpness(real.audio), sharpness(fake.audio)
    own, near, far = (round(seconds * real.sample_rate) for seconds in (0.0005, 0.005, 0.02))
    span, middle = far - own, (far + own) // 2
    highest = maximum_filter1d(np.pad(found, far, constant_values=-80.0), span)
    sides = [highest[far + place : far + place + len(found)] for place in (-middle, middle)]
    others = np.maximum.reduce([*sides, maximum_filter1d(wanted, 2 * near + 1)])
    peaks, _ = find_peaks(found - others, height=CLICK, distance=far)
    return [Click(float(max(k - 2, 0) / real.sample_rate), float(found[k] - others[k])) for k in peaks]


def sharpness(audio: np.ndarray) -> np.ndarray:
    """Level in dBFS, not below -80, of 3 neighbours in the fourth difference of (samples,) among zeros: (samples + 4,).

    Value k + 2 belongs to sample k.
    """
    difference = np.diff(np.pad(audio.astype(float), 4), 4)
    return 10 * np.log10(np.maximum(uniform_filter1d(difference**2, 3, mode="constant"), 1e-8))
