"""How fast a model is on this machine: the figures of ``vocoders bench``."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vocoders.complexity import macs_per_second
from vocoders.errors import VocoderError
from vocoders.inference.vocoder import Vocoder
from vocoders.onnx.vocoder import OnnxVocoder

PUSH_FRAMES = 16


def bench(vocoder: Vocoder | OnnxVocoder, seconds: float, runs: int, batch: int) -> dict[str, Any]:
    """Speed, latency and memory of ``vocoder``; times are medians of ``runs`` after one that warms up.

    Returns:
        x_real_time: seconds of audio in a second, of all items of the batch together
        first_audio_ms: work until the first audio of a stream that is pushed 16 frames at a time
        lookahead_ms: what must have been pushed beyond it; both None for a model that cannot stream
        memory_mib: most resident memory of this process so far; of the device where that is a GPU
        gmac_per_second_of_audio, gmac_per_second: work, and the rate it is done at
        matrix_gmac_per_second: the rate of products of large float32 matrices on the same device and threads
        share_of_matrix_rate: of the two; more than 1 where convolutions have faster kernels than matrix products
    """
    mel_config = vocoder.mel_config
    frames = max(1, round(seconds * mel_config.sample_rate / mel_config.hop_length))
    source = np.random.default_rng(0)
    mel = source.normal(mel_config.log_floor / 2, 0.5, (batch, mel_config.n_mels, frames)).astype(np.float32)
    f0 = (
        None
        if not isinstance(vocoder, Vocoder) or vocoder.f0_estimator
        else np.full((batch, frames), 150.0, np.float32)
    )
    needs_f0 = isinstance(vocoder, Vocoder) and vocoder.generator.uses_f0
    duration = median_time(lambda: vocoder(mel, f0 if needs_f0 else None), runs)
    audio = batch * frames * mel_config.hop_length / mel_config.sample_rate
    facts: dict[str, Any] = {"x_real_time": audio / duration}
    facts |= latency(vocoder, mel[0], runs)
    cuda = isinstance(vocoder, Vocoder) and vocoder.device.type == "cuda"
    # Linux counts in KiB, macOS in bytes.
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    facts["memory_mib"] = (torch.cuda.max_memory_allocated() if cuda else resident) / 2**20
    if isinstance(vocoder, Vocoder):
        work = macs_per_second(vocoder.generator) / 1e9
        rate, highest = work * audio / duration, matrix_rate(vocoder.device)
        facts |= {"gmac_per_second_of_audio": work, "gmac_per_second": rate}
        facts |= {"matrix_gmac_per_second": highest, "share_of_matrix_rate": rate / highest}
    return facts


def latency(vocoder: Vocoder | OnnxVocoder, mel: np.ndarray, runs: int) -> dict[str, float | None]:
    """mel: (n_mels, frames); see ``bench``."""
    mel_config = vocoder.mel_config
    frames = [0]

    def chunks() -> Any:
        frames[0] = 0
        while True:  # over and over, should the mel be shorter than the lookahead
            yield np.take(mel, range(frames[0], frames[0] + PUSH_FRAMES), axis=1, mode="wrap")
            frames[0] += PUSH_FRAMES

    try:
        duration = median_time(lambda: next(vocoder.stream(chunks())), runs)
    except VocoderError:  # it needs the whole utterance, or an F0 that streams do not take
        return {"first_audio_ms": None, "lookahead_ms": None}
    return {
        "first_audio_ms": 1000 * duration,
        "lookahead_ms": 1000 * frames[0] * mel_config.hop_length / mel_config.sample_rate,
    }


def median_time(function: Callable[[], Any], runs: int) -> float:
    """Seconds; what ``function`` returns lies in the computer's own memory, so that a GPU has finished by then."""
    times = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:])


def matrix_rate(device: torch.device) -> float:
    """GMAC per second of float32 matrices of 2048 x 2048."""
    size = 2048
    matrix = torch.randn(size, size, device=device)
    with torch.inference_mode():
        return size**3 / median_time(lambda: (matrix @ matrix)[0, 0].item(), 5) / 1e9
