"""Spectral losses, discriminators and adversarial objectives.

``LOSSES`` and ``DISCRIMINATORS`` map the names that recipes use to classes; README.md says which to take, and gives the
papers.
"""

from losses.adversarial import discriminator_loss, feature_matching, generator_loss
from losses.cqt import CQT
from losses.discriminators import DISCRIMINATORS, Discriminator, DiscriminatorOutput, build_discriminator
from losses.discriminators.multi_period import MultiPeriodDiscriminator
from losses.discriminators.multi_resolution import MultiResolutionDiscriminator
from losses.discriminators.multi_scale import MultiScaleDiscriminator
from losses.discriminators.multi_scale_stft import MultiScaleSTFTDiscriminator
from losses.discriminators.multi_scale_subband_cqt import MultiScaleSubbandCQTDiscriminator
from losses.discriminators.parallel_wavegan import ParallelWaveGANDiscriminator
from losses.energy_distance import energy_distance
from losses.spectral import LOSSES, SpectralLoss
from losses.spectral.mel import FullBandMelLoss, MelLoss, MultiScaleMelLoss
from losses.spectral.stft import MultiResolutionSTFTLoss

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
