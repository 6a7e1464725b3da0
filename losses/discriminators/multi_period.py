"""Multi-period discriminator: Kong et al. 2020, "HiFi-GAN", arXiv 2010.05646, section 2.3."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from vocoders.config import Channels, Config, Count
from vocoders.dsp.stft import reflect_pad

from .base import Discriminator, DiscriminatorOutput


class MultiPeriodConfig(Config):
    """Defaults: HiFi-GAN's. Wavehax adds periods 13 and 17 at 48 kHz."""

    periods: tuple[Count, ...] = Field((2, 3, 5, 7, 11), min_length=1, description="samples")
    channels: tuple[Channels, ...] = Field((32, 128, 512, 1024, 1024), min_length=1)
    match_first: bool = Field(True, description="match the features of the first layer; Vocos does not")
    match_scores: bool = Field(True, description="match the scores as features; Wavehax does not")


class PeriodDiscriminator(nn.Module):
    """Sub-discriminator of audio folded to (samples / period, period), convolved along time."""

    def __init__(self, period: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.period = period
        self.convs = nn.ModuleList()
        before = 1
        for i, after in enumerate(channels):
            stride = 3 if i < len(channels) - 1 else 1
            self.convs.append(weight_norm(nn.Conv2d(before, after, (5, 1), (stride, 1), padding=(2, 0))))
            before = after
        self.conv_post = weight_norm(nn.Conv2d(before, 1, (3, 1), padding=(1, 0)))

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        """(batch, 1, samples) -> scores (batch, patches)"""
        x = reflect_pad(audio, 0, -audio.shape[-1] % self.period).unflatten(-1, (-1, self.period))
        feature_maps = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.1)
            feature_maps.append(x)
        x = self.conv_post(x)
        return DiscriminatorOutput(x.flatten(1), [*feature_maps, x])


class MultiPeriodDiscriminator(Discriminator):
    """One sub-discriminator per period."""

    config_type = MultiPeriodConfig

    def __init__(self, config: MultiPeriodConfig, sample_rate: int) -> None:
        super().__init__(config, sample_rate)
        self.discriminators = nn.ModuleList(PeriodDiscriminator(p, config.channels) for p in config.periods)

        self.matched = slice(0 if config.match_first else 1, None if config.match_scores else -1)

    def discriminate(self, audio: Tensor) -> list[DiscriminatorOutput]:
        outputs = [discriminator(audio) for discriminator in self.discriminators]
        return [DiscriminatorOutput(output.scores, output.feature_maps[self.matched]) for output in outputs]
