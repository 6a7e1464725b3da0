"""One utterance: waiting frames and waiting audio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vocoders.inference.stream import Stream
from vocoders.inputs import Values
from vocoders.server.registry import ServedModel

# Short, so that the audio of a stream begins soon.
FIRST_STEP_FRAMES = 64

# Limits per stream: frames before synthesis, pieces of audio after it.
MAX_FRAMES_WAITING = 1024
MAX_PIECES_WAITING = 4


@dataclass(frozen=True)
class Frames:
    """Consecutive frames.

    Attributes:
        mel: float32 (n_mels, frames).
        signals: given inputs, (1, channels, length) by name.
    """

    mel: np.ndarray
    signals: Values = field(default_factory=dict)

    def __len__(self) -> int:
        frames: int = self.mel.shape[1]
        return frames

    def split(self, count: int) -> tuple[Frames, Frames]:
        """Split after ``count`` frames."""
        columns = {name: value.shape[-1] * count // len(self) for name, value in self.signals.items()}
        first = {name: value[..., : columns[name]] for name, value in self.signals.items()}
        rest = {name: value[..., columns[name] :] for name, value in self.signals.items()}
        return Frames(self.mel[:, :count], first), Frames(self.mel[:, count:], rest)

    @classmethod
    def join(cls, pieces: Sequence[Frames]) -> Frames:
        if len(pieces) == 1:
            return pieces[0]
        names = pieces[0].signals
        signals = {name: np.concatenate([piece.signals[name] for piece in pieces], axis=-1) for name in names}
        return cls(np.concatenate([piece.mel for piece in pieces], axis=1), signals)


@dataclass(frozen=True)
class Step:
    """The part of an utterance computed at once.

    Attributes:
        frames: the next frames; none at a stream's end.
        stream: the stream; None for a whole utterance.
        last: whether the utterance ends here.
    """

    utterance: Utterance
    frames: Frames
    stream: Stream | None
    last: bool

    @property
    def seconds(self) -> float:
        return self.utterance.model.seconds(len(self.frames))


class Utterance:
    """The mel of a request, waiting for the synthesis, and its audio, waiting for the client.

    The route calls ``push`` and ``finish``, reads ``audio``, and always calls ``close``. The scheduler calls
    ``next_step`` while ``ready``, then ``deliver`` or ``fail``. All run on the event loop.

    Attributes:
        stream: whether audio is sent while computed.
        reserved: bytes reserved by the scheduler.
        frames_waiting: frames to be synthesised.
        constants: utterance-rate inputs, (1, channels, 1) by name.
    """

    def __init__(
        self,
        model: ServedModel,
        seed: int,
        stream: bool,
        on_ready: Callable[[Utterance], None],
        on_close: Callable[[Utterance], None],
    ) -> None:
        self.model = model
        self.seed = seed
        self.stream = stream
        self.reserved = 0
        self.frames_waiting = 0
        self.constants: dict[str, Any] = {}
        self._on_ready = on_ready
        self._on_close = on_close
        self._frames: deque[Frames] = deque()
        self._frames_taken = 0  # by steps
        self._complete = False  # no more frames will come
        self._finished = False  # no more audio will come
        self._stream: Stream | None = None
        self._audio: deque[np.ndarray] = deque()
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    def push(self, mel: np.ndarray, signals: Values | None = None) -> None:
        """Add a mel (n_mels, frames) and ``signals`` (1, channels, length), the same names in all calls."""
        self._frames.append(Frames(mel, signals or {}))
        self.frames_waiting += mel.shape[1]
        self._on_ready(self)

    def finish(self) -> None:
        """Mark the frames as complete."""
        self._complete = True
        self._on_ready(self)

    async def wait_for_room(self) -> None:
        """Wait until at most ``MAX_FRAMES_WAITING`` frames wait."""
        while self.frames_waiting > MAX_FRAMES_WAITING and not self._finished:
            await self._change()

    async def audio(self) -> AsyncIterator[np.ndarray]:
        """Yield audio, float32 (samples,) or (channels, samples), or raise the error of a step."""
        while True:
            while not self._audio and not self._finished:
                await self._change()
            if self._audio:
                piece = self._audio.popleft()
                self._on_ready(self)  # the synthesis may wait for the client
                yield piece
            elif self._error is not None:
                raise self._error
            else:
                return

    def close(self) -> None:
        """Drop all frames and audio."""
        self._finished = True
        self._frames.clear()
        self._audio.clear()
        self._stream = None
        self._changed.set()
        self._on_close(self)

    @property
    def ready(self) -> bool:
        """Whether there is a step to compute."""
        if self._finished or (self.stream and len(self._audio) >= MAX_PIECES_WAITING):
            return False
        return self.frames_waiting > 0 or self._complete

    @property
    def fits_one_step(self) -> bool:
        """Whether one step without a stream is enough."""
        limit = self.model.vocoder.frames_at_once
        untouched = self._complete and not self.stream and self._frames_taken == 0
        return untouched and (limit is None or self.frames_waiting <= limit)

    def next_step(self) -> Step:
        """Take the frames of the next step."""
        limit = self.frames_waiting
        if not self.fits_one_step:
            if self._stream is None:
                given = tuple(self._frames[0].signals) if self._frames else ()
                self._stream = self.model.vocoder.open_stream(self.seed, given, **self.constants)
            limit = self.model.vocoder.chunk_frames or limit
            if self.stream:
                limit = min(limit, max(FIRST_STEP_FRAMES, self._frames_taken))
        frames = self._take(limit)
        return Step(self, frames, self._stream, last=self._complete and not self._frames)

    def _take(self, limit: int) -> Frames:
        """Take at most ``limit`` waiting frames."""
        taken: list[Frames] = []
        count = 0
        while self._frames and count < limit:
            piece = self._frames.popleft()
            if count + len(piece) > limit:
                piece, rest = piece.split(limit - count)
                self._frames.appendleft(rest)
            taken.append(piece)
            count += len(piece)
        self.frames_waiting -= count
        self._frames_taken += count
        return Frames.join(taken or [Frames(np.empty((self.model.mel_config.n_mels, 0), np.float32))])

    def deliver(self, audio: np.ndarray, last: bool) -> None:
        """Take the audio of a step, float32 (samples,) or (channels, samples)."""
        if not self._finished:  # else closed meanwhile
            if audio.shape[-1]:
                self._audio.append(audio)
            self._finished = last
            self._changed.set()

    def fail(self, error: Exception) -> None:
        """End the utterance with an error, which ``audio`` raises."""
        if not self._finished:
            self._error, self._finished = error, True
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
