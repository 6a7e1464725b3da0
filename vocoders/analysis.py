"""Analysis: from audio to the log-mel of a convention."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vocoders.errors import VocoderError
from vocoders.incremental import Incremental
from vocoders.inputs import plain
from vocoders.mel import MelSpec, mel_filter_bank
from vocoders.stft import STFT, full_precision

_BLOCK = 1 << 19  # samples analysed at once: this, not the length of the audio, decides what analysis takes in memory


class MelSpectrogram(nn.Module):
    """Log-mel-spectrogram of a convention: differentiable, and computed on the device where the audio lies.

    Computed in ``dtype``, also inside autocast. In float32 the Fourier transform rounds: values down to 70 dB below the
    loudest frequency of their frame are right to 1e-4, quieter ones less and less; hence files are analysed in float64.

    With ``trainable`` the transform's basis and the ``filter_bank`` become parameters; of the latter the magnitude
    counts, because a filter that went below zero would be cut off at the floor and never learn again.
    """

    filter_bank: Tensor

    def __init__(self, spec: MelSpec, dtype: torch.dtype = torch.float32, trainable: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.stft = STFT(spec.n_fft, spec.hop_length, spec.win_length, spec.padding, dtype, trainable)
        filter_bank = torch.from_numpy(mel_filter_bank(spec)).to(dtype)
        if trainable:
            self.filter_bank = nn.Parameter(filter_bank)
        else:
            self.register_buffer("filter_bank", filter_bank, persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Audio (..., samples) in [-1, 1] -> log-mel (..., n_mels, frames)."""
        return self.from_spectrum(self.stft(audio))

    def from_spectrum(self, spectrum: Tensor) -> Tensor:
        """Complex STFT of this convention (..., n_fft // 2 + 1, frames) -> log-mel (..., n_mels, frames)."""
        if self.spec.epsilon or self.spec.power == 2:
            values = spectrum.real.square() + spectrum.imag.square() + self.spec.epsilon
            values = values if self.spec.power == 2 else values.sqrt()
        else:
            values = spectrum.abs()
        with full_precision(values):
            bank = self.filter_bank.abs() if isinstance(self.filter_bank, nn.Parameter) else self.filter_bank
            return self.spec.compress(bank @ values)


def analyze(audio: Any, spec: MelSpec) -> Any:
    """Audio (..., samples) -> float32 log-mel (..., n_mels, frames) of the same kind, computed in float64.

    Args:
        audio: floats in [-1, 1], numpy or torch, at the sample rate of the convention.
    Raises: VocoderError for audio that is not floating-point, not finite or shorter than one frame.
    """
    values = audio.detach() if isinstance(audio, Tensor) else torch.from_numpy(plain(np.asarray(audio)))
    if not values.is_floating_point():
        raise VocoderError(f"audio must hold floats in [-1, 1], this holds {audio.dtype}")
    if values.dim() == 0 or values.shape[-1] < spec.hop_length:
        raise VocoderError(
            f"the audio is shorter than one frame: {values.shape[-1] if values.dim() else 1} samples at "
            f"{spec.sample_rate} Hz, a frame has {spec.hop_length}"
        )
    if not torch.isfinite(values).all():
        raise VocoderError("the audio holds NaN or infinite samples")
    network, blocks = Incremental(MelSpectrogram(spec, torch.float64)), values.cpu().split(_BLOCK, dim=-1)
    mel = torch.cat([network(block, last=block is blocks[-1]).float() for block in blocks], dim=-1)
    return mel.to(values.device) if isinstance(audio, Tensor) else mel.numpy()
