"""StyleMelGAN: noise shaped by the mel in temporal adaptive normalisation (Mustafa et al. 2021, arXiv 2011.01557).

Follows kan-bayashi/ParallelWaveGAN (MIT). The norms run over the whole utterance, so it cannot stream.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.config import Channels, Config, Count, OddSize
from vocoders.dsp.mel import MelConfig
from vocoders.generators.base import Generator, check_upsampling, upsampling_rates
from vocoders.inputs import NOISE
from vocoders.nn.layers import Conv1d, ConvTranspose1d, Standardize

_SLOPE = 0.2


class StyleMelGANConfig(Config):
    """Sizes of StyleMelGAN; the defaults are version 1 at 22.05 kHz."""

    noise_channels: Channels = 128
    channels: Channels = 64
    kernel_size: OddSize = 9
    dilation: Count = Field(2, description="of the second gated convolution of a block")
    noise_upsample_rates: tuple[Count, ...] = Field(
        (11, 2, 2, 2), description="a column of noise is for so many frames"
    )
    upsample_rates: tuple[Count, ...] = (2, 2, 2, 2, 2, 2, 2, 2, 1)
    gate: Literal["softmax", "sigmoid"] = "softmax"
    sample_rate: int | None = Field(None, gt=0, le=1_000_000, description="Hz of the audio; default: the mel's")


class StyleMelGAN(Generator):
    """StyleMelGAN generator."""

    config_type = StyleMelGANConfig
    configs: ClassVar[dict[str, Config]] = {
        "v1": StyleMelGANConfig(),
        "v1-24k": StyleMelGANConfig(noise_upsample_rates=(10, 2, 2, 2), upsample_rates=(5, 1, 5, 1, 3, 1, 2, 2, 1)),
    }
    config: StyleMelGANConfig
    inputs = (NOISE,)
    uses_weight_norm = True

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> StyleMelGANConfig:
        published = (config for config in cls.configs.values() if isinstance(config, StyleMelGANConfig))
        fitting = (config for config in published if math.prod(config.upsample_rates) == mel_config.hop_length)
        computed = StyleMelGANConfig(upsample_rates=(*upsampling_rates(mel_config.hop_length, 5), 1))
        return next(fitting, computed)

    def __init__(self, config: StyleMelGANConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        check_upsampling(config.upsample_rates, self.samples_per_frame)
        self.standardize = Standardize(mel_config.n_mels)
        before = [config.noise_channels, *[config.channels] * (len(config.noise_upsample_rates) - 1)]
        self.noise_ups = nn.ModuleList(
            ConvTranspose1d(channels, config.channels, 2 * rate, rate, (rate + 1) // 2, output_padding=rate % 2)
            for channels, rate in zip(before, config.noise_upsample_rates, strict=True)
        )
        conditions = [mel_config.n_mels, *[config.channels] * (len(config.upsample_rates) - 1)]
        self.blocks = nn.ModuleList(
            Block(config, channels, rate) for channels, rate in zip(conditions, config.upsample_rates, strict=True)
        )
        self.output_conv = same_conv(config.channels, 1, config.kernel_size)

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate or self.mel_config.sample_rate

    @property
    def context(self) -> None:
        return None

    def set_statistics(self, mel: Tensor) -> None:
        self.standardize.fit(mel)

    def synthesize(self, mel: Tensor, noise: Tensor) -> Tensor:
        samples = noise.shape[-1]
        x = self.noise_columns(noise)
        for up in self.noise_ups:
            x = F.leaky_relu(up(x), _SLOPE)
        # As many frames as the noise is for; the last one is repeated.
        frame = torch.arange(x.shape[-1], device=mel.device).clamp_max(mel.shape[-1] - 1)
        condition = self.standardize(mel).index_select(-1, frame)
        for block in self.blocks:
            x, condition = block(x, condition)
        return torch.tanh(self.output_conv(x).float())[..., :samples]

    def noise_columns(self, noise: Tensor) -> Tensor:
        """Take ``noise_channels`` samples of noise (batch, 1, samples) for each column: (batch, channels, columns)."""
        size, step = self.config.noise_channels, math.prod(self.config.noise_upsample_rates) * self.samples_per_frame
        return F.pad(noise, (0, size - 1)).squeeze(1).unfold(-1, size, step).transpose(1, 2)


class Block(nn.Module):
    """Two normalisations that the condition scales and shifts, each before a gated convolution; the second upsamples.

    (x, condition), both (batch, channels, time) -> the same, time * rate.
    """

    def __init__(self, config: StyleMelGANConfig, condition_channels: int, rate: int) -> None:
        super().__init__()
        channels, kernel = config.channels, config.kernel_size
        self.rate, self.gate = rate, config.gate
        self.norm1 = AdaptiveNorm(channels, condition_channels, kernel)
        self.conv1 = same_conv(channels, 2 * channels, kernel)
        self.norm2 = AdaptiveNorm(channels, channels, kernel, rate)
        self.conv2 = same_conv(channels, 2 * channels, kernel, config.dilation)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        y, condition = self.norm1(x, condition)
        y, condition = self.norm2(self.gated(self.conv1(y)), condition)
        return repeat(x, self.rate) + self.gated(self.conv2(y)), condition

    def gated(self, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, dim=1)
        return (gate.softmax(1) if self.gate == "softmax" else gate.sigmoid()) * torch.tanh(value)


class AdaptiveNorm(nn.Module):
    """Instance norm, scaled and shifted by the upsampled condition, which it returns as well."""

    def __init__(self, channels: int, condition_channels: int, kernel_size: int, rate: int = 1) -> None:
        super().__init__()
        self.rate = rate
        self.condition = same_conv(condition_channels, channels, kernel_size)
        self.affine = same_conv(channels, 2 * channels, kernel_size)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        condition = self.condition(repeat(condition, self.rate))
        scale, shift = self.affine(condition).chunk(2, dim=1)
        return scale * repeat(F.layer_norm(x, x.shape[-1:]), self.rate) + shift, condition


def same_conv(in_channels: int, out_channels: int, kernel_size: int, dilation: int = 1) -> Conv1d:
    return Conv1d(in_channels, out_channels, kernel_size, padding=dilation * (kernel_size // 2), dilation=dilation)


def repeat(x: Tensor, rate: int) -> Tensor:
    """Repeat each column of (batch, channels, time) ``rate`` times."""
    return x.unsqueeze(-1).expand(-1, -1, -1, rate).flatten(-2) if rate > 1 else x
