"""Parallel WaveGAN's discriminator: Yamamoto et al. 2020, arXiv 1910.11480, section 3.2."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from vocoders.config import Channels, Config

from .base import Discriminator, DiscriminatorOutput


class ParallelWaveGANDiscriminatorConfig(Config):
    """Defaults: those of the paper."""

    layers: int = Field(10, ge=2, le=64)
    channels: Channels = 64


def initialized(conv: nn.Conv1d) -> nn.Conv1d:
    """Initialise as published: with PyTorch's default, the signal fades over ten layers."""
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class ParallelWaveGANDiscriminator(Discriminator):
    """Dilated convolutions at the sample rate, a score per sample."""

    config_type = ParallelWaveGANDiscriminatorConfig

    def __init__(self, config: ParallelWaveGANDiscriminatorConfig, sample_rate: int) -> None:
        super().__init__(config, sample_rate)
        self.convs = nn.ModuleList()
        for i in range(config.layers - 1):
            dilation = max(i, 1)  # 1, 1, 2, 3, 4 ...
            before = config.channels if i else 1
            conv = nn.Conv1d(before, config.channels, 3, dilation=dilation, padding=dilation)
            self.convs.append(weight_norm(initialized(conv)))
        self.conv_post = weight_norm(initialized(nn.Conv1d(config.channels, 1, 3, padding=1)))

    def discriminate(self, audio: Tensor) -> list[DiscriminatorOutput]:
        x, feature_maps = audio, []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
            feature_maps.append(x)
        return [DiscriminatorOutput(self.conv_post(x), feature_maps)]
