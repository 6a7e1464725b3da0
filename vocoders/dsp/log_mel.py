"""Analysis: from audio to the log-mel of a mel config."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vocoders.dsp.mel import MelConfig, mel_filter_bank
from vocoders.dsp.stft import STFT, full_precision

_BLOCK = 1 << 19  # samples analysed at once; they, not the length of the audio, set the memory that analysis needs


class LogMelSpectrogram(nn.Module):
    """Log-mel-spectrogram of a mel config: differentiable, and computed on the device of the audio.

    Computed in ``dtype``, also inside autocast. In float32 the Fourier transform rounds: values down to 70 dB below the
    loudest frequency of their frame are right to 1e-4, quieter ones less and less; hence files are analysed in float64.

    Args:
        mel_config: the mel config.
        dtype: floating-point type of the computation.
    """

    filter_bank: Tensor

    def __init__(self, mel_config: MelConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.mel_config = mel_config
        self.stft = STFT(mel_config.n_fft, mel_config.hop_length, mel_config.win_length, mel_config.padding, dtype)
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


def analyze(audio: np.ndarray, mel_config: MelConfig) -> np.ndarray:
    """Compute a log-mel in float64, block by block: beside audio and result, memory does not grow with the length.

    Args:
        audio: float32 (..., samples) in [-1, 1], at the sample rate of the mel config, at least one frame long.
        mel_config: the mel config of the result.

    Returns:
        float32 (..., n_mels, frames).
    """
    return _analyze_in_blocks(torch.from_numpy(audio), LogMelSpectrogram(mel_config, torch.float64)).numpy()


def _analyze_in_blocks(audio: Tensor, transform: LogMelSpectrogram) -> Tensor:
    """Transform audio (..., samples) -> float32 log-mel (..., n_mels, frames), one block at a time in float64."""
    stft, (left, right) = transform.stft, transform.stft.pad
    # Only the ends are padded as a whole: the mirror of an hour of audio would take twice its memory.
    begin = stft.pad_ends(audio[..., : left + 1])[..., :left]
    end = stft.pad_ends(audio[..., -right - 1 :])[..., left + audio[..., -right - 1 :].shape[-1] :]
    padded = torch.cat([begin, audio, end], dim=-1)
    frames = (padded.shape[-1] - stft.n_fft) // stft.hop_length + 1
    step = max(1, _BLOCK // stft.hop_length)
    pieces = []
    for first in range(0, frames, step):
        last = min(first + step, frames) - 1
        block = padded[..., first * stft.hop_length : last * stft.hop_length + stft.n_fft].double()
        pieces.append(transform.from_spectrum(stft.of_padded(block)).float())
    return torch.cat(pieces, dim=-1)
