"""The texture of noise; noise without it is heard as buzz."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from recipes.data.f0_labels import F0_PERIOD
from recipes.evaluation.metrics.signal import NAN, Signal
from recipes.evaluation.metrics.spectral import spectrogram_db


def noise_texture(reference: Signal, estimate: Signal) -> float:
    """Compute the estimate's ``noise_spread`` over the reference's in its noisy frames: 1 is right, less is buzz."""
    noisy = noisy_frames(reference.audio, reference.f0, reference.sample_rate)
    spread = noise_spread(reference.audio, reference.sample_rate, noisy) if noisy.any() else 0.0
    return noise_spread(estimate.audio, estimate.sample_rate, noisy) / spread if spread else NAN


def noise_spread(audio: np.ndarray, sample_rate: int, noisy: np.ndarray) -> float:
    """Compute the spread in dB of the log spectrum around its local mean, from 2 to 8 kHz in the STFT frames ``noisy``.

    It is about 5.6 dB for Gaussian noise, whose magnitudes are Rayleigh distributed, and less for a model that replaces
    noise by something smooth, which is heard as buzz and does not change PESQ.
    """
    decibels = spectrogram_db(torch.from_numpy(audio), hop_length=256).numpy()
    texture = decibels - uniform_filter(decibels, (15, 5))
    low, high = (int(hz / sample_rate * 1024) for hz in (2000, 8000))
    return float(np.std(texture[low:high, noisy]))


def noisy_frames(audio: np.ndarray, f0: np.ndarray, sample_rate: int) -> np.ndarray:
    """Find the STFT frames (hop 256) well inside unvoiced stretches and within 40 dB of the loudest: booleans."""
    frames = len(audio) // 256
    label = np.arange(frames) * 256 / sample_rate / F0_PERIOD
    near = np.clip(label[:, None].astype(int) + np.arange(-3, 7), 0, len(f0) - 1)
    level = 10 * np.log10((audio[: frames * 256].reshape(frames, 256).astype(float) ** 2).mean(1) + 1e-12)
    return ~(f0[near] > 0).any(1) & (level > level.max() - 40)
