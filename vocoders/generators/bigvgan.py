"""BigVGAN: HiFi-GAN with periodic activations that do not alias (Lee et al. 2023, arXiv 2206.04658).

Equal to NVIDIA/BigVGAN (MIT), version 1 and 2. In version 2 the last convolution has no bias, and clipping replaces
tanh.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vocoders.config import Config
from vocoders.dsp.mel import MelConfig
from vocoders.generators.base import Generator, check_upsampling
from vocoders.generators.hifigan import HiFiGANConfig, HiFiGANTrunk, ResBlock, sizes_for
from vocoders.nn.alias_free import REACH, AliasFreeSnake
from vocoders.nn.layers import Conv1d

_OUTER_KERNEL = 7  # last convolution


class BigVGANConfig(HiFiGANConfig):
    """Sizes of BigVGAN; the defaults are the base model with 14 million parameters."""

    activation: Literal["snakebeta", "snake"] = Field(
        "snakebeta", description="x + sin(alpha x)^2 / beta; snake: beta = alpha"
    )
    log_scale: bool = Field(True, description="whether alpha and beta are stored as logarithms")
    output: Literal["tanh", "clamp"] = Field("tanh", description="what keeps the audio within [-1, 1]")
    output_bias: bool = Field(True, description="whether the last convolution has a bias")


_LARGE = BigVGANConfig(channels=1536, upsample_rates=(4, 4, 2, 2, 2, 2), upsample_kernel_sizes=(8, 8, 4, 4, 4, 4))
_VERSION_2 = _LARGE.model_copy(update={"output": "clamp", "output_bias": False})


class AMPBlock(ResBlock):
    """Anti-aliased multi-periodicity block."""

    activation_reach = REACH

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...], config: BigVGANConfig) -> None:
        super().__init__(channels, kernel_size, dilations, config.resblock)
        self.activations = nn.ModuleList(snake(channels, config) for _ in [*self.convs1, *self.convs2])

    def forward(self, x: Tensor) -> Tensor:
        activations = iter(self.activations)
        for i, conv in enumerate(self.convs1):
            y = conv(next(activations)(x))
            if self.convs2:
                y = self.convs2[i](next(activations)(y))
            x = x + y
        return x


class BigVGANTrunk(HiFiGANTrunk):
    """BigVGAN up to its last convolution: (batch, n_mels, frames) -> (batch, channels_out, frames * product)."""

    config: BigVGANConfig

    def __init__(self, config: BigVGANConfig, n_mels: int) -> None:
        super().__init__(config, n_mels)
        self.activation_post = snake(self.channels_out, config)

    def block(self, channels: int, kernel_size: int, dilations: tuple[int, ...]) -> ResBlock:
        return AMPBlock(channels, kernel_size, dilations, self.config)

    def activate(self, x: Tensor) -> Tensor:
        return x

    def activate_output(self, x: Tensor) -> Tensor:
        return self.activation_post(x)


def snake(channels: int, config: BigVGANConfig) -> AliasFreeSnake:
    return AliasFreeSnake(channels, config.activation == "snakebeta", config.log_scale)


class BigVGAN(Generator):
    """BigVGAN generator."""

    config_type = BigVGANConfig
    configs: ClassVar[dict[str, Config]] = {
        "base": BigVGANConfig(),
        "v1": _LARGE,
        "v2": _VERSION_2,
        "v2-512x": _VERSION_2.model_copy(
            update={"upsample_rates": (8, 4, 2, 2, 2, 2), "upsample_kernel_sizes": (16, 8, 4, 4, 4, 4)}
        ),
    }
    config: BigVGANConfig
    uses_weight_norm = True
    chunk_frames = 128  # as fast as 256, in half the memory

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> BigVGANConfig:
        return BigVGANConfig(**sizes_for(mel_config))

    def __init__(self, config: BigVGANConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        check_upsampling(config.upsample_rates, self.samples_per_frame)
        self.trunk = BigVGANTrunk(config, mel_config.n_mels)
        self.conv_post = Conv1d(
            self.trunk.channels_out, 1, _OUTER_KERNEL, padding=_OUTER_KERNEL // 2, bias=config.output_bias
        )

    @property
    def context(self) -> int:
        return self.trunk.frames_around(self.mel_config.hop_length, _OUTER_KERNEL // 2 + REACH)

    def synthesize(self, mel: Tensor) -> Tensor:
        audio = self.conv_post(self.trunk(mel)).float()
        return torch.tanh(audio) if self.config.output == "tanh" else audio.clamp(-1, 1)
