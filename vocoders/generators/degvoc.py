"""DegVoC: a spectrogram from the pseudo-inverse of the mel, completed in uneven sub-bands (Li et al., AAAI 2026).

Follows Andong-Li-speech/DegVoC (MIT), except that with "center" padding its audio is ours from sample hop_length / 2
on. The layout is (batch, frames, bands, channels).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.config import Channels, Config, Count, FFTSize, OddSize
from vocoders.dsp.mel import MelConfig, mel_filter_bank
from vocoders.dsp.stft import STFT
from vocoders.errors import VocoderError
from vocoders.generators.base import Generator
from vocoders.nn.layers import DepthwiseConv2d

_EPS = 1e-5
_ENCODED_FRAMES = 3  # kernel of the encoders


class DegVoCConfig(Config):
    """Sizes of DegVoC; the defaults are the published ones."""

    n_fft: FFTSize = Field(1024, description="samples; four times the hop length")
    bands: tuple[tuple[Count, Count], ...] = Field(
        ((12, 12), (8, 24), (4, 44)), description="number and width of the bands of each region, from low to high"
    )
    blocks: Count = 8
    channels: Channels = 256
    attention_channels: Channels = 256
    expansion: Count = 1
    kernel_size: tuple[OddSize, OddSize] = Field((9, 11), description="(bands, frames)")


class DegVoC(Generator):
    """DegVoC generator."""

    config_type = DegVoCConfig
    configs: ClassVar[dict[str, Config]] = {"v1": DegVoCConfig()}
    config: DegVoCConfig

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> DegVoCConfig:
        bins = 4 * math.ceil(mel_config.hop_length / 2)  # without the last one
        narrow, wide = (max(1, round(width * bins / 512)) for width in (12, 24))
        return DegVoCConfig(n_fft=2 * bins, bands=((12, narrow), (8, wide), (4, bins // 4 - 3 * narrow - 2 * wide)))

    def __init__(self, config: DegVoCConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        self.check_overlap(config.n_fft)
        bins = sum(count * width for count, width in config.bands)
        if bins != config.n_fft // 2:
            raise VocoderError(f"the bands must have n_fft / 2 = {config.n_fft // 2} bins together, they have {bins}")
        bank = torch.from_numpy(mel_filter_bank(mel_config.model_copy(update=_fft_sizes(config.n_fft))))
        self.inverse_mel = nn.Parameter(torch.linalg.pinv(bank).float())
        self.encoders = nn.ModuleList(Encoder(config.channels, count, width) for count, width in config.bands)
        total = sum(count for count, _ in config.bands)
        self.blocks = nn.Sequential(*(Block(config, total) for _ in range(config.blocks)))
        self.skip = nn.Parameter(torch.full((total, config.channels), 1e-4))
        self.magnitude, self.phase = (
            nn.ModuleList(Decoder(config.channels, count, width, outputs) for count, width in config.bands)
            for outputs in (1, 2)
        )
        # Frames stand in the middle of their hop, for "center" mel configs as well, see ``Generator``.
        self.stft = STFT(config.n_fft, mel_config.hop_length)

    @property
    def context(self) -> int:
        hop, frames = self.mel_config.hop_length, self.config.kernel_size[1]
        transform = math.ceil((self.config.n_fft - hop) / 2 / hop)
        return _ENCODED_FRAMES // 2 + self.config.blocks * (frames // 2 + 1) + transform

    def synthesize(self, mel: Tensor) -> Tensor:
        linear = self.mel_config.natural_log_magnitude(mel.float()).exp()
        rough = (self.inverse_mel @ linear).abs().clamp_min(1e-5).transpose(1, 2)  # (batch, frames, bins)
        regions = rough[..., :-1].split([count * width for count, width in self.config.bands], -1)
        x = torch.cat([encode(part) for encode, part in zip(self.encoders, regions, strict=True)], 2)
        x = self.blocks(x) + self.skip * x
        magnitude, phase = self.decode(self.magnitude, x), self.decode(self.phase, x)
        magnitude = rough + magnitude.squeeze(1).exp()
        direction = phase / phase.square().sum(1, keepdim=True).sqrt().clamp_min(1e-30)
        spectrum = torch.complex(magnitude * direction[:, 0], magnitude * direction[:, 1])
        return self.stft.inverse(spectrum.transpose(1, 2)).unsqueeze(1)

    def decode(self, decoders: nn.ModuleList, x: Tensor) -> Tensor:
        """Decode all bands to (batch, outputs, frames, bins); the last bin is that before it."""
        regions = x.split([count for count, _ in self.config.bands], 2)
        out = torch.cat([decode(part) for decode, part in zip(decoders, regions, strict=True)], -1).float()
        return torch.cat([out, out[..., -1:]], -1)


class BandNorm(nn.Module):
    """Layer norm over channels with a scale and a shift of each band."""

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(bands, channels))
        self.bias = nn.Parameter(torch.zeros(bands, channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=_EPS) * self.weight + self.bias


class Encoder(nn.Module):
    """Features of a region's bands, of equal weights: (batch, frames, bins) -> (batch, frames, bands, channels)."""

    def __init__(self, channels: int, bands: int, width: int) -> None:
        super().__init__()
        padding = (_ENCODED_FRAMES // 2, 0)
        self.conv = nn.Conv2d(1, channels, (_ENCODED_FRAMES, width), (1, width), padding)
        self.norm = BandNorm(channels, bands)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.unsqueeze(1)).permute(0, 2, 3, 1))


class Decoder(nn.Module):
    """Bins of the bands of a region: (batch, frames, bands, channels) -> (batch, outputs, frames, bins)."""

    def __init__(self, channels: int, bands: int, width: int, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.norm = BandNorm(channels, bands)
        self.linear = nn.Linear(channels, 2 * channels)
        self.out = nn.Linear(2 * channels, outputs * width, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.out(F.gelu(self.linear(self.norm(x)))).unflatten(-1, (self.outputs, -1))
        return x.permute(0, 3, 1, 2, 4).flatten(-2) + self.bias


class Block(nn.Module):
    """Convolutional attention with a large kernel, and a feed-forward network with a small one; the same shape."""

    def __init__(self, config: DegVoCConfig, bands: int) -> None:
        super().__init__()
        channels, attention = config.channels, config.attention_channels
        inner = channels * config.expansion
        self.norm1, self.norm2 = BandNorm(channels, bands), BandNorm(channels, bands)
        self.query = nn.Linear(channels, attention)
        self.attention = BiasedDepthwiseConv2d(attention, config.kernel_size)
        self.value = nn.Linear(channels, attention)
        self.projection = nn.Linear(attention, channels)
        self.fc1 = nn.Linear(channels, inner)
        self.conv = BiasedDepthwiseConv2d(inner, (3, 3))
        self.fc2 = nn.Linear(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.projection(self.attention(F.gelu(self.query(self.norm1(x)))) * self.value(x))
        y = F.gelu(self.fc1(self.norm2(x)))
        return x + self.fc2(y + F.gelu(self.conv(y)))


class BiasedDepthwiseConv2d(DepthwiseConv2d):
    """Depthwise convolution over frames and bands, padded by zeros, with a bias."""

    def __init__(self, channels: int, kernel_size: tuple[int, int]) -> None:
        super().__init__(channels, kernel_size, "zeros")
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.shift


def _fft_sizes(n_fft: int) -> dict[str, int]:
    return {"n_fft": n_fft, "win_length": n_fft}
