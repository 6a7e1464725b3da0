"""HiFi-GAN: transposed convolutions and multi-receptive-field fusion (Kong et al. 2020, arXiv 2010.05646).

Follows jik876/hifi-gan (MIT), including the leaky ReLU slope of 0.01 before the last convolution (0.1 elsewhere).
Initial weights are PyTorch's: weight norm overwrites the authors'.

``HiFiGANVariantConfig``: SpeechBrain (Apache 2.0) reflects in every convolution, SpeechBrain and Coqui TTS (MPL 2.0)
repeat the first and last frame, AudioLDM's upsamplings lengthen the signal. Extra samples at both ends are cut.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.config import Channels, Config, Count, OddSize
from vocoders.dsp.mel import MelConfig
from vocoders.generators.base import Generator, check_upsampling, upsampling_rates
from vocoders.nn import fast
from vocoders.nn.layers import Conv1d, ConvTranspose1d, Standardize, trim

SLOPE = 0.1
PaddingMode = Literal["zeros", "reflect"]
_OUTER_KERNEL = 7  # first and last convolution


class HiFiGANConfig(Config):
    """Sizes of HiFi-GAN; the defaults are version 1."""

    channels: Channels = Field(512, description="after the first convolution; halved by every upsampling")
    upsample_rates: tuple[Count, ...] = (8, 8, 2, 2)
    upsample_kernel_sizes: tuple[Count, ...] = (16, 16, 4, 4)
    resblock: Literal[1, 2] = 1
    resblock_kernel_sizes: tuple[OddSize, ...] = (3, 7, 11)
    resblock_dilations: tuple[tuple[Count, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))

    @model_validator(mode="after")
    def _consistent(self) -> HiFiGANConfig:
        if len(self.upsample_rates) != len(self.upsample_kernel_sizes):
            raise ValueError(
                f"{len(self.upsample_rates)} upsample_rates need as many upsample_kernel_sizes, "
                f"got {len(self.upsample_kernel_sizes)}"
            )
        for rate, kernel in zip(self.upsample_rates, self.upsample_kernel_sizes, strict=True):
            if kernel < rate:
                raise ValueError(f"an upsampling by {rate} with kernel {kernel} leaves gaps; twice the rate is usual")
            if rate == 1 and kernel % 2 == 0:
                raise ValueError(f"a stage without upsampling needs an odd kernel, got {kernel}")
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilations):
            raise ValueError(
                f"{len(self.resblock_kernel_sizes)} resblock_kernel_sizes need as many resblock_dilations, "
                f"got {len(self.resblock_dilations)}"
            )
        if self.channels % 2 ** len(self.upsample_rates):
            raise ValueError(f"{self.channels} channels cannot be halved {len(self.upsample_rates)} times")
        return self


class HiFiGANVariantConfig(HiFiGANConfig):
    """Sizes of HiFi-GAN, its treatment of the signal's ends, and the rate of its audio."""

    padding_mode: PaddingMode = Field("zeros", description="of the convolutions, not the upsamplings")
    odd_upsampling: Literal["exact", "longer"] = Field(
        "exact",
        description="where kernel and rate differ by an odd number. exact: the length is multiplied; longer: a sample "
        "more, as in the authors' code, and what they come to is cut off in equal parts at both ends",
    )
    edge_frames: int = Field(
        0, ge=0, le=64, description="how often the first and the last frame are repeated; their audio is cut off"
    )
    sample_rate: int | None = Field(None, gt=0, le=1_000_000, description="Hz of the audio; default: the mel's")

    @property
    def surplus(self) -> int:
        """Samples beyond the product of the rates."""
        samples = 0
        for rate, kernel in zip(self.upsample_rates, self.upsample_kernel_sizes, strict=True):
            samples = samples * rate + (kernel - rate) % 2 * (self.odd_upsampling == "longer")
        return samples


class ResBlock(nn.Module):
    """Dilated residual convolutions, (batch, channels, samples) -> the same; kind 1 adds plain ones.

    Attributes:
        activation_reach: samples per side that an activation depends on.
    """

    activation_reach: ClassVar[int] = 0

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        dilations: tuple[int, ...],
        kind: int,
        padding_mode: PaddingMode = "zeros",
    ) -> None:
        super().__init__()

        def conv(dilation: int) -> Conv1d:
            padding = dilation * (kernel_size // 2)
            return Conv1d(channels, channels, kernel_size, 1, padding, dilation, padding_mode=padding_mode)

        self.convs1 = nn.ModuleList(conv(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(conv(1) for _ in dilations if kind == 1)

    def forward(self, x: Tensor) -> Tensor:
        in_place = fast.in_tiles(x)
        for i, conv in enumerate(self.convs1):
            y = conv(F.leaky_relu(x, SLOPE))
            if self.convs2:
                y = self.convs2[i](F.leaky_relu(y, SLOPE, in_place))
            x = y.add_(x) if in_place else x + y
        return x

    def depends_on(self, first: int, last: int) -> tuple[int, int]:
        """Return the inputs that the outputs ``first`` to ``last`` depend on."""
        for conv in (*self.convs1, *self.convs2):
            first, last = conv.depends_on(first - self.activation_reach, last + self.activation_reach)
        return first, last


class HiFiGANTrunk(nn.Module):
    """HiFi-GAN up to its last convolution.

    (batch, n_mels, frames) -> (batch, channels_out, frames * product + ``config.surplus``). Subclasses replace blocks
    and activations, and add a source.

    Attributes:
        reach_of_blocks: samples per side that a stage's residual blocks depend on.
    """

    def __init__(self, config: HiFiGANConfig, n_mels: int) -> None:
        super().__init__()
        self.config = config
        variant = config if isinstance(config, HiFiGANVariantConfig) else HiFiGANVariantConfig()
        self.longer, self.padding_mode = variant.odd_upsampling == "longer", variant.padding_mode
        channels = config.channels
        self.conv_pre = Conv1d(
            n_mels, channels, _OUTER_KERNEL, padding=_OUTER_KERNEL // 2, padding_mode=self.padding_mode
        )
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel in zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True):
            # An odd difference of kernel and rate needs one extra sample at the right for the exact length.
            extra = 0 if self.longer else (kernel - rate) % 2
            padding = (kernel - rate + extra) // 2
            self.ups.append(ConvTranspose1d(channels, channels // 2, kernel, rate, padding, output_padding=extra))
            channels //= 2
            self.resblocks.append(
                nn.ModuleList(
                    self.block(channels, size, dilations)
                    for size, dilations in zip(config.resblock_kernel_sizes, config.resblock_dilations, strict=True)
                )
            )
        self.channels_out = channels
        first, last = depends_on(self.resblocks[0], 0, 0) if self.resblocks else (0, 0)
        self.reach_of_blocks = max(-first, last)

    def block(self, channels: int, kernel_size: int, dilations: tuple[int, ...]) -> ResBlock:
        """Build a residual block."""
        return ResBlock(channels, kernel_size, dilations, self.config.resblock, self.padding_mode)

    def forward(self, x: Tensor, source: Tensor | None = None) -> Tensor:
        """Compute features of a mel (batch, n_mels, frames)."""
        x = self.conv_pre(x)
        for stage, (up, blocks) in enumerate(zip(self.ups, self.resblocks, strict=True)):
            assert isinstance(blocks, nn.ModuleList)
            x = self.add_source(stage, up(self.activate(x)), source)
            x = fast.by_tiles(partial(mean_of, blocks), x, self.reach_of_blocks)
        return self.activate_output(x)

    def activate(self, x: Tensor) -> Tensor:
        """Apply the activation before an upsampling."""
        return F.leaky_relu(x, SLOPE)

    def add_source(self, stage: int, x: Tensor, source: Tensor | None) -> Tensor:
        """Add a source after an upsampling; none here."""
        return x

    def activate_output(self, x: Tensor) -> Tensor:
        """Apply the last activation."""
        return F.leaky_relu(x)

    def frames_around(self, samples: int, reach: int, first: int = 0) -> int:
        """Count the mel frames per side that a frame of ``samples`` depends on.

        ``reach``: trunk outputs per side that an audio sample depends on; ``first``: the output at the frame's first
        sample.
        """
        before, after = self.depends_on(first - reach, first + samples - 1 + reach)
        return max(-before, after)

    def depends_on(self, first: int, last: int) -> tuple[int, int]:
        """Return the mel frames that the outputs ``first`` to ``last`` depend on."""
        ups: list[Any] = list(self.ups)
        for up, blocks in zip(reversed(ups), reversed(self.resblocks), strict=True):
            first, last = up.depends_on(*depends_on(blocks, first, last))
        return self.conv_pre.depends_on(first, last)


def depends_on(blocks: Any, first: int, last: int) -> tuple[int, int]:
    """Return the inputs that the outputs ``first`` to ``last`` of parallel blocks depend on."""
    firsts, lasts = zip(*(block.depends_on(first, last) for block in blocks), strict=True)
    return min(firsts), max(lasts)


def mean_of(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    """Average the outputs of parallel blocks."""
    first, *others = blocks
    return sum((block(x) for block in others), first(x)) / len(blocks)


def upsampling_sizes(factor: int, largest: int) -> dict[str, Any]:
    """Return rates that multiply to ``factor``, and kernels of twice the rate against checkerboard artifacts."""
    rates = upsampling_rates(factor, largest)
    return {"upsample_rates": rates, "upsample_kernel_sizes": tuple(2 * rate for rate in rates)}


def sizes_for(mel_config: MelConfig) -> dict[str, Any]:
    """Return sizes for any hop, after version 1: two large stages, then small ones."""
    first = upsampling_rates(mel_config.hop_length, 8)[:2]
    rates = first + upsampling_rates(mel_config.hop_length // math.prod(first), 3)
    # At least 16 channels remain after halving.
    channels = max(512, 16 * 2 ** len(rates))
    return {
        "channels": channels,
        "upsample_rates": rates,
        "upsample_kernel_sizes": tuple(2 * rate for rate in rates),
    }


class HiFiGAN(Generator):
    """HiFi-GAN generator."""

    config_type = HiFiGANVariantConfig
    configs: ClassVar[dict[str, Config]] = {
        "v1": HiFiGANVariantConfig(),
        "v2": HiFiGANVariantConfig(channels=128),
        "v3": HiFiGANVariantConfig(
            channels=256,
            upsample_rates=(8, 8, 4),
            upsample_kernel_sizes=(16, 16, 8),
            resblock=2,
            resblock_kernel_sizes=(3, 5, 7),
            resblock_dilations=((1, 2), (2, 6), (3, 12)),
        ),
    }
    config: HiFiGANVariantConfig
    uses_weight_norm = True

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> HiFiGANVariantConfig:
        return HiFiGANVariantConfig(**sizes_for(mel_config))

    def __init__(self, config: HiFiGANVariantConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        check_upsampling(config.upsample_rates, self.samples_per_frame)
        self.standardize = Standardize(mel_config.n_mels)
        self.trunk = HiFiGANTrunk(config, mel_config.n_mels)
        self.conv_post = Conv1d(
            self.trunk.channels_out, 1, _OUTER_KERNEL, padding=_OUTER_KERNEL // 2, padding_mode=config.padding_mode
        )

    @property
    def sample_rate(self) -> int:
        return self.config.sample_rate or self.mel_config.sample_rate

    @property
    def context(self) -> int:
        return self.trunk.frames_around(self.samples_per_frame, _OUTER_KERNEL // 2, self.config.surplus // 2)

    def synthesize(self, mel: Tensor) -> Tensor:
        mel, edge = self.standardize(mel), self.config.edge_frames
        if edge:
            mel = F.pad(mel, (edge, edge), mode="replicate")
        audio = torch.tanh(self.conv_post(self.trunk(mel)).float())
        surplus, cut = self.config.surplus, edge * self.samples_per_frame
        if not (surplus or cut):
            return audio
        return trim(audio, cut + surplus // 2, cut + surplus - surplus // 2)
