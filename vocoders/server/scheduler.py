"""The scheduler: many utterances share one thread that runs the models.

The thread works in steps: one chunk of one utterance, a few seconds of audio at most, or several short utterances of a
model in one batch. After each step the scheduler chooses the next:

- Streams, whose audio is sent while it is computed, and whole requests wait in two queues, which alternate.
- Within a queue the first utterance gets one step and, if it needs more, goes to the end, so a mel of ten minutes
  delays the others by one step at a time.
- An utterance whose client has gone is dropped before its next step; a stream waits while its client is behind.

The number of utterances and their memory are bounded; beyond that a request is refused with ``Busy``. All but
``_synthesize`` runs on the event loop, so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vocoders.errors import VocoderError
from vocoders.server.metrics import Metrics
from vocoders.server.registry import ServedModel
from vocoders.server.utterance import Step, Utterance

# Bytes of bodies, mels and audio that all utterances may hold. A single one may hold more, if the limits allow.
MAX_MEMORY = 512 * 2**20

# Default of ``max_batch`` where a batch is faster than one utterance after the other.
DEFAULT_BATCH = 8

log = logging.getLogger("uvicorn.error")  # the logger that uvicorn uses


class Busy(Exception):
    """Refusal because the server is full or shuts down; the client may try again after ``retry_after`` s."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(f"{reason}; try again in {retry_after} s")
        self.retry_after = retry_after


class Scheduler:
    """Admit utterances and decide which is synthesised next.

    Attributes:
        max_requests: most utterances at a time, waiting ones and those whose audio is being sent included.
        closing: whether the server is shutting down; then no utterance is admitted.

    Args:
        max_requests: see above.
        max_batch: most utterances in one batch; None for 8 where batching is faster, else 1.
        metrics: the metrics of the server.
    """

    def __init__(self, max_requests: int, max_batch: int | None, metrics: Metrics) -> None:
        self.max_requests = max_requests
        self.closing = False
        self._metrics = metrics
        self._max_batch = max_batch
        self._utterances: set[Utterance] = set()
        self._decoding = 0  # bytes
        self._whole: deque[Utterance] = deque()
        self._streams: deque[Utterance] = deque()
        self._work = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "synthesis")
        self._seconds_per_frame = 0.0  # measured

    @property
    def active_requests(self) -> int:
        """Utterances that were admitted and not yet closed."""
        return len(self._utterances)

    @property
    def reserved(self) -> int:
        """Bytes that all utterances hold, and the decoding of their bodies."""
        return self._decoding + sum(utterance.reserved for utterance in self._utterances)

    def admit(self, model: ServedModel, seed: int, stream: bool) -> Utterance:
        """Admit an utterance, which the caller must close.

        Raises:
            Busy: when there are ``max_requests`` already, or when the server is shutting down.
        """
        if self.closing:
            raise Busy("the server is shutting down", retry_after=5)
        if self.active_requests >= self.max_requests:
            raise Busy(f"the server has {self.max_requests} requests, its limit", self._seconds_to_wait())
        utterance = Utterance(model, seed, stream, on_ready=self._enqueue, on_close=self._release)
        self._utterances.add(utterance)
        self._metrics.set_active_requests(self.active_requests)
        return utterance

    def reserve(self, utterance: Utterance, size: int) -> None:
        """Reserve ``size`` bytes in all for an utterance; raises Busy when all would hold more than ``MAX_MEMORY``."""
        self._check_room(utterance, size)
        utterance.reserved = size

    @contextlib.contextmanager
    def decoding(self, utterance: Utterance, size: int) -> Iterator[None]:
        """Reserve ``size`` more bytes for decoding a body, which may outlast its request; raises Busy."""
        self._check_room(utterance, utterance.reserved + size)
        self._decoding += size
        try:
            yield
        finally:
            self._decoding -= size

    def _check_room(self, utterance: Utterance, size: int) -> None:
        others = self.reserved - utterance.reserved
        if others and others + size > MAX_MEMORY:
            reason = f"requests hold {others / 2**20:.0f} MiB and leave no room for this one"
            raise Busy(reason, self._seconds_to_wait())

    def _seconds_to_wait(self) -> int:
        """Estimate the seconds until the frames that wait now are synthesised."""
        waiting = sum(utterance.frames_waiting for utterance in self._utterances)
        return min(60, max(1, math.ceil(waiting * self._seconds_per_frame)))

    def _release(self, utterance: Utterance) -> None:
        self._utterances.discard(utterance)
        self._metrics.set_active_requests(self.active_requests)

    def _enqueue(self, utterance: Utterance) -> None:
        """Put an utterance in its queue, if it is ready and not in it."""
        queue = self._streams if utterance.stream else self._whole
        if utterance.ready and utterance not in queue:
            queue.append(utterance)
            self._work.set()

    async def run(self) -> None:
        """Synthesise what is admitted, until cancelled."""
        loop = asyncio.get_running_loop()
        first, second = self._streams, self._whole
        try:
            while True:
                steps = self._next_steps(first) or self._next_steps(second)
                if not steps:
                    self._work.clear()
                    await self._work.wait()
                    continue
                streams = steps[0].utterance.stream
                first, second = (self._whole, self._streams) if streams else (self._streams, self._whole)
                begin = time.perf_counter()
                results = await loop.run_in_executor(self._thread, _synthesize, steps)
                self._record(steps, time.perf_counter() - begin)
                for step, result in zip(steps, results, strict=True):
                    if isinstance(result, Exception):
                        step.utterance.fail(result)
                    else:
                        step.utterance.deliver(result, step.last)
                        self._enqueue(step.utterance)
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _next_steps(self, queue: deque[Utterance]) -> list[Step]:
        """Take the next step of a queue, and those that can be computed with it as a batch."""
        steps: list[Step] = []
        while queue:
            utterance = queue[0]
            if not utterance.ready:  # closed, or its client is behind
                queue.popleft()
                continue
            batch = self._batch_limit(utterance)
            if steps and (len(steps) >= batch or utterance.model is not steps[0].utterance.model):
                break
            try:
                steps.append(queue.popleft().next_step())
            except Exception as error:  # opening a stream failed, which must not stop the others
                utterance.fail(error)
            if steps and batch == 1:
                break
        return steps

    def _batch_limit(self, utterance: Utterance) -> int:
        """Return the most utterances that a batch with this one may have."""
        if not utterance.fits_one_step:
            return 1
        return self._max_batch or (DEFAULT_BATCH if utterance.model.vocoder.batching_pays else 1)

    def _record(self, steps: list[Step], seconds: float) -> None:
        frames = sum(len(step.frames) for step in steps)
        if frames:
            latest = seconds / frames
            self._seconds_per_frame += (latest - self._seconds_per_frame) * (0.1 if self._seconds_per_frame else 1.0)
        self._metrics.record_synthesis(len(steps), seconds, sum(step.seconds for step in steps))


def _synthesize(steps: list[Step]) -> list[np.ndarray | Exception]:
    """Compute steps, in the synthesis thread.

    Args:
        steps: one step, or several whole utterances of one model.

    Returns:
        The audio of each step, float32 (samples,) or (channels, samples), or the error that it raised.
    """
    if len(steps) > 1:
        try:
            return list(_synthesize_whole(steps))
        except VocoderError:
            pass  # caused by one of them; one by one, each gets its own result
        except Exception:
            log.exception("a batch of %d utterances failed; they are synthesised one by one", len(steps))
    return [_synthesize_one(step) for step in steps]


def _synthesize_one(step: Step) -> np.ndarray | Exception:
    try:
        if step.stream is None:
            return _synthesize_whole([step])[0]
        pieces = []
        if len(step.frames):
            pieces.append(step.stream.push(step.frames.mel, **step.frames.signals))
        if step.last:
            pieces.append(step.stream.finish())
        return np.concatenate(pieces, -1)
    except VocoderError as error:
        return error
    except Exception as error:  # a bug must not stop the thread
        log.exception("synthesis failed")
        return error


def _synthesize_whole(steps: list[Step]) -> list[np.ndarray]:
    """Synthesise whole utterances of one model."""
    mels = [step.frames.mel for step in steps]
    values = [step.frames.signals | step.utterance.constants for step in steps]
    inputs = {name: [given.get(name) for given in values] for name in set().union(*values)}
    seeds = [step.utterance.seed for step in steps]
    return steps[0].utterance.model.vocoder.synthesize_batch(mels, seeds=seeds, **inputs)
