"""Vocos: ConvNeXt blocks at frame rate whose output is the spectrogram of the audio (Siuzdak 2023, arXiv 2306.00814).

The head "wavenext" gives the samples of a hop instead: WaveNeXt (Okamoto et al., ASRU 2023).

Equal to gemelo-ai/vocos and wetdog/wavenext_pytorch (both MIT, Charactr Inc.), except that with "center" padding their
audio is ours from sample hop_length / 2 (rounded up), (frames - 1) * hop_length samples long.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vocoders.config import Channels, Config, Count, FFTSize
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT
from vocoders.generators.base import Generator
from vocoders.nn.layers import Conv1d, ConvNeXtBlock1d

_KERNEL = 7
_EPS = 1e-6
_LARGEST_MAGNITUDE = 100.0


class VocosConfig(Config):
    """Sizes of Vocos; the defaults are the published ones."""

    channels: Channels = 512
    blocks: Count = 8
    expansion: Count = 3
    n_fft: FFTSize = Field(1024, description="samples; the published models take four times the hop length")
    mean: float = Field(0.0, description="of the log-mels in training, subtracted")
    scale: float = Field(1.0, gt=0, description="by which they are divided then")
    head: Literal["istft", "wavenext"] = Field(
        "istft", description="what makes the audio: an inverse STFT, or linear layers of n_fft + 2 and hop_length"
    )


class Vocos(Generator):
    """Vocos and WaveNeXt generator."""

    config_type = VocosConfig
    configs: ClassVar[dict[str, Config]] = {"v1": VocosConfig(), "wavenext": VocosConfig(head="wavenext")}
    config: VocosConfig
    chunk_frames = 384  # measured by recipes.benchmarks.inference

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> VocosConfig:
        return VocosConfig(n_fft=4 * mel_config.hop_length)

    def __init__(self, config: VocosConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        channels = config.channels
        self.embed = Conv1d(mel_config.n_mels, channels, _KERNEL, padding=_KERNEL // 2)
        self.embed_norm = nn.LayerNorm(channels, eps=_EPS)
        self.blocks = nn.Sequential(
            *(
                ConvNeXtBlock1d(channels, config.expansion, _KERNEL, 1 / config.blocks, _EPS, Conv1d)
                for _ in range(config.blocks)
            )
        )
        self.output_norm = nn.LayerNorm(channels, eps=_EPS)
        for module in (self.embed, *self.blocks.modules()):
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        self.head: ISTFTHead | WaveNeXtHead
        if config.head == "istft":
            self.check_overlap(config.n_fft)
            self.head = ISTFTHead(channels, config.n_fft, mel_config.hop_length)
        else:
            self.head = WaveNeXtHead(channels, config.n_fft, mel_config.hop_length)

    @property
    def context(self) -> int:
        hop, n_fft = self.mel_config.hop_length, self.config.n_fft
        transform = math.ceil((n_fft - hop) / 2 / hop) if self.config.head == "istft" else 0
        return (1 + self.config.blocks) * (_KERNEL // 2) + transform

    def synthesize(self, mel: Tensor) -> Tensor:
        mel = (mel - self.config.mean) / self.config.scale
        x = self.embed_norm(self.embed(mel).transpose(1, 2)).transpose(1, 2)
        x = self.output_norm(self.blocks(x).transpose(1, 2))
        samples: Tensor = self.head(x)
        return samples.unsqueeze(1)


class ISTFTHead(nn.Module):
    """Linear layer and inverse STFT (Siuzdak 2023, section 3)."""

    def __init__(self, channels: int, n_fft: int, hop_length: int) -> None:
        super().__init__()
        self.out = nn.Linear(channels, n_fft + 2)
        # For "center" mel configs as well, see ``Generator``.
        self.stft = STFT(n_fft, hop_length, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, channels) -> float32 (batch, frames * hop_length)."""
        magnitude, angle = self.out(x).float().transpose(1, 2).chunk(2, dim=1)
        return self.stft.inverse(torch.polar(magnitude.exp().clamp_max(_LARGEST_MAGNITUDE), angle))


class WaveNeXtHead(nn.Module):
    """Two linear layers to the samples of a hop (Okamoto et al. 2023)."""

    def __init__(self, channels: int, n_fft: int, hop_length: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, n_fft + 2)
        self.linear_2 = nn.Linear(n_fft + 2, hop_length, bias=False)
        for layer in (self.linear_1, self.linear_2):
            nn.init.trunc_normal_(layer.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, channels) -> float32 (batch, frames * hop_length) in [-1, 1]."""
        samples: Tensor = self.linear_2(self.linear_1(x))
        return samples.float().flatten(1).clamp(-1, 1)
