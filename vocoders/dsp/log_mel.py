"""Compute the log-mel of audio as a differentiable module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vocoders.dsp.mel import MelConfig, mel_filter_bank
from vocoders.dsp.stft import STFT, float32_weights, full_precision


class LogMelSpectrogram(nn.Module):
    """Log-mel-spectrogram of a mel config: differentiable, on the device of the audio.

    Computed in ``dtype``, also inside autocast. In float32, values down to 70 dB below their frame's loudest frequency
    are right to 1e-4, quieter ones less; hence ``analyze`` uses float64.

    Args:
        mel_config: the mel config.
        dtype: floating-point type of the computation.
    """

    filter_bank: Tensor

    @float32_weights()
    def __init__(self, mel_config: MelConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.mel_config = mel_config
        c = mel_config
        self.stft = STFT(c.n_fft, c.hop_length, c.win_length, c.padding, dtype, c.window)
        filter_bank = torch.from_numpy(mel_filter_bank(mel_config)).to(dtype)
        self.register_buffer("filter_bank", filter_bank, persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Transform audio (..., samples) in [-1, 1] -> log-mel (..., n_mels, frames)."""
        return self.from_spectrum(self.stft(audio))

    def from_spectrum(self, spectrum: Tensor) -> Tensor:
        """Transform the result of ``stft``, complex (..., n_fft // 2 + 1, frames) -> log-mel (..., n_mels, frames)."""
        if self.mel_config.epsilon or self.mel_config.power == 2:
            values = spectrum.real.square() + spectrum.imag.square() + self.mel_config.epsilon
            values = values if self.mel_config.power == 2 else values.sqrt()
        else:
            values = spectrum.abs()
        with full_precision(values):
            values = (self.filter_bank @ values).clamp_min(self.mel_config.floor)
            return values.log() if self.mel_config.log == "ln" else values.log10()
