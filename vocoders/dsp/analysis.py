"""Analyse audio to a log-mel in float64 numpy, without torch."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from vocoders.dsp.mel import MelConfig, mel_filter_bank

_BLOCK = 1 << 19  # samples analysed at once, which bound the memory


def analyze(audio: np.ndarray, mel_config: MelConfig) -> np.ndarray:
    """Compute a log-mel in float64, block by block, in bounded memory; the same transform as ``LogMelSpectrogram``.

    Args:
        audio: float32 (..., samples) in [-1, 1], at the mel config's rate, at least one frame long.
        mel_config: the mel config of the result.

    Returns:
        float32 (..., n_mels, frames).
    """
    hop, n_fft = mel_config.hop_length, mel_config.n_fft
    padded, window, bank = _pad_ends(audio, mel_config), _window(mel_config), mel_filter_bank(mel_config)
    frames = (padded.shape[-1] - n_fft) // hop + 1
    mel = np.empty((*audio.shape[:-1], mel_config.n_mels, frames), np.float32)
    step = max(1, _BLOCK // hop)
    for first in range(0, frames, step):
        end = min(first + step, frames)
        block = padded[..., first * hop : (end - 1) * hop + n_fft].astype(np.float64)
        spectrum = np.fft.rfft(sliding_window_view(block, n_fft, axis=-1)[..., ::hop, :] * window)
        values = (_magnitude(spectrum, mel_config) @ bank.T).clip(mel_config.floor)
        mel[..., first:end] = (np.log if mel_config.log == "ln" else np.log10)(values).swapaxes(-1, -2)
    return mel


def _pad_ends(audio: np.ndarray, mel_config: MelConfig) -> np.ndarray:
    """Pad audio (..., samples) at both ends, see ``STFT``."""
    total = mel_config.n_fft - (0 if mel_config.padding == "center" else mel_config.hop_length)
    left, right = total // 2, total - total // 2
    mode = "constant" if mel_config.padding == "same-zeros" else "reflect"
    return np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(left, right)], mode)  # type: ignore[call-overload]


def _window(mel_config: MelConfig) -> np.ndarray:
    """Return the Hann window, centred in n_fft samples."""
    length, margin = mel_config.win_length, mel_config.n_fft - mel_config.win_length
    period = length - (mel_config.window == "hann-symmetric")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / period)
    return np.pad(window, (margin // 2, margin - margin // 2))


def _magnitude(spectrum: np.ndarray, mel_config: MelConfig) -> np.ndarray:
    """Return magnitudes or their squares, for the mel filters."""
    power = spectrum.real**2 + spectrum.imag**2 + mel_config.epsilon
    return power if mel_config.power == 2 else np.sqrt(power)
