"""Measure cost and latency of streaming: python -m recipes.benchmarks.streaming [MODEL ...] [--recomputed | --backends]

Measures models, by default every published size, untrained, with an F0 estimator if needed and framewise norms, as
norms over the utterance cannot stream.

    lookahead    frames needed after a frame before its audio is final, and their duration
    first audio  processor time until the first audio, for each push size; in real time add lookahead and one push
    cost         processor time per second of audio, for each push size, relative to a whole utterance; --recomputed
                 adds pushes that repeat their context, the simplest exact method

--backends times a stream of 192 frames by ONNX Runtime and torch, by default of the built-in model; a MODEL file runs
on its own backend. Times are medians of processor time on --threads cores.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from recipes.benchmarks import common
from vocoders.f0_estimator import F0Estimator, F0EstimatorConfig
from vocoders.inference.base import BaseVocoder
from vocoders.inference.stream import Stream
from vocoders.inference.synthesis import BackendName
from vocoders.pretrained import DEFAULT_MODEL, load

_COMPARED_FRAMES = 192


def vocoders(names: list[str]) -> Iterator[tuple[str, BaseVocoder]]:
    """Load the models to measure and their labels, one at a time."""
    for name in names:
        yield name, load(name)
    for label, size in {} if names else common.published().items():
        if "framewise_norm" in type(size.config).model_fields:
            size = size._replace(config=size.config.model_copy(update={"framewise_norm": True}))
            label = f"{label}, framewise"
        checkpoint = size.checkpoint()
        checkpoint.f0_estimator = F0Estimator(F0EstimatorConfig(), size.mel_config)
        vocoder = common.make_vocoder(checkpoint)
        if vocoder.lookahead is not None:  # StyleMelGAN cannot stream
            yield label, vocoder


def seconds_of(work: Callable[..., object], *arguments: object) -> float:
    """Measure the processor time of a call."""
    begin = time.process_time()
    work(*arguments)
    return time.process_time() - begin


def push_all(stream: Stream, pushes: Iterable[np.ndarray]) -> None:
    """Push all frames."""
    for mel in pushes:
        stream.push(mel)


def push_until_audio(stream: Stream, pushes: Iterable[np.ndarray]) -> None:
    """Push until there is audio."""
    for mel in pushes:
        if len(stream.push(mel)):
            return


def split(mel: np.ndarray, size: int) -> Sequence[np.ndarray]:
    """Cut a mel (n_mels, frames) into pushes of ``size`` frames or fewer."""
    return [mel[:, begin : begin + size] for begin in range(0, mel.shape[1], size)]


def measure(label: str, voc: BaseVocoder, sizes: list[int], length: float, runs: int, recomputed: bool) -> list[str]:
    """Measure a row of the table: pushes of ``sizes`` frames, streams of ``length`` seconds."""
    lookahead = voc.open_stream().lookahead
    frame = voc.mel_config.hop_length / voc.sample_rate
    frames = max(round(length / frame), 2 * max(sizes))
    longest = max(frames, max(sizes) + 2 * lookahead)
    mel = common.noise_mel(voc.mel_config, longest * frame)
    whole: list[float] = []
    first, cost, recomputing = ({size: list[float]() for size in sizes} for _ in range(3))
    voc(mel)
    for _ in range(runs):
        for size in sizes:
            pushes = split(mel[:, : frames // size * size], size)
            whole.append(seconds_of(voc, mel[:, :frames]) / frames)
            first[size].append(seconds_of(push_until_audio, voc.open_stream(), split(mel, size)))
            stream = voc.open_stream()
            push_all(stream, split(mel[:, : lookahead + size], size))
            cost[size].append(seconds_of(push_all, stream, pushes) / len(pushes) / size)
            if recomputed:
                recomputing[size].append(seconds_of(voc, mel[:, : size + 2 * lookahead]) / size)
    unit = statistics.median(whole)

    def multiples(costs: dict[int, list[float]]) -> str:
        medians = (statistics.median(values) / unit for values in costs.values())
        return " / ".join(f"{multiple:.{0 if multiple >= 9.95 else 1}f}" for multiple in medians)

    works = " / ".join(f"{statistics.median(values) * 1000:.0f}" for values in first.values())
    cells = [label, f"{lookahead}", f"{lookahead * frame * 1000:.0f}", works, multiples(cost)]
    return [*cells, multiples(recomputing)] if recomputed else cells


def stream_seconds(voc: BaseVocoder, size: int, runs: int) -> float:
    """Measure the processor time of a stream in pushes of ``size`` frames."""
    mel = common.noise_mel(voc.mel_config, 3.0)[:, :_COMPARED_FRAMES]

    def stream() -> None:
        for _ in voc.stream(split(mel, size)):
            pass

    stream()
    return statistics.median(seconds_of(stream) for _ in range(runs))


def compare_backends(names: list[str], sizes: Sequence[int], runs: int) -> None:
    """Print a row for each model and backend."""
    common.header(f"seconds for {_COMPARED_FRAMES} frames", *(f"pushes of {size}" for size in sizes))
    backends: dict[str, tuple[BackendName, ...]] = {".onnx": ("onnx",), ".safetensors": ("torch",)}
    for name in names or [DEFAULT_MODEL]:
        for backend in backends.get(Path(name).suffix, ("onnx", "torch")):
            voc = load(name, backend=backend)
            common.row(f"{name}, {backend}", *(f"{stream_seconds(voc, size, runs):.2f}" for size in sizes))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = common.parser("streaming", "Latency and cost of streaming.", runs=3, threads=1)
    models_help = "as for vocode -m (default: untrained, all published sizes)"
    parser.add_argument("models", nargs="*", metavar="MODEL", help=models_help)
    parser.add_argument("--frames", type=int, nargs="*", default=[1, 4, 16, 64], metavar="N", help="sizes of a push")
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds of audio in a stream (default: 3)")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--recomputed", action="store_true", help="also pushes that are given their context again")
    kinds.add_argument("--backends", action="store_true", help="compare ONNX Runtime and torch instead")
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        torch.set_num_threads(options.threads)
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # OnnxVocoder reads it
        if options.backends:
            compare_backends(options.models, options.frames, options.runs)
            return
        sizes = " / ".join(map(str, options.frames))
        titles = ["", "lookahead", "ms", f"first audio, ms, pushes of {sizes}", f"cost, pushes of {sizes}"]
        common.header(*titles, *([f"recomputed, {sizes}"] if options.recomputed else []))
        for label, voc in vocoders(options.models):
            common.row(*measure(label, voc, options.frames, options.seconds, options.runs, options.recomputed))

    return common.status("streaming", benchmark)


if __name__ == "__main__":
    sys.exit(main())
