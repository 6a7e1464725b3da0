"""Interface of a backend: facts about its model, and a synthesis that takes frames piece by piece.

``Vocoder`` implements it with torch, ``OnnxVocoder`` with ONNX Runtime. Everything else is written once on top of it:
``BaseVocoder`` and ``Stream``. Nothing here imports torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Literal, get_args

import numpy as np

from vocoders.errors import VocoderError
from vocoders.facts import Facts
from vocoders.inputs import UNKNOWN, Value, Values, check_given, constants_of, cut, draw, signals_of

BackendName = Literal["onnx", "torch"]
Precision = Literal["float32", "bfloat16"]


class Backend(ABC):
    """A model that can be run.

    Attributes:
        name: the name given to ``load``.
        facts: what is known of the model.
        precision: floating-point type in which the generator multiplies.
        backend: what runs it, "torch" or "onnx".
    """

    name: str
    facts: Facts
    precision: Precision
    backend: ClassVar[BackendName]

    @property
    @abstractmethod
    def chunk_frames(self) -> int | None:
        """Frames of a long utterance that are synthesised at a time; None where only the whole can be.

        Up to twice as many are synthesised at once; see ``frames_at_once``.
        """

    @property
    def frames_at_once(self) -> int | None:
        """Longest utterance, in frames, that is synthesised at once; None for any length."""
        return None if self.chunk_frames is None else 2 * self.chunk_frames

    def pieces(self, frames: int) -> list[slice]:
        """Cut ``frames`` frames into the pieces that are synthesised at once, at least one."""
        if self.chunk_frames is None or self.frames_at_once is None or frames <= self.frames_at_once:
            return [slice(0, frames)]
        begins = range(0, frames, self.chunk_frames)
        return [slice(begin, min(begin + self.chunk_frames, frames)) for begin in begins]

    @property
    def batching_pays(self) -> bool:
        """Whether several utterances in one pass of the network take less time than one after the other."""
        return False

    @abstractmethod
    def start(self, seeds: Sequence[int], given: Collection[str] = (), constants: Values | None = None) -> Synthesis:
        """Start the synthesis of a batch of utterances of one length.

        Args:
            seeds: seed of the noise for each utterance.
            given: names of the signals that will be given for all frames.
            constants: inputs that hold for the whole utterance, (batch, channels, 1).

        Raises:
            VocoderError: when the model needs an input that is neither given nor estimated.
        """

    @abstractmethod
    def run(self, mel: np.ndarray, values: Values) -> tuple[np.ndarray, Values]:
        """Run the networks once.

        Args:
            mel: float32 (batch, n_mels, frames).
            values: all inputs of the generator, (batch, channels, length); UNKNOWN where one is to be estimated.

        Returns:
            The audio, float32 (batch, channels, samples), and the estimated inputs as they were used.
        """

    def cut(self, values: Mapping[str, Value], first: int, end: int) -> dict[str, Value]:
        """Cut the frames ``first`` to ``end`` out of inputs."""
        return cut(self.facts.inputs, values, first, end, self.facts.samples_per_frame)

    def with_channels(self, audio: np.ndarray) -> np.ndarray:
        """Return audio (batch, channels, samples) as users get it: of one channel (batch, samples)."""
        return audio[:, 0] if self.facts.channels == 1 else audio


class Synthesis(ABC):
    """Synthesis of a batch of utterances whose frames come in one or several calls.

    Attributes:
        frames: number of frames that have come.
    """

    def __init__(
        self, backend: Backend, seeds: Sequence[int], given: Collection[str] = (), constants: Values | None = None
    ) -> None:
        facts, constants = backend.facts, constants or {}
        check_given(facts.inputs, facts.estimated, [*given, *constants])
        self.backend = backend
        self.facts = facts
        self.seeds = list(seeds)
        self.given = {item.name for item in facts.inputs if item.name in given}
        self.constants = constants_of(facts.inputs, constants)
        self.frames = 0

    def advance(self, mel: np.ndarray, signals: Values | None = None, last: bool = False) -> np.ndarray:
        """Take the next frames and return all audio that is final now.

        Many frames are synthesised in ``pieces``, so that beside the audio no memory grows with their number.

        Args:
            mel: float32 (batch, n_mels, frames), of any number of frames, also 0.
            signals: float32 (batch, channels, length) for each of the names in ``given``.
            last: whether the utterances end with these frames.

        Returns:
            float32 (batch, samples), or (batch, channels, samples); samples may be 0.

        Raises:
            VocoderError: when the audio is not finite.
        """
        audio = self._advance(mel, signals_of(self.facts.inputs, signals or {}), last)
        self.frames += mel.shape[-1]
        return self.backend.with_channels(check_finite(audio))

    @abstractmethod
    def _advance(self, mel: np.ndarray, signals: Values, last: bool) -> np.ndarray:
        """Implement ``advance`` for audio (batch, channels, samples). ``frames`` does not count the new frames yet."""

    def nothing(self) -> np.ndarray:
        """Return audio of no samples."""
        return np.empty((len(self.seeds), self.facts.channels, 0), np.float32)

    def drawn(self, first: int, end: int) -> Values:
        """Draw the inputs of the frames ``first`` to ``end`` that are drawn: (batch, 1, samples) or (1, 1, samples)."""
        size = self.facts.samples_per_frame
        return draw(self.facts.inputs, self.given, first * size, end * size, self.seeds)

    def drawn_for_items(self, first: int, end: int) -> Values:
        """Draw them for each item, (batch, 1, samples)."""
        drawn = self.drawn(first, end).items()
        return {name: np.array(np.broadcast_to(x, (len(self.seeds), *x.shape[1:]))) for name, x in drawn}

    def unknown(self, frames: int) -> Values:
        """Return the inputs that are to be estimated, for a number of frames."""
        wanted = (item for item in self.facts.inputs if item.name in self.facts.estimated)
        shape = len(self.seeds), 1, frames
        return {item.name: np.full(shape, UNKNOWN, np.float32) for item in wanted if item.name not in self.given}


def check_precision(precision: str) -> None:
    """Raise VocoderError for anything that is no ``Precision``."""
    if precision not in get_args(Precision):
        raise VocoderError(f"unknown precision {precision!r}; known: {', '.join(get_args(Precision))}")


def check_backend(backend: str) -> None:
    """Raise VocoderError for anything that is no ``BackendName``."""
    if backend not in get_args(BackendName):
        raise VocoderError(f"unknown backend {backend!r}; known: {', '.join(get_args(BackendName))}")


def check_finite(audio: np.ndarray) -> np.ndarray:
    """Return ``audio``.

    Raises:
        VocoderError: when it is not finite.
    """
    if not np.isfinite(audio).all():
        raise VocoderError(
            "the model's output is not finite: the mel's values are out of all range, or the model is damaged"
        )
    return audio
