"""Wavehax: 2-D ConvNeXt blocks over the spectrogram of a harmonic prior (Yoneyama et al. 2024, arXiv 2411.06807).

Maps the spectrogram of a pseudo-constant-power harmonic prior to that of speech; nothing nonlinear, and so no aliasing,
at audio rate. Follows chomeyama/wavehax (MIT), in the layout (batch, frames, bins, channels).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from vocoders.config import Channels, Config, Count, FFTSize, OddSize
from vocoders.dsp.harmonics import harmonic_prior
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT, reflect_pad
from vocoders.generators.base import Generator
from vocoders.inputs import F0, NOISE, PHASE
from vocoders.nn.layers import ConvNeXtBlock2d, ConvNeXtBlocks2d, LayerNorm2d, Standardize

PROJECTION_KERNEL = 7


class WavehaxConfig(Config):
    """Sizes of Wavehax; the defaults are version 1."""

    n_fft: FFTSize = Field(480, description="samples; the published models take twice the hop length")
    channels: Channels = 32
    blocks: Count = 8
    expansion: Count = 2
    kernel_size: tuple[OddSize, OddSize] = Field((7, 7), description="(bins, frames)")
    framewise_norm: bool = Field(False, description="normalise each frame on its own: bounded context, streaming")


class WavehaxBase(Generator):
    """Base of Wavehax and complex Wavehax."""

    config_type: ClassVar[type[WavehaxConfig]]
    config: WavehaxConfig
    inputs = (F0, NOISE, PHASE)

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> WavehaxConfig:
        computed = cls.config_type(n_fft=2 * mel_config.hop_length)
        published = (config for config in cls.configs.values() if isinstance(config, WavehaxConfig))
        return next((config for config in published if config.n_fft == computed.n_fft), computed)

    def __init__(self, config: WavehaxConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        self.check_overlap(config.n_fft)
        self.standardize = Standardize(mel_config.n_mels)
        self.stft = STFT(config.n_fft, mel_config.hop_length, padding="same-zeros")

    @property
    def context(self) -> int | None:
        if not self.config.framewise_norm:
            return None
        hop = self.mel_config.hop_length
        transform = math.ceil((self.config.n_fft - hop) / 2 / hop)  # in and out
        return 2 * transform + PROJECTION_KERNEL // 2 + self.config.blocks * (self.config.kernel_size[1] // 2)

    def set_statistics(self, mel: Tensor) -> None:
        self.standardize.fit(mel)

    def synthesize(self, mel: Tensor, f0: Tensor, noise: Tensor, phase: Tensor | None) -> Tensor:
        with torch.no_grad():
            prior = self.stft(wavehax_prior(f0, noise, phase, self.mel_config).squeeze(1))
        x = self.shape(prior.real, prior.imag, self.standardize(mel)).float()
        return self.stft.inverse(torch.view_as_complex(x.contiguous()).transpose(1, 2)).unsqueeze(1)

    @abstractmethod
    def shape(self, real: Tensor, imaginary: Tensor, mel: Tensor) -> Tensor:
        """Turn the spectrogram of the prior into that of speech.

        Args:
            real: real part of the prior, (batch, bins, frames).
            imaginary: its imaginary part.
            mel: standardised, (batch, n_mels, frames).

        Returns:
            (batch, frames, bins, 2), real and imaginary part.
        """


class Wavehax(WavehaxBase):
    """Wavehax generator; without ``framewise_norm`` every sample depends on the whole utterance, as published."""

    config_type = WavehaxConfig
    configs: ClassVar[dict[str, Config]] = {  # v1, v2: hop 240 at 24 kHz; fullband: hop 480 at 48 kHz
        "v1": WavehaxConfig(),
        "v2": WavehaxConfig(channels=16, expansion=3, kernel_size=(13, 7)),
        "fullband": WavehaxConfig(n_fft=960, kernel_size=(15, 7)),
    }

    def __init__(self, config: WavehaxConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        bins = config.n_fft // 2 + 1
        self.prior_proj = nn.Conv1d(bins, bins, PROJECTION_KERNEL)
        self.cond_proj = nn.Conv1d(mel_config.n_mels, bins, PROJECTION_KERNEL)
        self.input_proj = nn.Linear(5, config.channels, bias=False)
        self.input_norm = LayerNorm2d(config.channels, config.framewise_norm)
        self.blocks = ConvNeXtBlocks2d(
            *(
                ConvNeXtBlock2d(
                    config.channels,
                    config.expansion,
                    config.kernel_size,
                    1 / config.blocks,
                    framewise=config.framewise_norm,
                )
                for _ in range(config.blocks)
            )
        )
        self.output_norm = LayerNorm2d(config.channels, config.framewise_norm)
        self.output_proj = nn.Linear(config.channels, 2)
        self.apply(initialize)

    def shape(self, real: Tensor, imaginary: Tensor, mel: Tensor) -> Tensor:
        reach = PROJECTION_KERNEL // 2
        maps = [
            real,
            imaginary,
            self.prior_proj(reflect_pad(real, reach, reach)),
            self.prior_proj(reflect_pad(imaginary, reach, reach)),
            self.cond_proj(reflect_pad(mel, reach, reach)),
        ]
        x = torch.stack([m.transpose(1, 2) for m in maps], dim=-1)  # (batch, frames, bins, 5)
        x = self.blocks(self.input_norm(self.input_proj(x)))
        spectrum: Tensor = self.output_proj(self.output_norm(x))
        return spectrum


def wavehax_prior(f0: Tensor, noise: Tensor, phase: Tensor | None, mel_config: MelConfig) -> Tensor:
    """Harmonics at a tenth of unit power over noise at -40 dB, (batch, 1, samples)."""
    return 0.1 * harmonic_prior(f0, mel_config, phase) + 0.01 * noise


def initialize(module: nn.Module) -> None:
    """Draw the published initial weights."""
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
