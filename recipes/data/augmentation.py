"""Degrade training segments as speech synthesis, microphones and separated mixes do.

F0 labels stay clean. Each function takes the segment's random generator, so a segment depends on seed and number only.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from recipes.data.config import Augmentation
from vocoders.dsp.harmonics import harmonic_prior
from vocoders.dsp.mel import MelConfig


def chance(share: float, draw: np.random.Generator) -> bool:
    """Return True for ``share`` of the draws; a share of 0 draws no random number."""
    return share > 0 and draw.random() < share


def degrade(audio: Tensor, shares: Augmentation, sample_rate: int, draw: np.random.Generator) -> Tensor:
    """Add reverberation and noise to some segments: (1, samples) -> float32 (1, samples); without any, as it is."""
    if not (shares.reverb or shares.noise):
        return audio
    values = audio[0].double().numpy()
    if chance(shares.reverb, draw):
        values = reverberate(values, sample_rate, draw.uniform(*shares.reverb_seconds), -draw.uniform(0, 20), draw)
    if chance(shares.noise, draw):
        noise = shape(draw.standard_normal(len(values)), draw.uniform(-2, 0), sample_rate)
        values = values + at_level(noise, level(values) - draw.uniform(*shares.noise_snr_db))
    return torch.from_numpy(values).float()[None]


def add_voice(audio: Tensor, other: Tensor, db: float) -> Tensor:
    """Add another voice, ``db`` above the level of ``audio``; both (1, samples)."""
    values = at_level(other.double().numpy(), level(audio.double().numpy()) + db)
    return audio + torch.from_numpy(values).float()


def level(audio: np.ndarray) -> float:
    """Return the level in dBFS, at least -100."""
    return float(10 * np.log10(max(np.mean(audio**2), 1e-10)))


def at_level(audio: np.ndarray, db: float) -> np.ndarray:
    """Scale ``audio`` to a level in dB; silence stays silence."""
    return audio * 10 ** ((db - level(audio)) / 20)


def reverberate(
    audio: np.ndarray, sample_rate: int, seconds: float, db: float, draw: np.random.Generator
) -> np.ndarray:
    """Add reverberation to (samples,): noise decaying by 60 dB in ``seconds``, ``db`` above the audio."""
    time = np.arange(1, int(seconds * sample_rate) + 1) / sample_rate
    tail = draw.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    tail[: int(draw.uniform(0, 0.02) * sample_rate)] = 0
    from scipy.signal import fftconvolve  # slow to import

    return audio + at_level(fftconvolve(audio, tail)[: len(audio)], level(audio) + db)


def shape(
    audio: np.ndarray, slope: float, sample_rate: int, resonances: Iterable[tuple[float, float, float]] = ()
) -> np.ndarray:
    """Filter (samples,) without delay by a spectral slope and resonances.

    ``slope`` is the exponent of amplitude over frequency above 100 Hz (-1: 6 dB per octave); ``resonances`` hold
    frequency and width in Hz and gain in dB.
    """
    frequency = np.fft.rfftfreq(len(audio), 1 / sample_rate)
    db = 20 * slope * np.log10(np.maximum(frequency, 100) / 100)
    for center, width, gain in resonances:
        db = db + gain / (1 + ((frequency - center) / width) ** 2)
    return np.fft.irfft(np.fft.rfft(audio) * 10 ** (db / 20), len(audio))


def disperse(audio: np.ndarray, radians: float, sample_rate: int, draw: np.random.Generator) -> np.ndarray:
    """Rotate the phases of (samples,) at random, by up to ``radians`` every 50 Hz; magnitudes stay."""
    knots = np.arange(0, sample_rate / 2 + 50, 50)
    angles = np.interp(np.fft.rfftfreq(len(audio), 1 / sample_rate), knots, draw.uniform(-radians, radians, len(knots)))
    return np.fft.irfft(np.fft.rfft(audio) * np.exp(1j * angles), len(audio))


def tone(
    frames: int, mel_config: MelConfig, hz: tuple[float, float], draw: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Synthesise a sung or played tone, its pitch drawn from ``hz`` evenly in octaves.

    Harmonics with vibrato, glide, random resonances and slope, over noise. Returns audio (frames * hop_length,) and F0
    (frames,) in Hz, 0 in pauses.
    """
    rate, hop = mel_config.sample_rate, mel_config.hop_length
    time = np.arange(frames) * hop / rate
    vibrato = draw.uniform(0, 0.5) * np.sin(2 * np.pi * (draw.uniform(4, 7) * time + draw.random()))
    glide = np.interp(time, time[-1] * np.linspace(0, 1, 4), draw.normal(0, 1.5, 4))
    f0 = np.exp(draw.uniform(*np.log(hz)) + np.log(2) / 12 * (vibrato + glide)).clip(*hz)
    pause = int(draw.integers(0, 2 * frames))  # half of the tones pause, possibly at an end
    f0[pause : pause + int(draw.integers(5, 40))] = 0
    harmonics = harmonic_prior(torch.from_numpy(f0)[None, None], mel_config)[0, 0].numpy().astype(float)
    resonances = [(draw.uniform(200, 4000), draw.uniform(80, 400), draw.uniform(0, 25)) for _ in range(4)]
    harmonics = disperse(harmonics, draw.uniform(0, np.pi), rate, draw)
    audio = shape(harmonics, draw.uniform(-2.5, -0.3), rate, resonances)
    loudness = np.interp(np.arange(len(audio)), np.linspace(0, len(audio), 6), draw.uniform(-12, 0, 6))
    audio = at_level(audio * 10 ** (loudness / 20), -20)
    noise = shape(draw.standard_normal(len(audio)), draw.uniform(-1, 0), rate, resonances)
    return audio + at_level(noise, draw.uniform(-70, -40)), f0
