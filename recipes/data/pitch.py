"""Transpose a recording's mel: move its harmonics and keep its formants."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from recipes.data.config import Augmentation
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.stft import STFT, full_precision

_UNVOICED = 300.0  # Hz, smoothing width without F0


def transpose_share(
    mel: Tensor, audio: Tensor, f0: Tensor, shares: Augmentation, uniform: Tensor, log_mel: LogMelSpectrogram
) -> Tensor:
    """Transpose about half of the mels (batch, n_mels, frames) by one interval of the recipe's range.

    ``audio`` is (batch, frames * hop_length), ``f0`` (batch, 1, frames) in Hz, 0 = unvoiced, ``uniform`` (batch, 3)
    random numbers in [0, 1).
    """
    low, high = shares.semitones
    ratio = 2.0 ** ((low + (high - low) * float(uniform[0, 0])) / 12)
    chosen = uniform[:, 1] < 0.5
    return torch.where(chosen[:, None, None], transpose_mel(audio, f0, ratio, log_mel), mel)


def transpose_mel(audio: Tensor, f0: Tensor, ratio: float, log_mel: LogMelSpectrogram) -> Tensor:
    """Return the log-mel (batch, n_mels, frames) of audio (batch, samples) at ``ratio`` times its pitch, formants and
    tempo kept.

    A window ``ratio`` times as long shows the recording played faster, with harmonics and formants moved. The ratio of
    both spectra, smoothed over one harmonic distance, moves the formants back. ``f0`` is (batch, 1, frames) in Hz, 0 =
    unvoiced.
    """
    c = log_mel.mel_config
    size, bins = 2 * round(c.n_fft * ratio / 2), c.n_fft // 2 + 1
    with full_precision(audio):
        faster = STFT(size, c.hop_length, 2 * round(c.win_length * ratio / 2), "same").to(audio.device)
        power = log_mel.stft(audio).abs().square()
        moved = (faster(audio)[:, :bins].abs() / ratio).square()
        known = moved.shape[1]
        moved = torch.cat([moved, power[:, known:]], 1)  # slower audio lacks highs
        width = torch.where(f0 > 0, f0, _UNVOICED) * (c.n_fft / c.sample_rate)
        gain = smooth(power, width) / smooth(moved, width * ratio).clamp_min(1e-12)
        gain[:, known:] = 1.0
        return log_mel.from_spectrum(torch.complex((moved * gain).sqrt(), torch.zeros_like(moved)))


def smooth(power: Tensor, width: Tensor) -> Tensor:
    """Smooth a power spectrum (batch, bins, frames) twice by a mean over ``width`` bins, (batch, 1, frames)."""
    bins = power.shape[1]
    centres = torch.arange(bins, device=power.device)[None, :, None] + 0.5
    low, high = ((centres + sign * width / 2).clamp(0, bins) for sign in (-1, 1))
    for _ in range(2):
        total = F.pad(power.double().cumsum(1), (0, 0, 1, 0))
        power = ((interpolate(total, high) - interpolate(total, low)) / (high - low)).float()
    return power


def interpolate(values: Tensor, position: Tensor) -> Tensor:
    """Interpolate values (batch, bins, frames) linearly at positions of the same layout, in bins."""
    left = position.floor().long().clamp_max(values.shape[1] - 2)
    fraction = position - left
    return values.gather(1, left) * (1 - fraction) + values.gather(1, left + 1) * fraction
