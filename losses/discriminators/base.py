"""The contract of all discriminators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from vocoders.config import Config
from vocoders.errors import VocoderError


class DiscriminatorOutput(NamedTuple):
    """Output of one sub-discriminator.

    Attributes:
        scores: (batch, ...): high for real, low for fake.
        feature_maps: (batch, channels, ...) per layer.
    """

    scores: Tensor
    feature_maps: list[Tensor]


class Discriminator(nn.Module, ABC):
    """A set of sub-discriminators, each with its own view of the signal.

    Args:
        config: its configuration, of ``config_type``.
        sample_rate: Hz.

    Attributes:
        config_type: the class of its configuration.
        too_short_hint: further remedies in the error for too short segments.
    """

    config_type: ClassVar[type[Config]]
    too_short_hint: ClassVar[str] = ""

    def __init__(self, config: Config, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = sample_rate

    @property
    def min_samples(self) -> int:
        """Shortest audio in samples."""
        return 1

    @abstractmethod
    def discriminate(self, audio: Tensor) -> list[DiscriminatorOutput]:
        """Implement ``forward`` for checked audio (batch, 1, samples)."""

    def forward(self, audio: Tensor) -> list[DiscriminatorOutput]:
        """Score one signal.

        Args:
            audio: (batch, 1, samples) at ``sample_rate``.

        Returns:
            One output per sub-discriminator.

        Raises:
            VocoderError: when the audio is not mono or too short.
        """
        if audio.dim() != 3 or audio.shape[1] != 1:
            raise VocoderError(
                f"{type(self).__name__} takes mono audio of shape (batch, 1, samples), got {tuple(audio.shape)}"
            )
        if audio.shape[2] < self.min_samples:
            raise VocoderError(
                f"{type(self).__name__} needs at least {self.min_samples} samples at {self.sample_rate} Hz, got "
                f"{audio.shape[2]}; take longer segments{self.too_short_hint}"
            )
        return self.discriminate(audio)
