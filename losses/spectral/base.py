"""The contract of all spectral losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from torch import Tensor

from vocoders.dsp.mel import MelConfig

Resolutions = Sequence[tuple[int, int, int]]
"""(n_fft, hop_length, win_length) of each STFT, in samples."""

RESOLUTIONS: Resolutions = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))


class SpectralLoss(Protocol):
    """The contract of all spectral losses: a transform, and the distance of two transforms.

    Attributes:
        terms: names of the values of ``distance``, weighted by recipes.
    """

    terms: ClassVar[tuple[str, ...]]

    @classmethod
    def for_mel_config(cls, mel_config: MelConfig, stft_resolutions: Resolutions = RESOLUTIONS) -> SpectralLoss:
        """Build the loss for models of ``mel_config``.

        Args:
            mel_config: the mel config of the models.
            stft_resolutions: for losses with several STFTs.
        """
        ...

    def transform(self, audio: Tensor) -> Any:
        """Transform audio (..., samples) to the type that ``distance`` takes."""
        ...

    def distance(self, estimate: Any, reference: Any, scale: Any = None) -> Sequence[Tensor]:
        """Compare two transforms.

        Args:
            estimate: of generated audio.
            reference: of the recording.
            scale: its norm divides relative terms. Default: ``reference``.

        Returns:
            A float32 scalar for each of ``terms``.
        """
        ...
