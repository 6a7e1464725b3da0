"""Spectral losses, discriminators and adversarial objectives, by the names in recipes."""

from .adversarial import discriminator_loss, feature_matching, generator_loss
from .cqt import CQT
from .discriminators import DISCRIMINATORS, Discriminator, DiscriminatorOutput, build_discriminator
from .discriminators.multi_period import MultiPeriodDiscriminator
from .discriminators.multi_resolution import MultiResolutionDiscriminator
from .discriminators.multi_scale import MultiScaleDiscriminator
from .discriminators.multi_scale_stft import MultiScaleSTFTDiscriminator
from .discriminators.multi_scale_subband_cqt import MultiScaleSubbandCQTDiscriminator
from .discriminators.parallel_wavegan import ParallelWaveGANDiscriminator
from .energy_distance import energy_distance
from .spectral import LOSSES, SpectralLoss
from .spectral.mel import FullBandMelLoss, MelLoss, MultiScaleMelLoss
from .spectral.stft import MultiResolutionSTFTLoss

__all__ = [
    "CQT",
    "DISCRIMINATORS",
    "LOSSES",
    "Discriminator",
    "DiscriminatorOutput",
    "FullBandMelLoss",
    "MelLoss",
    "MultiPeriodDiscriminator",
    "MultiResolutionDiscriminator",
    "MultiResolutionSTFTLoss",
    "MultiScaleDiscriminator",
    "MultiScaleMelLoss",
    "MultiScaleSTFTDiscriminator",
    "MultiScaleSubbandCQTDiscriminator",
    "ParallelWaveGANDiscriminator",
    "SpectralLoss",
    "build_discriminator",
    "discriminator_loss",
    "energy_distance",
    "feature_matching",
    "generator_loss",
]
