"""Distances between log-mels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig

from .base import RESOLUTIONS, Resolutions

MEL_SCALES = ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320))


class MelLoss(nn.Module):
    """Mean absolute difference of two log-mels (HiFi-GAN, Kong et al. 2020, arXiv 2010.05646, equation 3)."""

    terms: ClassVar[tuple[str, ...]] = ("mel",)

    def __init__(self, mel_config: MelConfig) -> None:
        super().__init__()
        self.log_mel = LogMelSpectrogram(mel_config)

    @classmethod
    def for_mel_config(cls, mel_config: MelConfig, stft_resolutions: Resolutions = RESOLUTIONS) -> MelLoss:
        """Build the loss for ``mel_config``."""
        return cls(mel_config)

    def forward(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Compare audio (..., samples) of equal shape: float32 scalar."""
        return self.distance(self.transform(estimate), self.transform(reference))[0]

    def transform(self, audio: Tensor) -> Tensor:
        """Transform audio (..., samples) -> log-mel (..., n_mels, frames)."""
        return self.log_mel(audio)

    def distance(self, estimate: Tensor, reference: Tensor, scale: Tensor | None = None) -> tuple[Tensor]:
        """Compare two transforms."""
        return (F.l1_loss(estimate, reference),)


class FullBandMelLoss(MelLoss):
    """``MelLoss`` with filters up to half the sample rate, as in HiFi-GAN and Wavehax."""

    terms: ClassVar[tuple[str, ...]] = ("full_band_mel",)

    def __init__(self, mel_config: MelConfig) -> None:
        super().__init__(mel_config.model_copy(update={"fmax": mel_config.sample_rate / 2}))


class MultiScaleMelLoss(nn.Module):
    """Sum of the mean absolute differences of log10-mels at seven resolutions, over the full band.

    Kumar et al. 2023 (Descript audio codec, arXiv 2306.06546, section 3.4), also in BigVGAN v2: hops of a quarter
    window, floor 1e-5.

    Args:
        sample_rate: Hz.
        scales: (window length in samples, number of bands) of each resolution.
    """

    terms: ClassVar[tuple[str, ...]] = ("multi_scale_mel",)

    def __init__(self, sample_rate: int, scales: Sequence[tuple[int, int]] = MEL_SCALES) -> None:
        super().__init__()
        self.log_mels = nn.ModuleList(
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

    @classmethod
    def for_mel_config(cls, mel_config: MelConfig, stft_resolutions: Resolutions = RESOLUTIONS) -> MultiScaleMelLoss:
        """Build the loss for the sample rate of ``mel_config``."""
        return cls(mel_config.sample_rate)

    def forward(self, estimate: Tensor, reference: Tensor) -> Tensor:
        """Compare audio (..., samples) of equal shape: float32 scalar."""
        return self.distance(self.transform(estimate), self.transform(reference))[0]

    def transform(self, audio: Tensor) -> list[Tensor]:
        """Transform audio (..., samples) -> log10-mels (..., bands, frames)."""
        return [log_mel(audio) for log_mel in self.log_mels]

    def distance(
        self, estimate: list[Tensor], reference: list[Tensor], scale: list[Tensor] | None = None
    ) -> tuple[Tensor]:
        """Compare two transforms."""
        return (torch.stack([F.l1_loss(x, y) for x, y in zip(estimate, reference, strict=True)]).sum(),)
