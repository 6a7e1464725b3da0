"""iSTFTNet: HiFi-GAN whose last upsamplings are done by an inverse STFT (Kaneko et al. 2022, arXiv 2203.02395).

C8C8I keeps two upsamplings by 8 of HiFi-GAN V1; an inverse STFT with a window of four hops does the remaining 4.
Follows rishikksh20/iSTFTNet-pytorch (Apache 2.0): magnitude exp(.), phase sin(.), one frame reflected before the last
convolution, so that frames + 1 spectra give frames hops.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from vocoders.config import Config, Count
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT, reflect_pad
from vocoders.generators.base import Generator, check_upsampling
from vocoders.generators.hifigan import HiFiGAN, HiFiGANConfig, HiFiGANTrunk, upsampling_sizes
from vocoders.nn.layers import Conv1d, Standardize

_OUTER_KERNEL = 7


class ISTFTNetConfig(HiFiGANConfig):
    """Sizes of iSTFTNet; the defaults are V1-C8C8I."""

    upsample_rates: tuple[Count, ...] = (8, 8)
    upsample_kernel_sizes: tuple[Count, ...] = (16, 16)
    istft_hop: int = Field(4, gt=0, le=4096, description="samples; the window has four times as many")


def _variant(trunk: str, kept: int) -> ISTFTNetConfig:
    """Keep the first ``kept`` upsamplings of a HiFi-GAN."""
    base = HiFiGAN.configs[trunk]
    assert isinstance(base, HiFiGANConfig)
    return ISTFTNetConfig(
        **base.model_dump(include={"channels", "resblock", "resblock_kernel_sizes", "resblock_dilations"}),
        upsample_rates=base.upsample_rates[:kept],
        upsample_kernel_sizes=base.upsample_kernel_sizes[:kept],
        istft_hop=math.prod(base.upsample_rates[kept:]),
    )


def fitting_istft_hops(mel_config: MelConfig) -> list[int]:
    """Return the inverse-STFT hops that divide the mel's hop, nearest the published one first."""
    hop = mel_config.hop_length
    return [divisor for divisor in (4, 5, 6, 3, 8, 2, 7) if hop % divisor == 0] or [hop]


class ISTFTNet(Generator):
    """iSTFTNet generator."""

    config_type = ISTFTNetConfig
    configs: ClassVar[dict[str, Config]] = {
        "v1-c8c8i": _variant("v1", 2),
        "v1-c8c8c2i": _variant("v1", 3),
        # The stage of rate 1 has a kernel of our choice: no public implementation has this variant.
        "v1-c8c1i": ISTFTNetConfig(upsample_rates=(8, 1), upsample_kernel_sizes=(16, 1), istft_hop=32),
        "v1-c8i": _variant("v1", 1),
        "v2-c8c8i": _variant("v2", 2),
        "v3-c8c8i": _variant("v3", 2),
    }
    config: ISTFTNetConfig
    uses_weight_norm = True

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> ISTFTNetConfig:
        sizes = {hop: upsampling_sizes(mel_config.hop_length // hop, 10) for hop in fitting_istft_hops(mel_config)}
        # Two stages, as published, where the hop allows it.
        hop = next((hop for hop in sizes if len(sizes[hop]["upsample_rates"]) == 2), next(iter(sizes)))
        return ISTFTNetConfig(istft_hop=hop, **sizes[hop])

    def __init__(self, config: ISTFTNetConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        check_upsampling((*config.upsample_rates, config.istft_hop), self.samples_per_frame)
        self.standardize = Standardize(mel_config.n_mels)
        self.trunk = HiFiGANTrunk(config, mel_config.n_mels)
        self.stft = STFT(4 * config.istft_hop, config.istft_hop, padding="center")
        self.conv_post = Conv1d(self.trunk.channels_out, self.stft.n_fft + 2, _OUTER_KERNEL, padding=_OUTER_KERNEL // 2)

    @property
    def context(self) -> int:
        hop = self.config.istft_hop
        # Sample n depends on the spectra whose window of 4 hops, centred on t * hop, covers it.
        first = math.ceil((0 - 2 * hop + 1) / hop)
        last = math.floor((self.mel_config.hop_length - 1 + 2 * hop) / hop)
        # Spectrum t is trunk output t - 1, after the reflected one.
        first, last = self.trunk.depends_on(*self.conv_post.depends_on(first - 1, last - 1))
        return max(-first, last)

    def synthesize(self, mel: Tensor) -> Tensor:
        x = self.conv_post(reflect_pad(self.trunk(self.standardize(mel)), 1, 0)).float()
        magnitude, angle = x.chunk(2, dim=1)
        return self.stft.inverse(torch.polar(magnitude.exp(), angle.sin())).unsqueeze(1)
