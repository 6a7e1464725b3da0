"""Distance between magnitude spectra at several resolutions."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT

from .base import RESOLUTIONS, Resolutions


class STFTDistance(NamedTuple):
    """Terms of the multi-resolution STFT loss, float32 scalars."""

    spectral_convergence: Tensor
    log_magnitude: Tensor


class MultiResolutionSTFTLoss(nn.Module):
    """Spectral convergence and log-magnitude distance, averaged over STFT resolutions.

    Parallel WaveGAN (Yamamoto et al. 2020, arXiv 1910.11480), equations 4 to 6; the magnitude, sqrt(max(power, 1e-7)),
    and the defaults are the published implementation's.

    Args:
        resolutions: (n_fft, hop_length, win_length) of each STFT, in samples.
    """

    terms: ClassVar[tuple[str, ...]] = STFTDistance._fields

    def __init__(self, resolutions: Resolutions = RESOLUTIONS) -> None:
        super().__init__()
        self.stfts = nn.ModuleList(STFT(n_fft, hop, win, padding="center") for n_fft, hop, win in resolutions)

    @classmethod
    def for_mel_config(
        cls, mel_config: MelConfig, stft_resolutions: Resolutions = RESOLUTIONS
    ) -> MultiResolutionSTFTLoss:
        """Build the loss; the mel config is not used."""
        return cls(stft_resolutions)

    def forward(self, estimate: Tensor, reference: Tensor) -> STFTDistance:
        """Compare audio (..., samples) of equal shape."""
        return self.distance(self.transform(estimate), self.transform(reference))

    def transform(self, audio: Tensor) -> list[Tensor]:
        """Transform audio (..., samples) -> magnitudes (..., bins, frames)."""
        spectra = [stft(audio) for stft in self.stfts]
        return [(x.real.square() + x.imag.square()).clamp_min(1e-7).sqrt() for x in spectra]

    def distance(
        self, estimate: list[Tensor], reference: list[Tensor], scale: list[Tensor] | None = None
    ) -> STFTDistance:
        """Compare two transforms; spectral convergence is relative to ``scale``."""
        pairs = list(zip(estimate, reference, strict=True))
        norms = [torch.linalg.vector_norm(z) for z in (reference if scale is None else scale)]
        convergence = [torch.linalg.vector_norm(y - x) / norm for (x, y), norm in zip(pairs, norms, strict=True)]
        log_magnitude = [F.l1_loss(x.log(), y.log()) for x, y in pairs]
        return STFTDistance(torch.stack(convergence).mean(), torch.stack(log_magnitude).mean())
