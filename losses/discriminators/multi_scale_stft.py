"""Multi-scale STFT discriminator: Defossez et al. 2022, "EnCodec", arXiv 2210.13438, section 3.4."""

from __future__ import annotations

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from vocoders.config import Channels, Config, Count, FFTSize
from vocoders.dsp.stft import full_precision

from .base import Discriminator, DiscriminatorOutput


class MultiScaleSTFTConfig(Config):
    """Defaults: those of EnCodec. Amphion takes the hop_lengths 256, 512 and 256."""

    n_ffts: tuple[FFTSize, ...] = Field((1024, 2048, 512), min_length=1)
    hop_lengths: tuple[int, ...] = (256, 512, 128)
    channels: Channels = 32
    dilations: tuple[Count, ...] = (1, 2, 4)

    @model_validator(mode="after")
    def _consistent(self) -> MultiScaleSTFTConfig:
        if len(self.n_ffts) != len(self.hop_lengths) or min(self.hop_lengths) < 1:
            raise ValueError(
                f"n_ffts and hop_lengths must pair up and be positive, got {self.n_ffts} and {self.hop_lengths}"
            )
        return self


class ComplexSpectrogramTrunk(nn.Module):
    """Convolutions over a complex spectrogram; each dilated layer halves frequency."""

    def __init__(self, channels: int, dilations: tuple[int, ...], slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.convs = nn.ModuleList([nn.Conv2d(2, channels, (3, 9), padding=(1, 4))])
        for dilation in dilations:
            conv = nn.Conv2d(channels, channels, (3, 9), (1, 2), padding=(dilation, 4), dilation=(dilation, 1))
            self.convs.append(weight_norm(conv))
        self.convs.append(weight_norm(nn.Conv2d(channels, channels, 3, padding=1)))
        self.conv_post = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, x: Tensor) -> DiscriminatorOutput:
        """(batch, 2, frames, bins) -> scores (batch, 1, frames, bands)"""
        feature_maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), self.slope)
            feature_maps.append(x)
        return DiscriminatorOutput(self.conv_post(x), feature_maps)


class STFTDiscriminator(nn.Module):
    """Sub-discriminator of an unpadded complex STFT with unit gain for white noise."""

    window: Tensor

    def __init__(self, n_fft: int, hop_length: int, channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        window = torch.hann_window(n_fft)
        self.register_buffer("window", window / window.square().sum().sqrt(), persistent=False)
        self.trunk = ComplexSpectrogramTrunk(channels, dilations, slope=0.2)

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        """(batch, 1, samples) -> scores (batch, 1, frames, bands)"""
        with full_precision(audio):
            frames = audio.squeeze(1).float().unfold(-1, self.n_fft, self.hop_length)
            spectrum = torch.fft.rfft(frames * self.window)
            x = torch.stack([spectrum.real, spectrum.imag], dim=1)
        return self.trunk(x)


class MultiScaleSTFTDiscriminator(Discriminator):
    """One sub-discriminator per complex STFT."""

    config_type = MultiScaleSTFTConfig
    too_short_hint = " or smaller n_ffts"

    def __init__(self, config: MultiScaleSTFTConfig, sample_rate: int) -> None:
        super().__init__(config, sample_rate)
        self._min_samples = max(config.n_ffts)
        self.discriminators = nn.ModuleList(
            STFTDiscriminator(n_fft, hop, config.channels, config.dilations)
            for n_fft, hop in zip(config.n_ffts, config.hop_lengths, strict=True)
        )

    @property
    def min_samples(self) -> int:
        return self._min_samples

    def discriminate(self, audio: Tensor) -> list[DiscriminatorOutput]:
        return [discriminator(audio) for discriminator in self.discriminators]
