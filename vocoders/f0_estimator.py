"""F0: the harmonic prior drawn from it, and its estimate from a log-mel alone.

A TTS back-end receives a mel and nothing else, while generators with a harmonic prior need F0. The estimator here
reads it from the mel; it travels in the checkpoint beside the generator.
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from vocoders.config import Channels, Config, Count, OddSize
from vocoders.dsp.mel import MelConfig
from vocoders.nn.layers import ConvNeXtBlock1d


class F0EstimatorConfig(Config):
    """Size of a F0Estimator and the range of F0 it can answer."""

    channels: Channels = 96
    blocks: Count = 6
    expansion: Count = 2
    kernel_size: OddSize = 7
    bins_per_octave: int = Field(48, ge=12, le=1200)
    bins: int = Field(212, gt=0, le=12000, description="48 an octave from 55 Hz: up to 1163 Hz")
    fmin: float = Field(55.0, gt=0, le=1000, description="Hz")
    voicing_threshold: float = Field(0.5, description="logit above which a frame is voiced")


class F0Estimator(nn.Module):
    """F0 and voicing from a log-mel: classification over log-spaced pitches, as CREPE does from audio
    (Kim et al. 2018, arXiv 1802.06182), with a ConvNeXt over frames.
    """

    frequencies: Tensor

    def __init__(self, config: F0EstimatorConfig, mel_config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.mel_config = mel_config
        self.input = nn.Conv1d(mel_config.n_mels, config.channels, 5, padding=2)
        self.input_norm = nn.LayerNorm(config.channels)
        self.blocks = nn.Sequential(
            *(
                ConvNeXtBlock1d(config.channels, config.expansion, config.kernel_size, 1 / config.blocks)
                for _ in range(config.blocks)
            )
        )
        self.output_norm = nn.LayerNorm(config.channels)
        self.output = nn.Linear(config.channels, config.bins + 1)
        frequencies = config.fmin * 2.0 ** (np.arange(config.bins) / config.bins_per_octave)
        self.register_buffer("frequencies", torch.from_numpy(frequencies).float(), persistent=False)

    @property
    def receptive_field(self) -> int:
        """Frames on each side that an estimate depends on."""
        return 2 + self.config.blocks * (self.config.kernel_size // 2)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel (batch, n_mels, frames) -> F0 logits (batch, bins, frames), voicing logit (batch, 1, frames).

        In float32 at least, also inside autocast.
        """
        x = self.input(mel / 4 + 1)
        x = self.input_norm(x.transpose(1, 2)).transpose(1, 2)
        x = self.output(self.output_norm(self.blocks(x).transpose(1, 2))).transpose(1, 2)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return x[:, :-1], x[:, -1:]

    def decode(self, logits: Tensor, voicing: Tensor) -> Tensor:
        """Logits as forward gives them -> F0 (batch, 1, frames) in Hz, 0 where unvoiced.

        The expectation of log-F0 over the bins within a semitone and a half of the most likely one.
        """
        best = logits.argmax(1, keepdim=True)
        reach = self.config.bins_per_octave // 8
        index = torch.arange(self.config.bins, device=logits.device)[None, :, None]
        near = (index - best).abs() <= reach
        weight = torch.where(near, logits, torch.full_like(logits, -torch.inf)).softmax(1)
        f0 = (weight * self.frequencies.log()[None, :, None]).sum(1, keepdim=True).exp()
        return torch.where(voicing > self.config.voicing_threshold, f0, torch.zeros_like(f0))

    def estimate(self, mel: Tensor) -> Tensor:
        """Log-mel (batch, n_mels, frames) -> F0 float32 (batch, 1, frames) in Hz, 0 where unvoiced.

        Computed where the estimator lies and in its dtype, whatever those of the mel.
        """
        return self.decode(*self(mel.to(self.frequencies))).float().to(mel.device)
