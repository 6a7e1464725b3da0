"""Interface of a backend: facts about its model, and a synthesis that takes frames piece by piece.

``Vocoder`` implements it with torch, ``OnnxVocoder`` with ONNX Runtime. Everything else is written once on top of it:
``BaseVocoder`` and ``Stream``. Nothing here imports torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from vocoders.dsp.mel import MelConfig
from vocoders.dsp.noise import white_noise
from vocoders.errors import VocoderError

BackendName = Literal["onnx", "torch"]
Precision = Literal["float32", "bfloat16"]


class Backend(ABC):
    """A model that can be run.

    Attributes:
        name: the name given to ``load``.
        mel_config: the mel config of the mels it takes.
        training: how the model was made: the recipe, steps, data, figures.
        stated_lag: that of the checkpoint, see ``Checkpoint``.
        precision: floating-point type in which the generator multiplies.
        backend: what runs it, "torch" or "onnx".
    """

    name: str
    mel_config: MelConfig
    training: dict[str, Any]
    stated_lag: int | None
    precision: Precision
    backend: ClassVar[BackendName]

    @property
    @abstractmethod
    def architecture(self) -> tuple[str, dict[str, Any]]:
        """Name of the generator in ``GENERATORS``, and its configuration."""

    @property
    @abstractmethod
    def uses_f0(self) -> bool:
        """Whether the generator needs F0."""

    @property
    @abstractmethod
    def uses_noise(self) -> bool:
        """Whether the generator starts from noise, which depends on a seed."""

    @property
    @abstractmethod
    def estimates_f0(self) -> bool:
        """Whether the model estimates F0 from the mel where it needs F0 and none is given."""

    @property
    @abstractmethod
    def receptive_field(self) -> int | None:
        """Frames on each side that a frame of audio depends on; None for the whole utterance."""

    @property
    @abstractmethod
    def f0_receptive_field(self) -> int:
        """Frames on each side that an estimate of F0 depends on; 0 for a model that estimates none."""

    @property
    @abstractmethod
    def next_f0_share(self) -> float:
        """Share of the next frame's F0 in the mean F0 of a frame; see ``Generator``."""

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

    def check_f0(self, given: bool) -> None:
        """Check that the model gets the F0 it needs.

        Args:
            given: whether the caller gives F0.

        Raises:
            VocoderError: when the model needs F0 and it is neither given nor estimated.
        """
        if self.uses_f0 and not (given or self.estimates_f0):
            raise VocoderError("this model needs f0 and has no estimator of its own; pass f0, in Hz per frame")

    @abstractmethod
    def start(self, seeds: Sequence[int], given_f0: bool = False) -> Synthesis:
        """Start the synthesis of a batch of utterances of one length.

        Args:
            seeds: seed of the noise for each utterance.
            given_f0: whether F0 will be given for all frames, and not estimated.

        Raises:
            VocoderError: when the model needs F0 and it is neither given nor estimated.
        """

    @abstractmethod
    def run(
        self, mel: np.ndarray, f0: np.ndarray, noise: np.ndarray | None, phase: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run the networks once.

        Args:
            mel: float32 (batch, n_mels, frames). What the model does not use is ignored.
            f0: float32 (batch, 1, frames) in Hz, 0 = unvoiced, negative where it is to be estimated.
            noise: float32 (batch, 1, frames * hop_length), standard normal; for generators that use noise.
            phase: phase of the first harmonic at the first sample, float64 (batch, 1, 1), in cycles.

        Returns:
            The audio, float32 (batch, 1, frames * hop_length), and the F0 that was used, (batch, 1, frames).
        """

    def phase_after(self, f0: np.ndarray, phase: np.ndarray, count: int) -> np.ndarray:
        """Compute the phase of the first harmonic after ``count`` frames of F0, from that before them; as for ``run``.

        F0 holds for one frame more where ``next_f0_share`` is not 0.
        """
        f0 = f0.astype(np.float64)
        f0 += self.next_f0_share * np.diff(f0, append=f0[..., -1:])
        cycles = f0[..., :count] * self.mel_config.hop_length / self.mel_config.sample_rate
        return (phase + cycles.sum(2, keepdims=True)) % 1.0


class Synthesis(ABC):
    """Synthesis of a batch of utterances whose frames come in one or several calls.

    Attributes:
        frames: number of frames that have come.
    """

    def __init__(self, backend: Backend, seeds: Sequence[int], given_f0: bool) -> None:
        backend.check_f0(given_f0)
        self.seeds = list(seeds)
        self.given_f0 = given_f0
        self.frames = 0
        self.hop_length = backend.mel_config.hop_length

    def advance(self, mel: np.ndarray, f0: np.ndarray | None = None, last: bool = False) -> np.ndarray:
        """Take the next frames and return all audio that is final now.

        Many frames are synthesised in ``pieces``, so that beside the audio no memory grows with their number.

        Args:
            mel: float32 (batch, n_mels, frames), of any number of frames, also 0.
            f0: float32 (batch, 1, frames) in Hz when F0 is given, else None.
            last: whether the utterances end with these frames.

        Returns:
            float32 (batch, samples); samples may be 0.

        Raises:
            VocoderError: when the audio is not finite.
        """
        audio = self._advance(mel, f0, last)
        self.frames += mel.shape[-1]
        return check_finite(audio)

    @abstractmethod
    def _advance(self, mel: np.ndarray, f0: np.ndarray | None, last: bool) -> np.ndarray:
        """Implement ``advance`` without its check. ``frames`` does not count the new frames yet."""

    def noise(self, first: int, end: int) -> np.ndarray:
        """Return the noise for the frames ``first`` to ``end``.

        float32 (batch, 1, samples), or (1, 1, samples) when all seeds are the same.
        """
        seeds = self.seeds if len(set(self.seeds)) > 1 else self.seeds[:1]
        start, stop = first * self.hop_length, end * self.hop_length
        return np.stack([white_noise(start, stop, seed)[None] for seed in seeds])

    def noise_of_items(self, first: int, end: int) -> np.ndarray:
        """Return the noise for the frames ``first`` to ``end`` of each item, float32 (batch, 1, samples)."""
        noise = self.noise(first, end)
        return np.array(np.broadcast_to(noise, (len(self.seeds), *noise.shape[1:])))


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
