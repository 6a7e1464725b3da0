"""Distances between the spectra of two signals. All are computed in float32, also inside autocast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT

Resolutions = Sequence[tuple[int, int, int]]
"""(n_fft, hop_length, win_length) of each STFT, in samples."""

RESOLUTIONS: Resolutions = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
MEL_SCALES = ((32, 5), (64, 10), (128, 20), (256, 40), (512, 80), (1024, 160), (2048, 320))


class SpectralLoss(Protocol):
    """The contract of all spectral losses: a transform, and the distance between two of its results.

    Attributes:
        terms: names of the values that ``distance`` returns; a recipe gives a weight to each.
    """

    terms: ClassVar[tuple[str, ...]]

    @classmethod
    def for_mel_config(cls, mel_config: MelConfig, stft_resolutions: Resolutions = RESOLUTIONS) -> SpectralLoss:
        """Build the loss for models of ``mel_config``.

        Args:
            mel_config: the mel config of the models.
            stft_resolutions: (n_fft, hop_length, win_length) of each STFT, for losses with several.
        """
        ...

    def transform(self, audio: Tensor) -> Any:
        """Transform audio (..., samples) to what ``distance`` takes, of any type."""
        ...

    def distance(self, estimate: Any, reference: Any, scale: Any = None) -> Sequence[Tensor]:
        """Compare two results of ``transform``.

        Args:
            estimate: the transform of generated audio.
            reference: the transform of the recording.
            scale: the transform by whose norm relative terms are divided. Default: ``reference``.

        Returns:
            A float32 scalar for each of ``terms``.
        """
        ...


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

    terms: ClassVar[tuple[str, ...]] = STFTDistance._fields

    def __init__(self, resolutions: Resolutions = RESOLUTIONS) -> None:
        super().__init__()
        self.stfts = nn.ModuleList(STFT(n_fft, hop, win, padding="center") for n_fft, hop, win in resolutions)

    @classmethod
    def for_mel_config(
        cls, mel_config: MelConfig, stft_resolutions: Resolutions = RESOLUTIONS
    ) -> MultiResolutionSTFTLoss:
        """Build the loss with the given resolutions; the mel config is not used."""
        return cls(stft_resolutions)

    def forward(self, estimate: Tensor, reference: Tensor) -> STFTDistance:
        """Compare audio (..., samples) of equal shape."""
        return self.distance(self.transform(estimate), self.transform(reference))

    def transform(self, audio: Tensor) -> list[Tensor]:
        """Transform audio (..., samples) -> magnitudes (..., bins, frames) for each resolution."""
        spectra = [stft(audio) for stft in self.stfts]
        return [(x.real.square() + x.imag.square()).clamp_min(1e-7).sqrt() for x in spectra]

    def distance(
        self, estimate: list[Tensor], reference: list[Tensor], scale: list[Tensor] | None = None
    ) -> STFTDistance:
        """Compare two results of ``transform``; spectral convergence is relative to the norm of ``scale``."""
        pairs = list(zip(estimate, reference, strict=True))
        norms = [torch.linalg.vector_norm(z) for z in (reference if scale is None else scale)]
        convergence = [torch.linalg.vector_norm(y - x) / norm for (x, y), norm in zip(pairs, norms, strict=True)]
        log_magnitude = [F.l1_loss(x.log(), y.log()) for x, y in pairs]
        return STFTDistance(torch.stack(convergence).mean(), torch.stack(log_magnitude).mean())


class MelLoss(nn.Module):
    """Mean absolute difference of two log-mels (HiFi-GAN, Kong et al. 2020, arXiv 2010.05646, equation 3).

    Args:
        mel_config: any mel config; training takes that of the model.
    """

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
        """Compare two results of ``transform``; ``scale`` is not used."""
        return (F.l1_loss(estimate, reference),)


class FullBandMelLoss(MelLoss):
    """``MelLoss`` with the filters spread up to half the sample rate, as HiFi-GAN and Wavehax train.

    Args:
        mel_config: any mel config; all but its ``fmax`` is kept.
    """

    terms: ClassVar[tuple[str, ...]] = ("full_band_mel",)

    def __init__(self, mel_config: MelConfig) -> None:
        super().__init__(mel_config.model_copy(update={"fmax": mel_config.sample_rate / 2}))


class MultiScaleMelLoss(nn.Module):
    """Sum of the mean absolute differences of log10-mels at seven resolutions, over the full band.

    The definition of Kumar et al. 2023 (Descript audio codec, arXiv 2306.06546, section 3.4), which BigVGAN v2 shares:
    windows of 32 to 2048 samples, hops of a quarter, 5 to 320 bands, floor 1e-5.

    Args:
        sample_rate: sample rate in Hz.
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
        """Transform audio (..., samples) -> log10-mels (..., bands, frames) for each scale."""
        return [log_mel(audio) for log_mel in self.log_mels]

    def distance(
        self, estimate: list[Tensor], reference: list[Tensor], scale: list[Tensor] | None = None
    ) -> tuple[Tensor]:
        """Compare two results of ``transform``; ``scale`` is not used."""
        return (torch.stack([F.l1_loss(x, y) for x, y in zip(estimate, reference, strict=True)]).sum(),)
