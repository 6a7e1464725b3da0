"""Measure speed and memory of synthesis: python -m recipes.benchmarks.inference [MODEL ...] --clones DIR | --onnx |
--memory N

--clones DIR  against public implementations in DIR (public.py), with the same random weights, each side in its own
              process, in turns; ours is ``Vocoder.__call__``, theirs the bare network without weight norm. Memory is
              the peak beyond the loaded model, SNR that of both outputs.
--onnx        ONNX Runtime against torch, in turns in one process
--memory N    peak memory over N utterances of different lengths

MODEL is the label of a published size, untrained, such as "hifigan v1", or a built-in model. Default: all of public.py,
or the built-in model and one size of each generator. Times are medians; keep the machine idle.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from recipes.benchmarks import common
from recipes.benchmarks.public import PAIRS, make_pair
from vocoders.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.noise import white_noise
from vocoders.errors import VocoderError
from vocoders.generators import GENERATORS
from vocoders.inference.base import BaseVocoder
from vocoders.inference.synthesis import Precision
from vocoders.inference.vocoder import Vocoder
from vocoders.onnx.export import export_onnx
from vocoders.onnx.vocoder import OnnxVocoder
from vocoders.pretrained import DEFAULT_MODEL, find_pretrained, list_models, load


class Setup(NamedTuple):
    """Settings of both sides: clones, device, our precision, CPU threads."""

    clones: Path
    device: str
    precision: Precision
    threads: int


class Case(NamedTuple):
    """A row of the table: a label of ``PAIRS``, number of utterances, seconds of each."""

    label: str
    batch: int
    seconds: float


class Measurement(NamedTuple):
    """Median seconds of a side, its memory in MiB, and its audio, float64 (batch, samples)."""

    seconds: float
    memory: float
    audio: np.ndarray


Side = Callable[[Setup, Case, Path], Iterator[Any]]
"""Yields the memory of the process first, then the audio of each run, float32 (batch, samples)."""


def make_inputs(mel_config: MelConfig, case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make mel (batch, n_mels, frames), f0 (batch, frames) and noise (batch, 1, samples)."""
    frames = round(case.seconds * mel_config.sample_rate / mel_config.hop_length)
    samples = frames * mel_config.hop_length
    mel = np.random.default_rng(0).normal(-5, 1, (case.batch, mel_config.n_mels, frames)).astype(np.float32)
    noise = np.broadcast_to(white_noise(0, samples, 0), (case.batch, 1, samples))
    return mel, np.full((case.batch, frames), 150, np.float32), noise


def public_side(setup: Setup, case: Case, folder: Path) -> Iterator[Any]:
    """Run the public implementation: a ``Side``."""
    generator, generate, checkpoint = make_pair(case.label, setup.clones, folder)
    generator = generator.eval().to(setup.device)
    arrays = make_inputs(checkpoint.mel_config, case)
    mel, f0, noise = (torch.tensor(array, device=setup.device) for array in arrays)
    yield common.reset_peak_memory(setup.device)
    while True:
        with torch.inference_mode():
            yield generate(mel, f0.unsqueeze(1), noise).squeeze(1).cpu().numpy()


def our_side(setup: Setup, case: Case, folder: Path) -> Iterator[Any]:
    """Run ``Vocoder``: a ``Side``."""
    vocoder = load(folder / "ours.safetensors", setup.device, setup.precision)
    mel, f0, _ = make_inputs(vocoder.mel_config, case)
    yield common.reset_peak_memory(setup.device)
    while True:
        yield vocoder(mel, f0)


def serve(side: Side, setup: Setup, case: Case, folder: Path, pipe: Connection) -> None:
    """Run a side in this process: answer each message with seconds, audio and memory of a run."""
    torch.set_num_threads(setup.threads)
    results = side(setup, case, folder)
    before = next(results)
    pipe.send("ready")
    while message := pipe.recv():
        begin = time.perf_counter()
        audio = next(results)
        duration = time.perf_counter() - begin
        pipe.send((duration, audio if message == "audio" else None, common.peak_memory(setup.device) - before))


def measure(setup: Setup, case: Case, runs: int) -> list[Measurement]:
    """Run both sides in turns, each in its own process: the public one, then ours."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_checkpoint(make_pair(case.label, setup.clones, folder)[2], folder / "ours.safetensors")
        pipes, processes = [], []
        for side in (public_side, our_side):
            here, there = context.Pipe()
            processes.append(context.Process(target=serve, args=(side, setup, case, folder, there), daemon=True))
            processes[-1].start()
            there.close()
            pipes.append(here)
            here.recv()
        answers: list[list[Any]] = [[], []]
        for run in range(runs + 1):
            for pipe, own in zip(pipes, answers, strict=True):
                time.sleep(0.2)  # let the other side's threads stop spinning
                pipe.send("time" if run else "audio")
                own.append(pipe.recv())
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.send("")
            process.join()
    return [
        Measurement(
            statistics.median(duration for duration, _, _ in own[1:] or own),  # the first run warms up
            own[-1][2],
            own[0][1].astype(np.float64),
        )
        for own in answers
    ]


def format_row(case: Case, public_one: Measurement, ours: Measurement) -> tuple[str, ...]:
    """Format a row's cells."""
    difference = np.square(ours.audio - public_one.audio).mean()
    audio_seconds = case.batch * case.seconds
    return (
        case.label,
        f"{case.batch} x {case.seconds:g} s",
        f"{audio_seconds / public_one.seconds:.3g}",
        f"{audio_seconds / ours.seconds:.3g}",
        f"{public_one.seconds / ours.seconds:.2f}",
        f"{10 * np.log10(np.square(public_one.audio).mean() / difference):.0f}",
        f"{public_one.memory:.0f}",
        f"{ours.memory:.0f}",
        f"{ours.memory / public_one.memory:.2f}",
    )


def compare_with_public(setup: Setup, labels: list[str], batches: list[int], lengths: list[float], runs: int) -> None:
    """Print a row for each label, batch size and length."""
    if unknown := set(labels) - set(PAIRS):
        raise VocoderError(f"no public code for {', '.join(sorted(unknown))}; there is for {', '.join(PAIRS)}")
    print(f"{setup.device}, {setup.threads} threads, {setup.precision}, torch {torch.__version__}\n")
    titles = ("public, x real time", "ours", "ratio", "SNR, dB", "public, MiB", "ours", "ratio")
    common.header("generator", "input", *titles)
    for case in itertools.starmap(Case, itertools.product(labels or PAIRS, batches, lengths)):
        try:
            common.row(*format_row(case, *measure(setup, case, runs)))
        except FileNotFoundError as error:
            raise VocoderError(f"{error}; clones are yours to make, see recipes/benchmarks/public.py") from None


def checkpoints(labels: list[str]) -> Iterator[tuple[str, Checkpoint]]:
    """Load built-in models and build published sizes, one at a time."""
    for label in labels or [DEFAULT_MODEL, *map(common.default_label, GENERATORS)]:
        if label in list_models():
            yield label, load_checkpoint(find_pretrained(label)[1])
        else:
            yield label, common.find_size(label).checkpoint()


def compare_with_onnx(labels: list[str], seconds: float, runs: int) -> None:
    """Print a row of speeds for each model."""
    common.header("model", "torch, x real time", "ONNX Runtime", "ratio", "difference / peak")
    for label, checkpoint in checkpoints(labels):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(checkpoint, path)
            by_torch, by_onnx, difference = time_both(checkpoint, path, seconds, runs)
        common.row(label, f"{by_torch:.1f}", f"{by_onnx:.1f}", f"{by_onnx / by_torch:.2f}", f"{difference:.0e}")


def time_both(checkpoint: Checkpoint, exported: Path, seconds: float, runs: int) -> tuple[float, float, float]:
    """Measure x real time of torch and ONNX Runtime, and their largest difference relative to the peak."""
    vocoders: tuple[BaseVocoder, BaseVocoder] = (common.make_vocoder(checkpoint), OnnxVocoder(exported))
    mel = common.noise_mel(checkpoint.mel_config, seconds)
    f0 = common.f0_for(vocoders[0], mel.shape[1])
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs + 1):
        audio = []
        for vocoder, durations in zip(vocoders, times, strict=True):
            begin = time.perf_counter()
            audio.append(vocoder(mel, f0))
            durations.append(time.perf_counter() - begin)
    by_torch, by_onnx = (seconds / statistics.median(durations[1:]) for durations in times)
    return by_torch, by_onnx, float(np.abs(audio[1] - audio[0]).max() / np.abs(audio[0]).max())


def memory_of(vocoder: Vocoder, count: int) -> list[float]:
    """Measure the peak memory in MiB after each fifth of ``count`` utterances of 30 frames and more."""
    before, peaks = common.reset_peak_memory("cpu"), []
    lengths = np.random.default_rng(0).permutation(np.arange(30, 30 + count))
    for part in np.array_split(lengths, 5):
        for frames in part:
            mel = common.noise_mel(vocoder.mel_config, frames * vocoder.mel_config.hop_length / vocoder.sample_rate)
            vocoder(mel, common.f0_for(vocoder, mel.shape[1]))
        peaks.append(common.peak_memory("cpu") - before)
    return peaks


def measure_memory(labels: list[str], count: int) -> None:
    """Print each model's peak memory beyond the loaded model."""
    print(f"peak memory beyond the loaded model, MiB, after so many of {count} lengths\n")
    common.header("model", "a fifth", "two", "three", "four", "all")
    for label, checkpoint in checkpoints(labels):
        peaks = memory_of(common.make_vocoder(checkpoint), count)
        common.row(label, *(f"{peak:.0f}" for peak in peaks))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = common.parser("inference", "Speed and memory of synthesis.", runs=7)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="'hifigan v1' and the like, or a built-in model")
    kinds = parser.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--clones", type=Path, metavar="DIR", help="compare with public code, see public.py")
    kinds.add_argument("--onnx", action="store_true", help="compare ONNX Runtime with torch")
    kinds.add_argument("--memory", type=int, metavar="N", help="measure memory over N different lengths")
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0], help="seconds of audio (default: 5)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="with --clones: utterances at once")
    parser.add_argument("--device", default="cpu", help="with --clones: cpu or cuda")
    common.add_precision(parser)
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        if options.clones:
            setup = Setup(options.clones, options.device, options.precision, options.threads)
            compare_with_public(setup, options.models, options.batch, options.seconds, options.runs)
            return
        torch.set_num_threads(options.threads)
        if options.memory:
            measure_memory(options.models, options.memory)
            return
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # OnnxVocoder reads it
        compare_with_onnx(options.models, options.seconds[0], options.runs)

    return common.status("inference", benchmark)


if __name__ == "__main__":
    sys.exit(main())
