"""Multi-resolution discriminator: Jang et al. 2021, "UnivNet", arXiv 2106.07889, in the form Wavehax trains against."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from vocoders.config import Channels, Config, FFTSize
from vocoders.dsp.stft import STFT

from .base import Discriminator, DiscriminatorOutput

# Kernel and stride of each layer (frequency, time).
_LAYERS = (
    ((7, 5), (2, 2)),
    ((5, 3), (2, 1)),
    ((5, 3), (2, 2)),
    ((3, 3), (2, 1)),
    ((3, 3), (2, 2)),
    ((3, 3), (1, 1)),
)


class MultiResolutionConfig(Config):
    """Defaults: Wavehax' at 24 kHz; at 48 kHz it takes n_ffts 1024, 2048 and 4096."""

    n_ffts: tuple[FFTSize, ...] = Field((1024, 2048, 512), min_length=1)
    overlap: int = Field(4, ge=1, le=64, description="hop_length = n_fft / overlap")
    channels: Channels = 32


class SpectrogramDiscriminator(nn.Module):
    """Sub-discriminator of an STFT magnitude."""

    def __init__(self, n_fft: int, hop_length: int, channels: int) -> None:
        super().__init__()
        self.stft = STFT(n_fft, hop_length, padding="center")
        self.conv_pre = weight_norm(nn.Conv2d(1, channels, 1))
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(channels, channels, kernel, stride, padding=(kernel[0] // 2, kernel[1] // 2)))
            for kernel, stride in _LAYERS
        )
        self.conv_post = weight_norm(nn.Conv2d(channels, 1, 1))

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        """(batch, 1, samples) -> scores (batch, 1, bands, patches)"""
        x = F.leaky_relu(self.conv_pre(self.stft(audio).abs()), 0.1)
        feature_maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            feature_maps.append(x)
        return DiscriminatorOutput(self.conv_post(x), feature_maps)


class MultiResolutionDiscriminator(Discriminator):
    """One sub-discriminator per STFT resolution."""

    config_type = MultiResolutionConfig

    def __init__(self, config: MultiResolutionConfig, sample_rate: int) -> None:
        super().__init__(config, sample_rate)
        self.discriminators = nn.ModuleList(
            SpectrogramDiscriminator(n_fft, n_fft // config.overlap, config.channels) for n_fft in config.n_ffts
        )

    def discriminate(self, audio: Tensor) -> list[DiscriminatorOutput]:
        return [discriminator(audio) for discriminator in self.discriminators]
