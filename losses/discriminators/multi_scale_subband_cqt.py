"""Multi-scale sub-band constant-Q transform discriminator: Gu et al. 2023, arXiv 2311.14957, as in Amphion.

The default counts octaves down from half the sample rate, without resampling. Published: {oversampling: 2, hop_lengths:
[512, 256, 256], fmin: 32.7, n_octaves: 9, max_kernel: null, partial_kernels: true}, with the phase of nnAudio.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vocoders.config import Channels, Config, Count

from ..cqt import CQT
from .base import Discriminator, DiscriminatorOutput
from .multi_scale_stft import ComplexSpectrogramTrunk


class MultiScaleSubbandCQTConfig(Config):
    """Defaults: the published resolutions, without resampling."""

    bins_per_octave: tuple[int, ...] = Field((24, 36, 48), min_length=1)
    hop_lengths: tuple[int, ...] = Field((256, 128, 128), description="samples, after any resampling")
    n_octaves: int | None = Field(None, ge=1, description="default: as many as the rate has above C1, 32.7 Hz")
    fmin: float | None = Field(None, gt=0, description="Hz; default: n_octaves below half the sample rate")
    max_kernel: int | None = Field(
        7680, ge=2, description="longest kernel in samples; the default fits the shortest segments of the literature"
    )
    partial_kernels: bool = Field(False, description="accept segments shorter than the longest kernel")
    oversampling: Literal[1, 2] = Field(1, description="2: resample to twice the rate first, as published")
    nnaudio_phase: bool | None = Field(
        None, description="delay each octave as nnAudio's transform does; default: with oversampling 2, as published"
    )
    channels: Channels = 32
    dilations: tuple[Count, ...] = (1, 2, 4)

    @model_validator(mode="after")
    def _consistent(self) -> MultiScaleSubbandCQTConfig:
        if len(self.bins_per_octave) != len(self.hop_lengths):
            raise ValueError(
                f"bins_per_octave and hop_lengths must pair up, got {self.bins_per_octave} and {self.hop_lengths}"
            )
        return self


class SubbandCQTDiscriminator(nn.Module):
    """Sub-discriminator of a complex CQT: a convolution per octave, then a common trunk."""

    def __init__(self, cqt: CQT, channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.cqt = cqt
        planes = 2 * cqt.n_octaves
        self.conv_octaves = nn.Conv2d(planes, planes, (3, 9), padding=(1, 4), groups=cqt.n_octaves)
        self.trunk = ComplexSpectrogramTrunk(channels, dilations, slope=0.1)

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        """(batch, 1, samples) -> scores (batch, 1, frames, bands)"""
        octaves = (-1, self.cqt.bins_per_octave)
        x = torch.view_as_real(self.cqt(audio.squeeze(1)))  # (batch, bins, frames, 2)
        x = x.unflatten(1, octaves).permute(0, 1, 4, 3, 2)  # (batch, octaves, 2, frames, bins per octave)
        x = self.conv_octaves(x.flatten(1, 2)).unflatten(1, (-1, 2))
        return self.trunk(x.permute(0, 2, 3, 1, 4).flatten(3))


class MultiScaleSubbandCQTDiscriminator(Discriminator):
    """One sub-discriminator per constant-Q resolution."""

    config_type = MultiScaleSubbandCQTConfig
    too_short_hint = ", a smaller max_kernel, or partial_kernels"

    def __init__(self, config: MultiScaleSubbandCQTConfig, sample_rate: int) -> None:
        super().__init__(config, sample_rate)
        self.oversampling = config.oversampling
        cqts = []
        for bins_per_octave, hop_length in zip(config.bins_per_octave, config.hop_lengths, strict=True):
            cqt = CQT(
                sample_rate * config.oversampling,
                hop_length,
                bins_per_octave=bins_per_octave,
                fmin=config.fmin,
                n_octaves=config.n_octaves,
                max_kernel=config.max_kernel,
                partial_kernels=config.partial_kernels,
                nnaudio_phase=config.oversampling == 2 if config.nnaudio_phase is None else config.nnaudio_phase,
            )
            cqts.append(cqt)
        self.discriminators = nn.ModuleList(
            SubbandCQTDiscriminator(cqt, config.channels, config.dilations) for cqt in cqts
        )
        longest = max(cqt.min_samples for cqt in cqts)
        self._min_samples = 1 if config.partial_kernels else -(-longest // config.oversampling)

    @property
    def min_samples(self) -> int:
        return self._min_samples

    def discriminate(self, audio: Tensor) -> list[DiscriminatorOutput]:
        if self.oversampling > 1:
            from torchaudio.functional import resample

            audio = resample(audio.float(), self.sample_rate, self.sample_rate * self.oversampling)
        return [discriminator(audio) for discriminator in self.discriminators]
