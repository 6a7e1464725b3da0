"""All spectral losses by name, computed in float32 also inside autocast."""

from __future__ import annotations

from .base import SpectralLoss
from .mel import FullBandMelLoss, MelLoss, MultiScaleMelLoss
from .stft import MultiResolutionSTFTLoss

__all__ = ["LOSSES", "SpectralLoss"]

LOSSES: dict[str, type[SpectralLoss]] = {
    "mel": MelLoss,
    "full_band_mel": FullBandMelLoss,
    "multi_scale_mel": MultiScaleMelLoss,
    "multi_resolution_stft": MultiResolutionSTFTLoss,
}
