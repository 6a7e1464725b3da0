"""The contract of all discriminators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from vocoders.config import Config
from vocoders.errors import VocoderError


class DiscriminatorOutput(NamedTuple):
    """What one sub-discriminator says of a signal."""

    scores: Tensor
    """(batch, ...): high for real, low for fake; one number for each patch of the signal."""
    feature_maps: list[Tensor]
    """(batch, channels, ...) of each layer, for feature matching."""


class Discriminator(nn.Module, ABC):
    """A set of sub-discriminators that each look at the signal in their own way.

    Args:
        config: of ``config_type``.
        sample_rate: of the audio, Hz.
    """

    config_type: ClassVar[type[Config]]
    shorter: ClassVar[str] = ""  # what else can be done about too short segments, for the error message

    def __init__(self, config: Config, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = sample_rate

    @property
    def min_samples(self) -> int:
        """The shortest audio that can be judged."""
        return 1

    @abstractmethod
    def judge(self, audio: Tensor) -> list[DiscriminatorOutput]:
        """What ``forward`` does once the audio is checked."""

    def forward(self, audio: Tensor) -> list[DiscriminatorOutput]:
        """Judge one signal.

        Args:
            audio: (batch, 1, samples) at ``sample_rate``.
        Returns: one judgement for each sub-discriminator.
        Raises: VocoderError for audio that is not mono or too short.
        """
        if audio.dim() != 3 or audio.shape[1] != 1:
            raise VocoderError(
                f"{type(self).__name__} judges mono audio of shape (batch, 1, samples), got {tuple(audio.shape)}"
            )
        if audio.shape[2] < self.min_samples:
            raise VocoderError(
                f"{type(self).__name__} needs at least {self.min_samples} samples at {self.sample_rate} Hz, got "
                f"{audio.shape[2]}; take longer segments{self.shorter}"
            )
        return self.judge(audio)
