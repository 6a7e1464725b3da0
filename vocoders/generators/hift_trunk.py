"""The trunk of HiFT: HiFi-GAN's with Snake activations and a source, causal or not."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from vocoders.config import Count, OddSize
from vocoders.dsp.stft import reflect_pad
from vocoders.generators.hifigan import HiFiGANConfig, HiFiGANTrunk, ResBlock
from vocoders.nn.layers import Conv1d, PaddedConv1d, Snake

_OUTER_KERNEL = 7
_LOOKAHEAD = 4  # frames


class HiFTConfig(HiFiGANConfig):
    """Sizes of HiFT; the defaults are those of CosyVoice 2."""

    upsample_rates: tuple[Count, ...] = (8, 5, 3)
    upsample_kernel_sizes: tuple[Count, ...] = (16, 11, 7)
    source_resblock_kernel_sizes: tuple[OddSize, ...] = Field((7, 7, 11), description="one for each upsampling")
    source_resblock_dilations: tuple[tuple[Count, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    istft_hop: int = Field(4, gt=0, le=4096, description="samples; the window has four times as many")
    source: Literal[1, 2, 3] = Field(
        2,
        description="1: F0 held in each frame, as in CosyVoice 1; 2: phase linear between their middles; 3: phase "
        "held, as in CosyVoice 3",
    )
    causal: bool = Field(False, description="as in CosyVoice 3: 4 frames ahead at its entry, and none in its layers")
    harmonics: Count = Field(8, description="sines above that of F0")
    sine_amplitude: float = Field(0.1, ge=0)
    noise_deviation: float = Field(0.003, ge=0, description="where voiced; elsewhere a third of sine_amplitude")
    voiced_threshold: float = Field(10.0, ge=0, description="Hz; frames of a higher F0 are voiced")
    audio_limit: float = Field(0.99, gt=0, description="largest magnitude of a sample")

    @model_validator(mode="after")
    def _a_source_for_each_upsampling(self) -> HiFTConfig:
        counts = len(self.source_resblock_kernel_sizes), len(self.source_resblock_dilations)
        if not self.upsample_rates or counts != (len(self.upsample_rates),) * 2:
            raise ValueError(
                f"{len(self.upsample_rates)} upsample_rates, at least one, need as many source_resblock_kernel_sizes "
                f"and source_resblock_dilations, got {counts[0]} and {counts[1]}"
            )
        return self

    def source_rate(self, stage: int) -> int:
        """Spectra of the source per sample."""
        return math.prod(self.upsample_rates[stage + 1 :])


class SnakeResBlock(ResBlock):
    """Dilated residual convolutions with Snake activations."""

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...], kind: int) -> None:
        super().__init__(channels, kernel_size, dilations, kind)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in self.convs1)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in self.convs2)

    def forward(self, x: Tensor) -> Tensor:
        for i, conv in enumerate(self.convs1):
            y = conv(self.activations1[i](x))
            if self.convs2:
                y = self.convs2[i](self.activations2[i](y))
            x = x + y
        return x


class HiFTTrunk(HiFiGANTrunk):
    """HiFi-GAN's trunk with Snake activations and a source, (batch, channels, frames * product + 1)."""

    config: HiFTConfig

    def __init__(self, config: HiFTConfig, n_mels: int) -> None:
        super().__init__(config, n_mels)
        self.source_downs = nn.ModuleList()
        self.source_resblocks = nn.ModuleList()
        sizes = zip(config.source_resblock_kernel_sizes, config.source_resblock_dilations, strict=True)
        for stage, (size, dilations) in enumerate(sizes):
            channels, rate = config.channels // 2 ** (stage + 1), config.source_rate(stage)
            kernel, padding = (2 * rate, rate // 2) if rate > 1 else (1, 0)
            self.source_downs.append(Conv1d(4 * config.istft_hop + 2, channels, kernel, rate, padding))
            self.source_resblocks.append(self.block(channels, size, dilations))

    def block(self, channels: int, kernel_size: int, dilations: tuple[int, ...]) -> ResBlock:
        return SnakeResBlock(channels, kernel_size, dilations, self.config.resblock)

    def add_source(self, stage: int, x: Tensor, source: Tensor | None) -> Tensor:
        """Add the spectra of the source, (batch, 4 * istft_hop + 2, frames * product + 1)."""
        assert source is not None
        if stage == len(self.ups) - 1:
            x = reflect_pad(x.transpose(1, 2), 1, 0, 1).transpose(1, 2)  # keeps the channels together
        return x + self.source_resblocks[stage](self.source_downs[stage](source))


class CausalSnakeResBlock(SnakeResBlock):
    """A left-padded ``SnakeResBlock``."""

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...], kind: int) -> None:
        super().__init__(channels, kernel_size, dilations, kind)

        def conv(dilation: int) -> PaddedConv1d:
            return PaddedConv1d(channels, channels, kernel_size, ((kernel_size - 1) * dilation, 0), dilation=dilation)

        self.convs1 = nn.ModuleList(conv(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(conv(1) for _ in self.convs2)


class CausalHiFTTrunk(HiFTTrunk):
    """The trunk of CosyVoice 3, left-padded after a first convolution with 4 frames of lookahead."""

    def __init__(self, config: HiFTConfig, n_mels: int) -> None:
        super().__init__(config, n_mels)
        self.conv_pre = PaddedConv1d(n_mels, config.channels, _LOOKAHEAD + 1, (0, _LOOKAHEAD))
        for stage, (rate, kernel) in enumerate(zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True)):
            channels, spectra = config.channels // 2**stage, config.source_rate(stage)
            self.ups[stage] = RepeatingConv1d(channels, channels // 2, kernel, rate)
            if spectra > 1:
                self.source_downs[stage] = PaddedConv1d(
                    4 * config.istft_hop + 2, channels // 2, 2 * spectra, (spectra - 1, 0), spectra
                )

    def block(self, channels: int, kernel_size: int, dilations: tuple[int, ...]) -> ResBlock:
        return CausalSnakeResBlock(channels, kernel_size, dilations, self.config.resblock)


class RepeatingConv1d(PaddedConv1d):
    """A left-padded convolution of samples repeated ``rate`` times."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, rate: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, (kernel_size - 1, 0))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, time) -> (batch, out_channels, time * rate)."""
        x = x.transpose(1, 2).unsqueeze(2).expand(-1, -1, self.rate, -1).flatten(1, 2)
        return super().forward(x.transpose(1, 2))

    def depends_on(self, first: int, last: int) -> tuple[int, int]:
        first, last = super().depends_on(first, last)
        return first // self.rate, last // self.rate
