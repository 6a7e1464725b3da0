"""UnivNet: noise shaped by convolutions whose kernels are predicted from the mel (Jang et al. 2021, arXiv 2106.07889).

Each frame has its own kernels: location-variable convolution. Follows maum-ai/univnet (BSD-3-Clause).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.config import Channels, Config, Count
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.generators.base import Generator, check_upsampling, upsampling_rates
from vocoders.inputs import NOISE
from vocoders.nn.layers import Conv1d, ConvTranspose1d

_OUTER_KERNEL = 7
_KERNEL = 3  # of the blocks' convolutions, predicted ones included
_FIRST_KERNEL = 5  # of a kernel predictor
_PREDICTOR_BLOCKS = 3


class UnivNetConfig(Config):
    """Sizes of UnivNet; the defaults are those of UnivNet-c32."""

    noise_channels: Channels = Field(64, description="samples of noise for each frame; at most the hop length")
    channels: Channels = 32
    upsample_rates: tuple[Count, ...] = (8, 8, 4)
    dilations: tuple[Count, ...] = (1, 3, 9, 27)
    predictor_channels: Channels = 64
    slope: float = Field(0.2, ge=0, lt=1, description="of the leaky ReLUs")


class UnivNet(Generator):
    """UnivNet generator."""

    config_type = UnivNetConfig
    configs: ClassVar[dict[str, Config]] = {"c32": UnivNetConfig(), "c16": UnivNetConfig(channels=16)}
    config: UnivNetConfig
    inputs = (NOISE,)
    uses_weight_norm = True
    chunk_frames = 128

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> UnivNetConfig:
        hop = mel_config.hop_length
        rates = (8, 8, 4) if hop == 256 else upsampling_rates(hop, 8)
        return UnivNetConfig(upsample_rates=rates, noise_channels=min(64, hop))

    def __init__(self, config: UnivNetConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        check_upsampling(config.upsample_rates, self.samples_per_frame)
        if config.noise_channels > self.samples_per_frame:
            raise VocoderError(
                f"noise_channels must be at most the hop_length, {self.samples_per_frame}, got {config.noise_channels}"
            )
        self.conv_pre = outer_conv(config.noise_channels, config.channels)
        samples = [math.prod(config.upsample_rates[: i + 1]) for i in range(len(config.upsample_rates))]
        self.blocks = nn.ModuleList(
            Block(config, mel_config.n_mels, rate, count)
            for rate, count in zip(config.upsample_rates, samples, strict=True)
        )
        self.conv_post = outer_conv(config.channels, 1)

    @property
    def context(self) -> int:
        first, last = self.conv_post.depends_on(0, self.samples_per_frame - 1)
        reached: list[int] = []
        for block in reversed(self.blocks):
            assert isinstance(block, Block)
            first, last = first - block.reach, last + block.reach
            frames = first // block.samples, last // block.samples
            reached += [frames[0] - KernelPredictor.reach, frames[1] + KernelPredictor.reach]
            first, last = block.up.depends_on(first, last)
        reached += self.conv_pre.depends_on(first, last)
        return max(-min(reached), max(reached))

    def synthesize(self, mel: Tensor, noise: Tensor) -> Tensor:
        columns = noise.squeeze(1).unfold(-1, self.config.noise_channels, self.samples_per_frame)
        x = self.conv_pre(columns.transpose(1, 2))
        for block in self.blocks:
            x = block(x, mel)
        return torch.tanh(self.conv_post(F.leaky_relu(x, self.config.slope)).float())


class Block(nn.Module):
    """An upsampling and gated convolutions with predicted kernels: (x, mel) -> (batch, channels, time * rate).

    Attributes:
        samples: columns of the result for each frame.
        reach: columns per side that a result depends on, after the upsampling.
    """

    def __init__(self, config: UnivNetConfig, n_mels: int, rate: int, samples: int) -> None:
        super().__init__()
        channels = config.channels
        self.slope, self.samples = config.slope, samples
        self.reach = (sum(config.dilations) + len(config.dilations)) * (_KERNEL // 2)
        self.up = ConvTranspose1d(channels, channels, 2 * rate, rate, (rate + 1) // 2, output_padding=rate % 2)
        self.convs = nn.ModuleList(
            Conv1d(channels, channels, _KERNEL, dilation=dilation, padding=dilation * (_KERNEL // 2))
            for dilation in config.dilations
        )
        self.predictor = KernelPredictor(config, n_mels)

    def forward(self, x: Tensor, mel: Tensor) -> Tensor:
        x = self.up(F.leaky_relu(x, self.slope))
        for conv, kernel, bias in zip(self.convs, *self.predictor(mel), strict=True):
            y = F.leaky_relu(conv(F.leaky_relu(x, self.slope)), self.slope)
            gate, value = convolve_by_frame(y, kernel, bias, self.samples).chunk(2, dim=1)
            x = x + torch.sigmoid(gate) * torch.tanh(value)
        return x


class KernelPredictor(nn.Module):
    """Kernels for each frame: mel (batch, n_mels, frames) -> kernels and biases of each convolution.

    Kernels are (batch, frames, 2 * channels, channels * 3), biases (batch, frames, 2 * channels).
    """

    reach: ClassVar[int] = _FIRST_KERNEL // 2 + (2 * _PREDICTOR_BLOCKS + 1) * (_KERNEL // 2)

    def __init__(self, config: UnivNetConfig, n_mels: int) -> None:
        super().__init__()
        self.slope, self.channels, self.count = config.slope, config.channels, len(config.dilations)
        inner, outputs = config.predictor_channels, 2 * config.channels * self.count
        self.input_conv = Conv1d(n_mels, inner, _FIRST_KERNEL, padding=_FIRST_KERNEL // 2)
        self.convs = nn.ModuleList(
            nn.ModuleList(Conv1d(inner, inner, _KERNEL, padding=_KERNEL // 2) for _ in range(2))
            for _ in range(_PREDICTOR_BLOCKS)
        )
        self.kernel_conv = Conv1d(inner, outputs * config.channels * _KERNEL, _KERNEL, padding=_KERNEL // 2)
        self.bias_conv = Conv1d(inner, outputs, _KERNEL, padding=_KERNEL // 2)

    def forward(self, mel: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        x = F.leaky_relu(self.input_conv(mel), self.slope)
        for pair in self.convs:
            assert isinstance(pair, nn.ModuleList)
            y = x
            for conv in pair:
                y = F.leaky_relu(conv(y), self.slope)
            x = x + y
        kernels = self.kernel_conv(x).transpose(1, 2).unflatten(-1, (self.count, self.channels, -1, _KERNEL))
        biases = self.bias_conv(x).transpose(1, 2).unflatten(-1, (self.count, -1))
        kernels = kernels.transpose(3, 4).flatten(4)  # (batch, frames, count, 2 * channels, channels * 3)
        return list(kernels.unbind(2)), list(biases.unbind(2))


def convolve_by_frame(x: Tensor, kernel: Tensor, bias: Tensor, samples: int) -> Tensor:
    """Convolve x (batch, channels, frames * samples), zero-padded, with the kernel of each frame."""
    windows = F.pad(x, (_KERNEL // 2, _KERNEL // 2)).unfold(-1, samples + _KERNEL - 1, samples)
    columns = (
        windows.unfold(-1, _KERNEL, 1).permute(0, 2, 1, 4, 3).flatten(2, 3)
    )  # (batch, frames, channels * 3, samples)
    y = kernel @ columns + bias.unsqueeze(-1)
    return y.transpose(1, 2).flatten(2)


def outer_conv(in_channels: int, out_channels: int) -> Conv1d:
    return Conv1d(in_channels, out_channels, _OUTER_KERNEL, padding=_OUTER_KERNEL // 2, padding_mode="reflect")
