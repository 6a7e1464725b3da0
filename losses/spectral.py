"""Distances between the spectra of two signals. All are computed in float32, also inside autocast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT

RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
MEL_SCALES = ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320))


class STFTDistance(NamedTuple):
    """The two terms of the multi-resolution STFT loss, float32 scalars."""

    spectral_convergence: Tensor
    log_magnitude: Tensor


class MultiResolutionSTFTLoss(nn.Module):
    """Spectral convergence and log-magnitude distance, averaged over STFT resolutions.

    Parallel WaveGAN (Yamamoto et al. 2020, arXiv 1910.11480), equations 4 to 6, with the published implementation's
    magnitude sqrt(max(power, 1e-7)); its defaults are the defaults here.

    Args:
        resolutions: (n_fft, hop_length, win_length) of each STFT, in samples.
    """

    def __init__(self, resolutions: Sequence[tuple[int, int, int]] = RESOLUTIONS) -> None:
        super().__init__()
        self.stfts = nn.ModuleList(STFT(n_fft, hop, win, padding="center") for n_fft, hop, win in resolutions)

    def forward(self, fake: Tensor, real: Tensor) -> STFTDistance:
        """fake, real: audio (..., samples) of equal shape."""
        return self.distance(self.transform(fake), self.transform(real))

    def transform(self, audio: Tensor) -> list[Tensor]:
        """Audio (..., samples) -> the magnitudes that are compared, (..., bins, frames) for each resolution."""
        spectra = [stft(audio) for stft in self.stfts]
        return [(x.real.square() + x.imag.square()).clamp_min(1e-7).sqrt() for x in spectra]

    @staticmethod
    def distance(fake: list[Tensor], real: list[Tensor], reference: list[Tensor] | None = None) -> STFTDistance:
        """Two results of ``transform`` -> their distance.

        Spectral convergence is relative to the norm of ``reference``, by default of ``real``.
        """
        pairs = list(zip(fake, real, strict=True))
        norms = [torch.linalg.vector_norm(z) for z in (real if reference is None else reference)]
        convergence = [torch.linalg.vector_norm(y - x) / norm for (x, y), norm in zip(pairs, norms, strict=True)]
        log_magnitude = [F.l1_loss(x.log(), y.log()) for x, y in pairs]
        return STFTDistance(torch.stack(convergence).mean(), torch.stack(log_magnitude).mean())


class MelLoss(nn.Module):
    """Mean absolute difference of two log-mels (HiFi-GAN, Kong et al. 2020, arXiv 2010.05646, equation 3).

    Args:
        mel_config: any; HiFi-GAN and Wavehax take the model's own with fmax at half the sample rate, which is
            ``full_band(mel_config)``.
    """

    def __init__(self, mel_config: MelConfig) -> None:
        super().__init__()
        self.mel = LogMelSpectrogram(mel_config)

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """fake, real: audio (..., samples) of equal shape -> float32 scalar."""
        return self.distance(self.transform(fake), self.transform(real))

    def transform(self, audio: Tensor) -> Tensor:
        """Audio (..., samples) -> the log-mel that is compared."""
        return self.mel(audio)

    @staticmethod
    def distance(fake: Tensor, real: Tensor) -> Tensor:
        """Two results of ``transform`` -> their distance."""
        return F.l1_loss(fake, real)


def full_band(mel_config: MelConfig) -> MelConfig:
    """The mel config with its filters spread up to half the sample rate."""
    return mel_config.model_copy(update={"fmax": mel_config.sample_rate / 2})


class MultiScaleMelLoss(nn.Module):
    """Sum of the mean absolute differences of log10-mels at seven resolutions, over the full band.

    The definition of Kumar et al. 2023 (Descript audio codec, arXiv 2306.06546, section 3.4), which BigVGAN v2 shares:
    windows of 32 to 2048 samples, hops of a quarter, 5 to 320 mels, floor 1e-5.

    Args:
        sample_rate: Hz.
        scales: (window length in samples, number of mels) of each.
    """

    def __init__(self, sample_rate: int, scales: Sequence[tuple[int, int]] = MEL_SCALES) -> None:
        super().__init__()
        self.mels = nn.ModuleList(
            LogMelSpectrogram(
                MelConfig(
                    sample_rate=sample_rate,
                    n_fft=window,
                    hop_length=window // 4,
                    win_length=window,
                    n_mels=n_mels,
                    fmin=0.0,
                    fmax=sample_rate / 2,
                    padding="center",
                    log="log10",
                )
            )
            for window, n_mels in scales
        )

    def forward(self, fake: Tensor, real: Tensor) -> Tensor:
        """fake, real: audio (..., samples) of equal shape -> float32 scalar."""
        return self.distance(self.transform(fake), self.transform(real))

    def transform(self, audio: Tensor) -> list[Tensor]:
        """Audio (..., samples) -> the log-mels that are compared."""
        return [mel(audio) for mel in self.mels]

    @staticmethod
    def distance(fake: list[Tensor], real: list[Tensor]) -> Tensor:
        """Two results of ``transform`` -> their distance."""
        return torch.stack([F.l1_loss(x, y) for x, y in zip(fake, real, strict=True)]).sum()
