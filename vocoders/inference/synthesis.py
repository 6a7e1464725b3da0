"""The contract of a backend, which ``Vocoder`` (torch) and ``OnnxVocoder`` implement. Does not import torch.

``BaseVocoder`` and ``Stream`` build on it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from vocoders.errors import VocoderError
from vocoders.facts import Facts
from vocoders.inputs import UNKNOWN, Value, Values, check_given, constants_of, cut, draw, signals_of

BackendName = Literal["onnx", "torch"]
Precision = Literal["float32", "bfloat16"]


class Backend(ABC):
    """Model that can be run.

    Attributes:
        name: the name given to ``load``.
        facts: record of the model.
        precision: floating-point type of the generator.
        backend: what runs it.
    """

    name: str
    facts: Facts
    precision: Precision
    backend: BackendName

    @property
    @abstractmethod
    def chunk_frames(self) -> int | None:
        """Frames of a long utterance synthesised at a time; None where only the whole can be."""

    @property
    def frames_at_once(self) -> int | None:
        """Frames of the longest utterance that is synthesised at once; None for any length."""
        return None if self.chunk_frames is None else 2 * self.chunk_frames

    def pieces(self, frames: int) -> list[slice]:
        """Cut ``frames`` frames into the pieces that are synthesised at once, at least one."""
        if self.chunk_frames is None or self.frames_at_once is None or frames <= self.frames_at_once:
            return [slice(0, frames)]
        begins = range(0, frames, self.chunk_frames)
        return [slice(begin, min(begin + self.chunk_frames, frames)) for begin in begins]

    @property
    def batching_pays(self) -> bool:
        """Whether one pass for several utterances is faster than a pass each."""
        return False

    @abstractmethod
    def start(self, seeds: Sequence[int], given: Collection[str] = (), constants: Values | None = None) -> Synthesis:
        """Start the synthesis of a batch of utterances of one length.

        Args:
            seeds: seed of the noise for each utterance.
            given: names of the signals that will be given for all frames.
            constants: utterance-rate inputs, (batch, channels, 1).

        Raises:
            VocoderError: when a required input is missing.
        """

    @abstractmethod
    def start_nearsighted(
        self, seeds: Sequence[int], lookahead: int, given: Collection[str] = (), constants: Values | None = None
    ) -> Synthesis:
        """Start a synthesis that looks ahead less than the model needs; see ``NearsightedSynthesis``."""

    @abstractmethod
    def run(self, mel: np.ndarray, values: Values) -> tuple[np.ndarray, Values]:
        """Run the networks once.

        Args:
            mel: float32 (batch, n_mels, frames).
            values: all inputs of the generator, (batch, channels, length); UNKNOWN where one is to be estimated.

        Returns:
            The audio, float32 (batch, channels, samples), and the estimated inputs as used.
        """

    def cut(self, values: Mapping[str, Value], first: int, end: int) -> dict[str, Value]:
        """Cut the frames ``first`` to ``end`` out of inputs."""
        return cut(self.facts.inputs, values, first, end, self.facts.samples_per_frame)

    def with_channels(self, audio: np.ndarray) -> np.ndarray:
        """Drop the channel axis of mono audio (batch, channels, samples)."""
        return audio[:, 0] if self.facts.channels == 1 else audio


class Synthesis(ABC):
    """Synthesis of a batch of utterances whose frames come in one or several calls.

    Attributes:
        frames: number of frames taken.
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

        Args:
            mel: float32 (batch, n_mels, frames), also of 0 frames.
            signals: float32 (batch, channels, length) for each name in ``given``.
            last: whether the utterances end with these frames.

        Returns:
            float32 (batch, samples) or (batch, channels, samples), perhaps of 0 samples.

        Raises:
            VocoderError: when the audio is not finite.
        """
        audio = self._advance(mel, signals_of(self.facts.inputs, signals or {}), last)
        self.frames += mel.shape[-1]
        return self.backend.with_channels(check_finite(audio))

    @abstractmethod
    def _advance(self, mel: np.ndarray, signals: Values, last: bool) -> np.ndarray:
        """Implement ``advance``: audio (batch, channels, samples). ``frames`` does not count the new frames yet."""

    def nothing(self) -> np.ndarray:
        """Return audio of no samples."""
        return np.empty((len(self.seeds), self.facts.channels, 0), np.float32)

    def drawn(self, first: int, end: int) -> Values:
        """Draw the random inputs of the frames ``first`` to ``end``: (batch or 1, 1, samples)."""
        size = self.facts.samples_per_frame
        return draw(self.facts.inputs, self.given, first * size, end * size, self.seeds)

    def drawn_for_items(self, first: int, end: int) -> Values:
        """Draw them for each item, (batch, 1, samples)."""
        drawn = self.drawn(first, end).items()
        return {name: np.array(np.broadcast_to(x, (len(self.seeds), *x.shape[1:]))) for name, x in drawn}

    def unknown(self, frames: int) -> Values:
        """Return UNKNOWN for each input that is to be estimated: (batch, 1, frames)."""
        wanted = (item for item in self.facts.inputs if item.name in self.facts.estimated)
        shape = len(self.seeds), 1, frames
        return {item.name: np.full(shape, UNKNOWN, np.float32) for item in wanted if item.name not in self.given}


def check_precision(precision: str) -> None:
    """Raise VocoderError for an unknown precision."""
    if precision not in get_args(Precision):
        raise VocoderError(f"unknown precision {precision!r}; known: {', '.join(get_args(Precision))}")


def check_backend(backend: str) -> None:
    """Raise VocoderError for an unknown backend."""
    if backend not in get_args(BackendName):
        raise VocoderError(f"unknown backend {backend!r}; known: {', '.join(get_args(BackendName))}")


def check_finite(audio: np.ndarray) -> np.ndarray:
    """Return audio; VocoderError when it is not finite."""
    if not np.isfinite(audio).all():
        raise VocoderError(
            "the model's output is not finite: the mel's values are out of all range, or the model is damaged"
        )
    return audio
