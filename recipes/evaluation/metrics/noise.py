"""Measure the texture of spectra; noise without texture sounds like buzz."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from recipes.data.f0_labels import F0_PERIOD
from recipes.evaluation.metrics.signal import NAN, Signal
from recipes.evaluation.metrics.spectral import spectrogram_db


def texture(reference: Signal, estimate: Signal, voiced: bool) -> float:
    """Compute the estimate's ``spread`` over the reference's, in the reference's voiced or unvoiced frames.

    Below 1 means buzz in unvoiced frames and noise between the harmonics in voiced ones, where above 1 means buzz.
    """
    frames = inner_frames(reference.audio, reference.f0, reference.sample_rate, voiced)
    recorded = spread(reference.audio, reference.sample_rate, frames) if frames.any() else 0.0
    return spread(estimate.audio, estimate.sample_rate, frames) / recorded if recorded else NAN


def spread(audio: np.ndarray, sample_rate: int, frames: np.ndarray) -> float:
    """Compute the spread in dB of the log spectrum around its local mean, 2 to 8 kHz, in the given STFT frames.

    About 5.6 dB for Gaussian noise (Rayleigh magnitudes), more for harmonics, less where a model replaces noise by
    something smooth, which sounds like buzz and does not change PESQ.
    """
    decibels = spectrogram_db(torch.from_numpy(audio), hop_length=256).numpy()
    deviation = decibels - uniform_filter(decibels, (15, 5))
    low, high = (int(hz / sample_rate * 1024) for hz in (2000, 8000))
    return float(np.std(deviation[low:high, frames]))


def inner_frames(audio: np.ndarray, f0: np.ndarray, sample_rate: int, voiced: bool) -> np.ndarray:
    """Find STFT frames (hop 256) well inside voiced or unvoiced stretches, within 40 dB of the loudest."""
    frames = len(audio) // 256
    label = np.arange(frames) * 256 / sample_rate / F0_PERIOD
    near = np.clip(label[:, None].astype(int) + np.arange(-3, 7), 0, len(f0) - 1)
    level = 10 * np.log10((audio[: frames * 256].reshape(frames, 256).astype(float) ** 2).mean(1) + 1e-12)
    return ((f0[near] > 0) == voiced).all(1) & (level > level.max() - 40)
