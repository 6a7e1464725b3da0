"""Flow2GAN: audio from noise in one to four steps, by ConvNeXt blocks on STFTs of several sizes (Yao et al., ICLR 2026,
arXiv 2512.23278).

Equal to k2-fsa/Flow2GAN (Apache 2.0). Its flow matching, the first stage of its training, is not here; a generator of
few steps trains against discriminators as the others do.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.config import Channels, Config, Count, FFTSize, OddSize
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT, full_precision
from vocoders.errors import VocoderError
from vocoders.generators.base import Generator
from vocoders.inputs import NOISE
from vocoders.nn.layers import Conv1d

_NOISE_SCALE = 0.1
_EMBED_KERNEL = 3


class Flow2GANConfig(Config):
    """Sizes of Flow2GAN; the defaults are those published for 24 kHz, with four steps."""

    steps: Count = Field(4, description="Euler steps from noise to audio; 1, 2 and 4 are published")
    n_ffts: tuple[FFTSize, ...] = Field((512, 256, 128), description="of the branches, in samples; their hops are half")
    channels: tuple[Channels, ...] = Field((768, 512, 384), description="of the branches")
    blocks: Count = Field(8, description="of each branch")
    time_channels: Channels = Field(512, description="of the embedded time, even")
    condition_channels: Channels = 512
    condition_blocks: Count = 4
    expansion: Count = 3
    kernel_size: OddSize = 7

    @model_validator(mode="after")
    def _consistent(self) -> Flow2GANConfig:
        if len(self.n_ffts) != len(self.channels):
            raise ValueError(f"{len(self.n_ffts)} n_ffts need as many channels, got {len(self.channels)}")
        if self.time_channels % 2 or self.time_channels < 4:
            raise ValueError(f"time_channels must be even and at least 4, got {self.time_channels}")
        return self


class Flow2GAN(Generator):
    """Flow2GAN generator."""

    config_type = Flow2GANConfig
    configs: ClassVar[dict[str, Config]] = {f"{steps}-step": Flow2GANConfig(steps=steps) for steps in (4, 2, 1)}
    config: Flow2GANConfig
    inputs = (NOISE,)

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> Flow2GANConfig:
        hop = mel_config.hop_length
        factors = [factor for factor in (1, 2, 4) if hop % factor == 0]
        return Flow2GANConfig(
            n_ffts=tuple(2 * hop // factor for factor in factors), channels=(768, 512, 384)[: len(factors)]
        )

    def __init__(self, config: Flow2GANConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        for n_fft in config.n_ffts:
            if mel_config.hop_length % (n_fft // 2):
                raise VocoderError(
                    f"half of each of n_ffts must divide the hop_length of the mel, {mel_config.hop_length}; got "
                    f"{n_fft}"
                )
        self.encoder = ConditionEncoder(config, mel_config.n_mels)
        self.branches = nn.ModuleList(
            Branch(config, n_fft, channels, mel_config.hop_length)
            for n_fft, channels in zip(config.n_ffts, config.channels, strict=True)
        )
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.015)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def context(self) -> int:
        config, hop = self.config, self.mel_config.hop_length
        half = config.kernel_size // 2
        columns = config.steps * (config.blocks * half + 1) - half - 1  # a first block's condition is not convolved
        encoder = _EMBED_KERNEL // 2 + config.condition_blocks * half
        return encoder + math.ceil(columns * max(config.n_ffts) / 2 / hop)

    def synthesize(self, mel: Tensor, noise: Tensor) -> Tensor:
        condition = self.encoder(mel)
        audio = _NOISE_SCALE * noise.float().squeeze(1)
        for step in range(self.config.steps):
            time = step / self.config.steps
            predictions = [branch(audio, condition, time) for branch in self.branches]
            prediction = sum(predictions[1:], predictions[0]) / len(predictions)
            audio = audio + (prediction - audio) / (1 - time) / self.config.steps
        return audio.clamp(-1, 1).unsqueeze(1)


class ConditionEncoder(nn.Module):
    """Features of the mel: (batch, n_mels, frames) -> (batch, frames, channels)."""

    def __init__(self, config: Flow2GANConfig, n_mels: int) -> None:
        super().__init__()
        channels = config.condition_channels
        self.embed = Conv1d(n_mels, channels, _EMBED_KERNEL, padding=_EMBED_KERNEL // 2)
        self.norm = BiasNorm(channels)
        self.blocks = nn.ModuleList(Block(config, channels, False) for _ in range(config.condition_blocks))

    def forward(self, mel: Tensor) -> Tensor:
        x = self.norm(self.embed(mel).transpose(1, 2))
        for block in self.blocks:
            x = block(x)
        return x


class Branch(nn.Module):
    """Predict audio from noisy audio (batch, samples), by blocks on its STFT; the same shape.

    The condition (batch, frames, channels) of the mel frames is repeated for shorter hops; the last column, centred on
    the end of the audio, has none.
    """

    def __init__(self, config: Flow2GANConfig, n_fft: int, channels: int, hop_length: int) -> None:
        super().__init__()
        inner = config.condition_channels * config.expansion
        self.repeats = hop_length // (n_fft // 2)
        self.stft = STFT(n_fft, n_fft // 2, padding="center")
        self.embed = nn.Linear(n_fft + 2, channels)
        self.norm = BiasNorm(channels)
        self.time = TimeEmbedding(config.time_channels, config.expansion)
        self.condition1 = nn.Linear(config.condition_channels, inner)
        self.condition_activation = PReLU(inner)
        self.condition2 = nn.Linear(inner, config.condition_channels)
        self.blocks = nn.ModuleList(Block(config, channels, True) for _ in range(config.blocks))
        self.out = nn.Linear(channels, n_fft + 2)

    def forward(self, audio: Tensor, condition: Tensor, time: float) -> Tensor:
        with full_precision(audio):
            spectrum = self.stft(audio).transpose(1, 2)  # (batch, columns, bins)
        x = self.norm(self.embed(torch.cat([spectrum.real, spectrum.imag], -1)))
        columns = condition.unsqueeze(2).expand(-1, -1, self.repeats, -1).flatten(1, 2)
        columns = self.condition2(self.condition_activation(self.condition1(F.pad(columns, (0, 0, 0, 1)))))
        embedded = self.time(time)
        for block in self.blocks:
            x = block(x, columns, embedded)
        real, imaginary = self.out(x).float().transpose(1, 2).chunk(2, dim=1)
        return self.stft.inverse(torch.complex(real, imaginary))


class Block(nn.Module):
    """ConvNeXt block with a condition of each column and of the time: (batch, columns, channels) -> the same shape."""

    def __init__(self, config: Flow2GANConfig, channels: int, conditioned: bool) -> None:
        super().__init__()
        kernel, inner = config.kernel_size, channels * config.expansion
        self.dwconv = Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = BiasNorm(channels)
        if conditioned:
            self.condition = nn.Linear(config.condition_channels, channels)
            self.time = nn.Linear(config.time_channels, channels)
        self.pwconv1 = nn.Linear(channels, inner)
        self.activation = PReLU(inner)
        self.pwconv2 = nn.Linear(inner, channels)
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, condition: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        y = self.norm(self.dwconv(x.transpose(1, 2)).transpose(1, 2))
        if condition is not None:
            y = (y + self.condition(condition)) * (1 + self.time(time))
        return self.scale * x + self.pwconv2(self.activation(self.pwconv1(y)))


class BiasNorm(nn.Module):
    """x times a learned scale over the root mean square of x - bias, (..., channels); Yao et al. 2024, Zipformer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(0.01 * torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * (x - self.bias).square().mean(-1, keepdim=True).rsqrt() * self.log_scale.exp()


class PReLU(nn.Module):
    """PReLU with a slope of each channel, (..., channels)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((channels,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp_min(0) + self.slope * x.clamp_max(0)


class TimeEmbedding(nn.Module):
    """Features (channels,) of a time from 0 to 1, by sines of it and two linear layers."""

    frequencies: Tensor

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        exponents = torch.arange(channels // 2, device="cpu") / (channels // 2 - 1)  # also for models on "meta"
        self.register_buffer("frequencies", 1000 * 10000**-exponents, persistent=False)
        self.linear1 = nn.Linear(channels, channels * expansion)
        self.linear2 = nn.Linear(channels * expansion, channels)

    def forward(self, time: float) -> Tensor:
        angles = time * self.frequencies
        sines = torch.cat([angles.sin(), angles.cos()]).to(self.linear1.weight.dtype)
        return self.linear2(F.silu(self.linear1(sines)))
