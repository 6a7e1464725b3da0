"""Measure speed, latency and memory of a model, for ``vocoders bench``."""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vocoders.inference.base import BaseVocoder
from vocoders.inputs import constants_of

if TYPE_CHECKING:  # it imports torch, which exported models do not need
    from vocoders.generators.base import Generator

PUSH_FRAMES = 16
_STATUS = Path("/proc/self/status")  # on Linux


def bench(voc: BaseVocoder, device: str, seconds: float, runs: int, batch: int) -> dict[str, Any]:
    """Measure a model with ``batch`` utterances of ``seconds``; times are medians of ``runs``.

    x_real_time: audio per second, summed over the batch. first_audio_ms: computing time to a stream's first audio,
    lookahead_ms: duration of the frames pushed by then; None without streaming. memory_mib: see ``peak_memory``.
    """
    mel_config = voc.mel_config
    frames = max(1, round(seconds * mel_config.sample_rate / mel_config.hop_length))
    rng = np.random.default_rng(0)
    mel = rng.normal(mel_config.log_floor / 2, 0.5, (batch, mel_config.n_mels, frames)).astype(np.float32)
    inputs = voc.plain_inputs(batch, frames)
    duration = median_time(lambda: voc(mel, **inputs), runs)
    audio = batch * frames * voc.facts.samples_per_frame / voc.sample_rate
    return {
        "x_real_time": audio / duration,
        **latency(voc, mel[0], runs),
        "memory_mib": peak_memory(device),
    }


def utilization(generator: Generator, x_real_time: float, device: str) -> dict[str, Any]:
    """Compare a model's multiply-accumulates, in 10^9 (GMAC) per second, with those of large float32 matrix products.

    share_of_matrix_rate exceeds 1 where convolutions have faster kernels.
    """
    from vocoders.complexity import macs_per_second

    work = macs_per_second(generator) / 1e9
    rate, highest = work * x_real_time, matrix_rate(device)
    return {
        "gmac_per_second_of_audio": work,
        "gmac_per_second": rate,
        "matrix_gmac_per_second": highest,
        "share_of_matrix_rate": rate / highest,
    }


def latency(
    voc: BaseVocoder, mel: np.ndarray, runs: int, given: dict[str, Any] | None = None
) -> dict[str, float | None]:
    """Measure the time to a stream's first audio, pushed PUSH_FRAMES at a time; see ``bench``.

    ``mel``, (n_mels, frames), is repeated as needed; ``given`` holds inputs for one push.
    """
    if voc.lookahead is None:
        return {"first_audio_ms": None, "lookahead_ms": None}
    pushed = 0

    def chunks() -> Iterator[np.ndarray]:
        nonlocal pushed
        pushed = 0
        while True:
            indices = range(pushed, pushed + PUSH_FRAMES)
            pushed += PUSH_FRAMES
            yield np.take(mel, indices, axis=1, mode="wrap")

    given = voc.plain_inputs(1, PUSH_FRAMES) if given is None else given
    constants = constants_of(voc.facts.inputs, given)

    def first_audio() -> np.ndarray:
        signals: dict[str, Any] = {name: repeat(value) for name, value in given.items() if name not in constants}
        return next(voc.stream(chunks(), **signals, **constants))

    duration = median_time(first_audio, runs)
    return {
        "first_audio_ms": 1000 * duration,
        "lookahead_ms": 1000 * pushed * voc.facts.samples_per_frame / voc.sample_rate,
    }


def median_time(function: Callable[[], Any], runs: int) -> float:
    """Return the median seconds of ``runs`` calls after a warm-up; the result must lie in host memory."""
    times = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def peak_memory(device: str) -> float | None:
    """Return the peak memory in MiB of this process, or of torch on a GPU; None if unknown."""
    if device.startswith("cuda"):  # only torch counts
        torch = sys.modules.get("torch")
        return None if torch is None else torch.cuda.max_memory_allocated(device) / 2**20 or None
    if _STATUS.exists():  # Linux, where ru_maxrss may be that of the parent process
        peak = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text(encoding="utf-8"))
        return int(peak[1]) / 1024 if peak else None
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    # macOS counts in bytes, other systems in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 2**20


def matrix_rate(device: str) -> float:
    """Measure torch's rate of 2048 x 2048 float32 matrix products, in GMAC per second."""
    import torch

    size = 2048
    matrix = torch.randn(size, size, device=device)
    with torch.inference_mode():
        return size**3 / median_time(lambda: (matrix @ matrix)[0, 0].item(), 5) / 1e9
