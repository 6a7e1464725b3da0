"""All discriminators by name."""

from __future__ import annotations

from typing import Any

from vocoders.config import build

from .base import Discriminator, DiscriminatorOutput
from .multi_period import MultiPeriodDiscriminator
from .multi_resolution import MultiResolutionDiscriminator
from .multi_scale import MultiScaleDiscriminator
from .multi_scale_stft import MultiScaleSTFTDiscriminator
from .multi_scale_subband_cqt import MultiScaleSubbandCQTDiscriminator
from .parallel_wavegan import ParallelWaveGANDiscriminator

__all__ = ["DISCRIMINATORS", "Discriminator", "DiscriminatorOutput", "build_discriminator"]

DISCRIMINATORS: dict[str, type[Discriminator]] = {
    "multi-period": MultiPeriodDiscriminator,
    "multi-scale": MultiScaleDiscriminator,
    "multi-resolution": MultiResolutionDiscriminator,
    "multi-scale-stft": MultiScaleSTFTDiscriminator,
    "multi-scale-subband-cqt": MultiScaleSubbandCQTDiscriminator,
    "parallel-wavegan": ParallelWaveGANDiscriminator,
}


def build_discriminator(name: str, config: dict[str, Any], sample_rate: int) -> Discriminator:
    """Build a freshly initialised discriminator.

    Args:
        name: a key of ``DISCRIMINATORS``.
        config: values that differ from the default configuration.
        sample_rate: Hz.

    Raises:
        VocoderError: when the name is unknown or the configuration invalid.
    """
    discriminator: Discriminator = build(DISCRIMINATORS, "discriminator", name, config, sample_rate)
    return discriminator
