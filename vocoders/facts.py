"""Facts: all that a program must know to run a model. Does not import torch.

Given by every backend, exported models, ``vocoders info`` and ``GET /models``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import Field

from vocoders.config import Config
from vocoders.dsp.mel import MelConfig
from vocoders.inputs import Input

_MOST_FRAMES = 1 << 20


class Architecture(Config):
    """Name of a network in its table, and its configuration."""

    name: str
    config: dict[str, Any]


class Facts(Config):
    """Facts about a model.

    Attributes:
        mel_config: the mel config of the mels it takes.
        generator: the generator, as ``GENERATORS`` has it.
        sample_rate: sample rate of the audio, Hz.
        channels: channels of the audio.
        samples_per_frame: samples that a frame of the mel becomes.
        inputs: what the generator takes beside the mel.
        estimated: names of the inputs that the model estimates from the mel where they are not given.
        lookahead: frames that must follow a frame before its audio is final, with all inputs given; None when the model
            cannot stream.
        context: frames before a frame that its audio depends on, with all inputs given; None for all of them.
        estimator_lookahead: frames that an estimate needs after its own.
        estimator_context: frames before its own that an estimate depends on.
        next_f0_share: see ``Generator``.
        lag: samples by which the audio is later than the recording; None for ``MelConfig.usual_lag``.
        parameters: number of weights of each network.
        training: how the model was made, any JSON.
    """

    mel_config: MelConfig
    generator: Architecture
    sample_rate: int = Field(gt=0)
    channels: int = Field(1, gt=0, le=64)
    samples_per_frame: int = Field(gt=0)
    inputs: tuple[Input, ...] = ()
    estimated: tuple[str, ...] = ()
    lookahead: int | None = Field(ge=0, le=_MOST_FRAMES)
    context: int | None = Field(ge=0, le=_MOST_FRAMES)
    estimator_lookahead: int = Field(0, ge=0, le=_MOST_FRAMES)
    estimator_context: int = Field(0, ge=0, le=_MOST_FRAMES)
    next_f0_share: float = Field(0.0, ge=0, le=1)
    lag: int | None = Field(None, ge=0, le=_MOST_FRAMES)
    parameters: dict[str, int] = {}
    training: dict[str, Any] = {}

    @property
    def summary(self) -> str:
        """Generator, sample rate and mel config in a line."""
        return f"{self.generator.name}, {self.sample_rate} Hz, mel config {self.mel_config.text}"

    def lookahead_with(self, given: Collection[str]) -> int | None:
        """Return the lookahead of a stream with the inputs ``given``."""
        waits = any(name not in given for name in self.estimated)
        return None if self.lookahead is None else self.lookahead + self.estimator_lookahead * waits
