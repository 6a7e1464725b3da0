"""Multi-scale discriminator: Kumar et al. 2019, "MelGAN", arXiv 1910.06711, in HiFi-GAN's form, arXiv 2010.05646."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from vocoders.config import Channels, Config, Count

from .base import Discriminator, DiscriminatorOutput

# Kernel, stride and groups of each layer.
_LAYERS = ((15, 1, 1), (41, 2, 4), (41, 2, 16), (41, 4, 16), (41, 4, 16), (41, 1, 16), (5, 1, 1))


class MultiScaleConfig(Config):
    """Defaults: those of HiFi-GAN."""

    scales: Count = Field(3, description="number of scales: the audio as it is, at half the rate, at a quarter ...")
    channels: tuple[Channels, Channels, Channels, Channels] = Field(
        (128, 256, 512, 1024), description="of layers 1 and 2, 3, 4, 5 to 7; multiples of 16"
    )


class ScaleDiscriminator(nn.Module):
    """Strided convolutions of samples.

    HiFi-GAN's first scale has spectral norm, lest this strongest discriminator overpower the generator.
    """

    def __init__(self, channels: tuple[int, int, int, int], use_spectral_norm: bool) -> None:
        super().__init__()
        norm = spectral_norm if use_spectral_norm else weight_norm
        a, b, c, d = channels
        self.convs = nn.ModuleList()
        before = 1
        for (kernel, stride, groups), after in zip(_LAYERS, (a, a, b, c, d, d, d), strict=True):
            conv = nn.Conv1d(before, after, kernel, stride, groups=groups, padding=kernel // 2)
            self.convs.append(norm(conv))
            before = after
        self.conv_post = norm(nn.Conv1d(before, 1, 3, padding=1))

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        """(batch, 1, samples) -> scores (batch, patches)"""
        x, feature_maps = audio, []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            feature_maps.append(x)
        x = self.conv_post(x)
        return DiscriminatorOutput(x.flatten(1), [*feature_maps, x])


class MultiScaleDiscriminator(Discriminator):
    """One sub-discriminator per scale: full rate, half, a quarter ..."""

    config_type = MultiScaleConfig

    def __init__(self, config: MultiScaleConfig, sample_rate: int) -> None:
        super().__init__(config, sample_rate)
        self.discriminators = nn.ModuleList(
            ScaleDiscriminator(config.channels, use_spectral_norm=i == 0) for i in range(config.scales)
        )

    def discriminate(self, audio: Tensor) -> list[DiscriminatorOutput]:
        outputs = []
        for i, discriminator in enumerate(self.discriminators):
            if i:
                audio = F.avg_pool1d(audio, 4, 2, padding=2)
            outputs.append(discriminator(audio))
        return outputs
