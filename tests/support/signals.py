"""Test signals: float64 numpy (samples,) within [-1, 1]."""

import numpy as np


def noise(sample_rate: int, seconds: float = 0.5, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(sample_rate * seconds)).clip(-5, 5)


def sine(sample_rate: int, hz: float, dbfs: float, seconds: float = 1.0) -> np.ndarray:
    """0 dBFS is amplitude 1."""
    return 10 ** (dbfs / 20) * np.sin(2 * np.pi * hz * np.arange(round(sample_rate * seconds)) / sample_rate)


def chirp(sample_rate: int, seconds: float = 0.5) -> np.ndarray:
    """From 100 Hz to half the sample rate."""
    t = np.arange(int(sample_rate * seconds)) / sample_rate
    return 0.5 * np.sin(2 * np.pi * (100 * t + (sample_rate / 2 - 100) / (2 * seconds) * t**2))


def voice(sample_rate: int, seconds: float = 0.5, f0: float = 140.0, glide: float = 40.0) -> np.ndarray:
    """Make harmonics of a gliding F0 with two formants and a little noise."""
    t = np.arange(int(sample_rate * seconds)) / sample_rate
    phase = 2 * np.pi * (f0 * t + glide * t**2 / (2 * seconds))
    total = np.zeros_like(t)
    for k in range(1, int(sample_rate / 2 / (f0 + glide))):
        hz = k * f0
        gain = np.exp(-hz / 2500) + np.exp(-(((hz - 700) / 200) ** 2)) + 0.5 * np.exp(-(((hz - 2300) / 300) ** 2))
        total += gain * np.sin(k * phase)
    return 0.3 * total / np.abs(total).max() + 1e-3 * noise(sample_rate, seconds)


def speech(sample_rate: int, seed: int = 0) -> np.ndarray:
    """Make vowel, noise, vowel and 0.2 s of near silence, 2.4 s in all: float32."""
    hiss, quiet = 0.3 * noise(sample_rate, 0.6, seed=seed), 1e-4 * noise(sample_rate, 0.2, seed=seed)
    parts = [voice(sample_rate, 0.8), hiss, voice(sample_rate, 0.8, f0=200), quiet]
    return np.concatenate(parts).astype(np.float32)
