"""Griffin-Lim from a log-mel, the baseline without training."""

from __future__ import annotations

import torch
from torch import Tensor

from vocoders.dsp.mel import MelConfig, mel_filter_bank
from vocoders.dsp.stft import STFT


def linear_magnitude(mel: Tensor, mel_config: MelConfig, iterations: int = 200) -> Tensor:
    """Find the magnitudes (n_fft // 2 + 1, frames) that best fit a log-mel (n_mels, frames).

    Least squares by multiplicative updates (Lee and Seung 2001, NIPS).
    """
    bank = torch.from_numpy(mel_filter_bank(mel_config)).float()
    target = mel.exp() if mel_config.log == "ln" else torch.pow(10.0, mel)
    numerator = bank.T @ target
    magnitude = numerator.clamp_min(1e-8)
    for _ in range(iterations):
        magnitude = magnitude * numerator / (bank.T @ (bank @ magnitude)).clamp_min(1e-8)
    return magnitude ** (1 / mel_config.power)


def griffin_lim(
    mel: Tensor, mel_config: MelConfig, iterations: int = 60, momentum: float = 0.99, seed: int = 0
) -> Tensor:
    """Synthesise a log-mel (n_mels, frames) by fast Griffin-Lim (Perraudin et al. 2013, WASPAA): (samples,).

    Momentum 0 is the original algorithm (Griffin and Lim 1984).
    """
    c = mel_config
    stft = STFT(c.n_fft, c.hop_length, c.win_length, c.padding, window=c.window)
    magnitude = linear_magnitude(mel, mel_config)
    random = torch.Generator().manual_seed(seed)
    phase = torch.rand(magnitude.shape, generator=random) * 2 * torch.pi
    spectrum = torch.polar(magnitude, phase)
    previous = torch.zeros_like(spectrum)
    for _ in range(iterations):
        consistent = stft(stft.inverse(spectrum))
        moved = consistent - momentum / (1 + momentum) * previous
        previous = consistent
        spectrum = magnitude * moved / moved.abs().clamp_min(1e-8)
    return stft.inverse(spectrum)
