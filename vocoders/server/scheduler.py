"""Whose turn it is: a bounded number of utterances share one thread that owns the models.

The thread works in turns of a few seconds of audio at most. Utterances that somebody listens to while they are computed
("live") and whole ones take turns with each other, and within each kind everyone is served in a circle, so that a mel
of ten minutes keeps nobody waiting for long, and what is no longer wanted is dropped before its next turn. Whole
utterances that wait together may share a turn, as one batch.

Everything here but ``_synthesize`` runs on the event loop, so that nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vocoders.errors import VocoderError
from vocoders.server.metrics import Metrics
from vocoders.server.registry import Voice

if TYPE_CHECKING:  # an exported model is served without torch
    from vocoders.inference.stream import Stream

# A turn is a chunk of the model: as many frames as it takes to be fast. A whole utterance of up to twice as many is
# synthesised in one go. The first turns of a live one are shorter.
FIRST_TURN_FRAMES = 64

# How far the frames of a live utterance may be ahead of its synthesis, and its synthesis of who listens.
MOST_FRAMES_AHEAD = 1024
MOST_PIECES_AHEAD = 4

# Bytes of bodies, mels and audio that all utterances may hold together. One alone may hold more, its limits permitting.
ROOM = 512 * 2**20

log = logging.getLogger("uvicorn.error")  # beside uvicorn's own lines


class Busy(Exception):
    """No room for one more utterance."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(f"{reason}; try again in {retry_after} s")
        self.retry_after = retry_after  # seconds


class Utterance:
    """One request on its way: frames go in, audio comes out. ``close`` frees its place, whatever became of it."""

    def __init__(self, scheduler: Scheduler, voice: Voice, seed: int, live: bool) -> None:
        self.voice = voice
        self.seed = seed
        self.live = live
        self.done = 0  # frames
        self.waiting = 0  # frames
        self.size = 0  # bytes that it holds at most
        self._scheduler = scheduler
        self._frames: deque[np.ndarray] = deque()
        self._complete = False  # no more frames will come
        self._finished = False  # no more audio will come
        self._stream: Stream | None = None
        self._audio: deque[np.ndarray] = deque()
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    def claim(self, size: int) -> None:
        """Hold up to ``size`` bytes. Raises Busy when all utterances together would hold too many."""
        self._scheduler._check_room(self, size)
        self.size = size

    def feed(self, mel: np.ndarray) -> None:
        """More frames, float32 (n_mels, frames)."""
        self._frames.append(mel)
        self.waiting += mel.shape[1]
        self._scheduler._offer(self)

    async def caught_up(self) -> None:
        """When few enough frames wait that more may come."""
        while self.waiting > MOST_FRAMES_AHEAD and not self._finished:
            await self._change()

    def end(self) -> None:
        """No more frames will come."""
        self._complete = True
        self._scheduler._offer(self)

    async def audio(self) -> AsyncIterator[np.ndarray]:
        """float32 (samples,), piece by piece. Raises what the synthesis raised."""
        while True:
            while not self._audio and not self._finished:
                await self._change()
            if self._audio:
                piece = self._audio.popleft()
                self._scheduler._offer(self)  # it may have waited for its listener
                yield piece
            elif self._error is not None:
                raise self._error
            else:
                return

    def close(self) -> None:
        """Its frames, its audio and its place are free; what is being computed is not delivered."""
        self._finished = True
        self._frames.clear()
        self._audio.clear()
        self._stream = None
        self._scheduler._utterances.discard(self)
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    @property
    def ready(self) -> bool:
        """Whether a turn would bring it on."""
        if self._finished or (self.live and len(self._audio) >= MOST_PIECES_AHEAD):
            return False
        return self.waiting > 0 or self._complete

    @property
    def short(self) -> bool:
        """Whether one turn does it all, without a stream."""
        most = 2 * (self.voice.vocoder.chunk_frames or self.waiting)
        return self._complete and not self.live and self.done == 0 and self.waiting <= most

    def _take(self) -> Turn:
        """What its next turn is to do."""
        if self.short:
            most = self.waiting
        else:
            self._stream = self._stream or self.voice.stream(self.seed)
            most = self.voice.vocoder.chunk_frames
            if self.live:
                most = min(most, max(FIRST_TURN_FRAMES, self.done))
        taken, count = [], 0
        while self._frames and count < most:
            piece = self._frames.popleft()
            if count + piece.shape[1] > most:
                self._frames.appendleft(piece[:, most - count :])
                piece = piece[:, : most - count]
            taken.append(piece)
            count += piece.shape[1]
        self.waiting -= count
        self.done += count
        return Turn(self, self._stream, taken, last=self._complete and not self._frames)

    def _deliver(self, audio: np.ndarray, last: bool) -> None:
        if not self._finished:  # closed meanwhile
            if len(audio):
                self._audio.append(audio)
            self._finished = last
            self._changed.set()

    def _fail(self, error: Exception) -> None:
        if not self._finished:
            self._error, self._finished = error, True
            self._changed.set()


@dataclass(frozen=True)
class Turn:
    """What the thread computes of an utterance at a time: all of it, where there is no stream."""

    utterance: Utterance
    stream: Stream | None
    pieces: list[np.ndarray]
    last: bool

    @property
    def frames(self) -> int:
        return sum(piece.shape[1] for piece in self.pieces)

    def mel(self) -> np.ndarray:
        return self.pieces[0] if len(self.pieces) == 1 else np.concatenate(self.pieces, axis=1)


class Scheduler:
    """Admits utterances and gives them turns.

    Args:
        places: utterances at a time, waiting ones and those whose audio is still being fetched included.
        batch: whole utterances in one turn, at most.
    """

    def __init__(self, places: int, batch: int, metrics: Metrics) -> None:
        self.places = places
        self.batch = batch
        self.metrics = metrics
        self.closing = False  # no new ones are admitted
        self._utterances: set[Utterance] = set()
        self._circles: list[deque[Utterance]] = [deque(), deque()]  # whole ones, live ones
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "synthesis")
        self._seconds_per_frame = 0.0  # measured

    def __len__(self) -> int:
        return len(self._utterances)

    def admit(self, voice: Voice, seed: int, live: bool, size: int = 0) -> Utterance:
        """A new utterance that holds ``size`` bytes, to be closed by the caller. Raises Busy."""
        if self.closing:
            raise Busy("the server is shutting down", retry_after=5)
        if len(self._utterances) >= self.places:
            raise Busy(f"all {self.places} places are taken", self._wait())
        utterance = Utterance(self, voice, seed, live)
        utterance.claim(size)
        self._utterances.add(utterance)
        return utterance

    def _check_room(self, utterance: Utterance, size: int) -> None:
        others = sum(other.size for other in self._utterances if other is not utterance)
        if others and others + size > ROOM:
            raise Busy(f"requests hold {others / 2**20:.0f} MiB and leave no room for this one", self._wait())

    def _wait(self) -> int:
        """Seconds until what waits now will be done, about."""
        waiting = sum(utterance.waiting for utterance in self._utterances)
        return min(60, max(1, math.ceil(waiting * self._seconds_per_frame)))

    def _offer(self, utterance: Utterance) -> None:
        """Put an utterance in the circle, if it is ready and not in it."""
        circle = self._circles[utterance.live]
        if utterance.ready and utterance not in circle:
            circle.append(utterance)
            self._wake.set()

    async def run(self) -> None:
        """Give turns until cancelled."""
        loop = asyncio.get_running_loop()
        live = False  # whose turn was the last one
        try:
            while True:
                turns = self._next(self._circles[not live]) or self._next(self._circles[live])
                if not turns:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                live = turns[0].utterance.live
                begin = time.perf_counter()
                outcomes = await loop.run_in_executor(self._thread, _synthesize, turns)
                self._account(turns, time.perf_counter() - begin)
                for turn, outcome in zip(turns, outcomes, strict=True):
                    if isinstance(outcome, Exception):
                        turn.utterance._fail(outcome)
                    else:
                        turn.utterance._deliver(outcome, turn.last)
                        self._offer(turn.utterance)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _next(self, circle: deque[Utterance]) -> list[Turn]:
        """The turns to compute together: of the next utterance in the circle, and of those that fit beside it."""
        turns: list[Turn] = []
        while circle and len(turns) < self.batch:
            utterance = circle[0]
            if utterance.ready:
                alone = self.batch == 1 or not (utterance.short and utterance.voice.batches)
                if turns and (alone or utterance.voice is not turns[0].utterance.voice):
                    break
                turns.append(utterance._take())
                circle.popleft()
                if alone:
                    break
            else:
                circle.popleft()
        return turns

    def _account(self, turns: list[Turn], seconds: float) -> None:
        frames = sum(turn.frames for turn in turns)
        if frames:
            latest = seconds / frames
            self._seconds_per_frame += (latest - self._seconds_per_frame) * (0.1 if self._seconds_per_frame else 1.0)
        mel_config = turns[0].utterance.voice.mel_config
        self.metrics.turn(len(turns), seconds, frames * mel_config.hop_length / mel_config.sample_rate)


def _synthesize(turns: list[Turn]) -> list[np.ndarray | Exception]:
    """The audio of each turn, float32 (samples,), or why there is none. In the thread of the models."""
    if len(turns) > 1:
        try:
            mels, seeds = [turn.mel() for turn in turns], [turn.utterance.seed for turn in turns]
            return list(turns[0].utterance.voice.vocoder.synthesize_batch(mels, seeds=seeds))
        except VocoderError:
            pass  # of one of them; alone, each hears its own
        except Exception:
            log.exception("a batch of %d failed; now one by one", len(turns))
    return [_alone(turn) for turn in turns]


def _alone(turn: Turn) -> np.ndarray | Exception:
    try:
        if turn.stream is None:
            audio: np.ndarray = turn.utterance.voice.vocoder(turn.mel(), seed=turn.utterance.seed)
            return audio
        pieces = [turn.stream.push(turn.mel())] if turn.pieces else []
        if turn.last:
            pieces.append(turn.stream.finish())
        return np.concatenate(pieces)
    except VocoderError as error:
        return error
    except Exception as error:  # a defect of ours must not stop the thread
        log.exception("synthesis failed")
        return error
