"""MelGAN, also multi-band: transposed convolutions and dilated residual stacks (Kumar et al. 2019, arXiv 1910.06711).

With several bands the network gives sub-band signals, which a filter bank joins: multi-band MelGAN (Yang et al. 2020,
arXiv 2005.05106). Full-band MelGAN has the same network with other sizes. Follows kan-bayashi/ParallelWaveGAN (MIT).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.config import Channels, Config, Count, OddSize
from vocoders.dsp.mel import MelConfig
from vocoders.generators.base import Generator, check_upsampling, upsampling_rates
from vocoders.nn.layers import Conv1d, ConvTranspose1d, Standardize

_SLOPE = 0.2
_TAPS = 62  # of the filter bank, less one


class MelGANConfig(Config):
    """Sizes of MelGAN; the defaults are version 1."""

    channels: Channels = Field(512, description="after the first convolution; halved by every upsampling")
    upsample_rates: tuple[Count, ...] = (8, 8, 2, 2)
    kernel_size: OddSize = Field(7, description="of the first and the last convolution")
    stacks: Count = Field(3, description="residual stacks after each upsampling")
    stack_kernel_size: OddSize = Field(3, description="its powers are the dilations of the stacks")
    bands: Count = Field(1, description="sub-bands; their rate is a part of the sample rate")
    cutoff: float = Field(0.142, gt=0, lt=1, description="of the filter bank's prototype; 1 is half the sample rate")
    sample_rate: int | None = Field(None, gt=0, le=1_000_000, description="Hz of the audio; default: the mel's")

    @model_validator(mode="after")
    def _consistent(self) -> MelGANConfig:
        if self.channels % 2 ** len(self.upsample_rates):
            raise ValueError(f"{self.channels} channels cannot be halved {len(self.upsample_rates)} times")
        return self


_MULTI_BAND = MelGANConfig(channels=384, upsample_rates=(8, 4, 2), stacks=4, bands=4)


class MelGAN(Generator):
    """MelGAN generator."""

    synthesis_filters: Tensor

    config_type = MelGANConfig
    configs: ClassVar[dict[str, Config]] = {
        "v1": MelGANConfig(),
        "large": MelGANConfig(channels=1024, upsample_rates=(4, 4, 4, 2, 2), stacks=4),
        "full-band": MelGANConfig(upsample_rates=(8, 8, 4), stacks=4),
        "multi-band": _MULTI_BAND,
        "multi-band-24k": _MULTI_BAND.model_copy(update={"upsample_rates": (5, 5, 3)}),
    }
    config: MelGANConfig
    uses_weight_norm = True

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> MelGANConfig:
        if mel_config.hop_length == 300:
            return _MULTI_BAND.model_copy(update={"upsample_rates": (5, 5, 3)})
        rates = upsampling_rates(mel_config.hop_length, 8)
        return MelGANConfig() if mel_config.hop_length == 256 else MelGANConfig(upsample_rates=rates)

    def __init__(self, config: MelGANConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        check_upsampling((*config.upsample_rates, config.bands), self.samples_per_frame)
        self.standardize = Standardize(mel_config.n_mels)
        channels = config.channels
        self.conv_pre = outer_conv(mel_config.n_mels, channels, config.kernel_size)
        self.ups, self.stacks = nn.ModuleList(), nn.ModuleList()
        for rate in config.upsample_rates:
            padding, extra = (rate + 1) // 2, rate % 2
            self.ups.append(ConvTranspose1d(channels, channels // 2, 2 * rate, rate, padding, output_padding=extra))
            channels //= 2
            self.stacks.append(
                nn.Sequential(
                    *(
                        ResidualStack(channels, config.stack_kernel_size, config.stack_kernel_size**i)
                        for i in range(config.stacks)
                    )
                )
            )
        self.conv_post = outer_conv(channels, config.bands, config.kernel_size)
        filters = synthesis_filters(config.bands, config.cutoff)
        self.register_buffer("synthesis_filters", torch.from_numpy(filters).float(), persistent=False)

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate or self.mel_config.sample_rate

    @property
    def context(self) -> int:
        reach = _TAPS // 2 if self.config.bands > 1 else 0
        first, last = -(reach // self.config.bands), (self.samples_per_frame - 1 + reach) // self.config.bands
        first, last = self.conv_post.depends_on(first, last)
        for up, stacks in zip(reversed(self.ups), reversed(self.stacks), strict=True):
            assert isinstance(up, ConvTranspose1d)
            assert isinstance(stacks, nn.Sequential)
            reach = sum(stack.reach for stack in stacks if isinstance(stack, ResidualStack))
            first, last = up.depends_on(first - reach, last + reach)
        first, last = self.conv_pre.depends_on(first, last)
        return max(-first, last)

    def set_statistics(self, mel: Tensor) -> None:
        self.standardize.fit(mel)

    def synthesize(self, mel: Tensor) -> Tensor:
        x = self.conv_pre(self.standardize(mel))
        for up, stacks in zip(self.ups, self.stacks, strict=True):
            x = stacks(up(F.leaky_relu(x, _SLOPE)))
        audio = torch.tanh(self.conv_post(F.leaky_relu(x, _SLOPE)).float())
        return audio if self.config.bands == 1 else self.join(audio)

    def join(self, audio: Tensor) -> Tensor:
        """Join sub-band signals (batch, bands, samples / bands) to audio (batch, 1, samples)."""
        stuffed = F.pad((audio * self.config.bands).unsqueeze(-1), (0, self.config.bands - 1)).flatten(-2)
        return F.conv1d(stuffed, self.synthesis_filters, padding=_TAPS // 2)


class ResidualStack(nn.Module):
    """A dilated convolution beside a linear layer, (batch, channels, samples) -> the same shape.

    Attributes:
        reach: samples per side that a result depends on.
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.reach = dilation * (kernel_size // 2)
        self.conv1 = Conv1d(
            channels, channels, kernel_size, padding=self.reach, dilation=dilation, padding_mode="reflect"
        )
        self.conv2 = Conv1d(channels, channels, 1)
        self.skip = Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(F.leaky_relu(self.conv1(F.leaky_relu(x, _SLOPE)), _SLOPE)) + self.skip(x)


def outer_conv(in_channels: int, out_channels: int, kernel_size: int) -> Conv1d:
    return Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, padding_mode="reflect")


def synthesis_filters(bands: int, cutoff: float) -> np.ndarray:
    """Design the synthesis filters of a cosine-modulated filter bank, float64 (1, bands, taps).

    The prototype is a low-pass of a Kaiser window of beta 9 (Lin and Vaidyanathan 1998), modulated as a pseudo-QMF bank
    (Nguyen 1994).
    """
    n = np.arange(_TAPS + 1) - _TAPS / 2
    prototype = cutoff * np.sinc(cutoff * n) * np.kaiser(_TAPS + 1, 9.0)
    band = np.arange(bands)[:, None]
    phases = (2 * band + 1) * np.pi / (2 * bands) * n - (-1.0) ** band * np.pi / 4
    return (2 * prototype * np.cos(phases))[None]
