"""The scheduler: many utterances share one thread that runs the models.

The thread works in steps: a chunk of one utterance, a few seconds at most, or a batch of short utterances of a model.
After each step:

- Streams (audio sent while computed) and whole requests have two queues, which alternate.
- The first utterance of a queue gets one step, then goes to the end.
- An utterance whose client has gone is dropped; a stream waits while its client is behind.

Beyond limits of number and memory, utterances are refused with ``Busy``. All but ``_synthesize`` runs on the event
loop, without locks.
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

# Bytes of all utterances; a single one may exceed it, if the limits allow.
MAX_MEMORY = 512 * 2**20

# ``max_batch`` where batching is faster.
DEFAULT_BATCH = 8

log = logging.getLogger("uvicorn.error")  # uvicorn's logger


class Busy(Exception):
    """Refusal by a full or closing server; retry after ``retry_after`` s."""

    def __init__(self, reason: str, retry_after: int) -> None:
        super().__init__(f"{reason}; try again in {retry_after} s")
        self.retry_after = retry_after


class Scheduler:
    """Admit utterances and choose the next one to synthesise.

    Attributes:
        max_requests: most open utterances.
        closing: whether the server shuts down.
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
        """Number of open utterances."""
        return len(self._utterances)

    @property
    def reserved(self) -> int:
        """Bytes of all utterances and of decoding."""
        return self._decoding + sum(utterance.reserved for utterance in self._utterances)

    def admit(self, model: ServedModel, seed: int, stream: bool) -> Utterance:
        """Admit an utterance, to be closed by the caller; raise Busy."""
        if self.closing:
            raise Busy("the server is shutting down", retry_after=5)
        if self.active_requests >= self.max_requests:
            raise Busy(f"the server has {self.max_requests} requests, its limit", self._seconds_to_wait())
        utterance = Utterance(model, seed, stream, on_ready=self._enqueue, on_close=self._release)
        self._utterances.add(utterance)
        self._metrics.set_active_requests(self.active_requests)
        return utterance

    def reserve(self, utterance: Utterance, size: int) -> None:
        """Reserve ``size`` bytes in total for an utterance; raise Busy."""
        self._check_room(utterance, size)
        utterance.reserved = size

    @contextlib.contextmanager
    def decoding(self, utterance: Utterance, size: int) -> Iterator[None]:
        """Reserve ``size`` more bytes for decoding, which may outlast the request; raise Busy."""
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
        """Estimate the seconds until all waiting frames are done."""
        waiting = sum(utterance.frames_waiting for utterance in self._utterances)
        return min(60, max(1, math.ceil(waiting * self._seconds_per_frame)))

    def _release(self, utterance: Utterance) -> None:
        self._utterances.discard(utterance)
        self._metrics.set_active_requests(self.active_requests)

    def _enqueue(self, utterance: Utterance) -> None:
        """Queue an utterance if it is ready and not queued."""
        queue = self._streams if utterance.stream else self._whole
        if utterance.ready and utterance not in queue:
            queue.append(utterance)
            self._work.set()

    async def run(self) -> None:
        """Synthesise admitted utterances until cancelled."""
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
        """Take the next step of a queue, with others for its batch."""
        steps: list[Step] = []
        while queue:
            utterance = queue[0]
            if not utterance.ready:  # closed, or client behind
                queue.popleft()
                continue
            batch = self._batch_limit(utterance)
            if steps and (len(steps) >= batch or utterance.model is not steps[0].utterance.model):
                break
            try:
                steps.append(queue.popleft().next_step())
            except Exception as error:  # a failed stream must not stop the others
                utterance.fail(error)
            if steps and batch == 1:
                break
        return steps

    def _batch_limit(self, utterance: Utterance) -> int:
        """Return the largest batch with this utterance."""
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
    """Compute one step, or several whole utterances of a model, in the synthesis thread.

    Returns float32 (samples,) or (channels, samples) per step, or its error.
    """
    if len(steps) > 1:
        try:
            return list(_synthesize_whole(steps))
        except VocoderError:
            pass  # one failed; run each alone
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
    mels = [step.frames.mel for step in steps]
    values = [step.frames.signals | step.utterance.constants for step in steps]
    inputs = {name: [given.get(name) for given in values] for name in set().union(*values)}
    seeds = [step.utterance.seed for step in steps]
    return steps[0].utterance.model.vocoder.synthesize_batch(mels, seeds=seeds, **inputs)
