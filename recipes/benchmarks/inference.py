"""Synthesis beside the public implementations: python -m recipes.benchmarks.inference --clones DIR [--device cuda]

Both sides have the same weights and the same input. Each runs in its own process, because our setting of the C
library's memory would speed the public code up as well. They run in turns; times are medians. Ours is
``Vocoder.__call__``, from numpy to numpy, as users call it, but with F0 given; theirs is the bare network without
weight norm, as in their inference code. The weights are the random ones of the public implementation, converted by our
importers, so the equality of both outputs (signal-to-noise ratio) is measured too. Memory is the peak of a process,
minus what it has with the model loaded and all else freed.

--latency adds a table of the time to the first audio of a stream, as ``vocoders bench`` measures it.

DIR holds clones that the user made, see recipes/benchmarks/public.py.
"""

from __future__ import annotations

import itertools
import multiprocessing
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from recipes.benchmarks import common
from recipes.benchmarks.pairs import FUSED, PAIRS, make
from vocoders.checkpoint import save_checkpoint
from vocoders.cli.bench import latency
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.noise import white_noise
from vocoders.errors import MelWarning, VocoderError
from vocoders.inference.synthesis import Precision
from vocoders.inference.vocoder import Vocoder
from vocoders.pretrained import load


def inputs(mel_config: MelConfig, seconds: float, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make mel (batch, n_mels, frames), f0 (batch, frames) and the noise of ``Vocoder`` (batch, 1, samples)."""
    frames = round(seconds * mel_config.sample_rate / mel_config.hop_length)
    mel = np.random.default_rng(0).normal(-5, 1, (batch, mel_config.n_mels, frames)).astype(np.float32)
    noise = np.broadcast_to(
        white_noise(0, frames * mel_config.hop_length, 0), (batch, 1, frames * mel_config.hop_length)
    )
    return mel, np.full((batch, frames), 150, np.float32), noise


class Setup(NamedTuple):
    """Settings of both sides.

    Attributes:
        clones: folder of the clones.
        device: the device to run on.
        precision: precision of our side.
        threads: number of CPU threads.
        tf32: whether a GPU convolves float32 in TF32, as PyTorch does by default.
    """

    clones: Path
    device: str
    precision: Precision
    threads: int
    tf32: bool = True


class Case(NamedTuple):
    """One row of the table.

    Attributes:
        label: key of PAIRS.
        batch: number of items.
        seconds: length of each item.
    """

    label: str
    batch: int
    seconds: float


class Measurement(NamedTuple):
    """Measurements of one side.

    Attributes:
        seconds: median of its runs.
        memory: peak memory in MiB, minus that with the model loaded.
        audio: audio of the first run, float64 (batch, samples).
    """

    seconds: float
    memory: float
    audio: np.ndarray


Side = Callable[[Setup, Case, Path], Iterator[Any]]
"""Generator that yields first the memory of the process, then the audio of each run, float32 (batch, samples)."""


def public_side(setup: Setup, case: Case, folder: Path) -> Iterator[Any]:
    """Run the public implementation: a ``Side``."""
    generator, generate, checkpoint = make(case.label, setup.clones, folder)
    generator = generator.eval().to(setup.device)
    arrays = inputs(checkpoint.mel_config, case.seconds, case.batch)
    mel, f0, noise = (torch.tensor(array, device=setup.device) for array in arrays)
    yield common.reset_peak_memory(setup.device)
    while True:
        with torch.inference_mode():
            yield generate(mel, f0.unsqueeze(1), noise).squeeze(1).cpu().numpy()


def our_side(setup: Setup, case: Case, folder: Path) -> Iterator[Any]:
    """Run ``Vocoder``: a ``Side``."""
    vocoder = load(folder / "ours.safetensors", setup.device, setup.precision)
    mel, f0, _ = inputs(vocoder.mel_config, case.seconds, case.batch)
    warnings.simplefilter("ignore", MelWarning)  # the mels are noise
    yield common.reset_peak_memory(setup.device)
    while True:
        yield vocoder(mel, f0)


def serve(side: Side, setup: Setup, case: Case, folder: Path, pipe: Connection) -> None:
    """Run a side in this process: one run for each message, answered with its seconds, audio and memory."""
    torch.set_num_threads(setup.threads)
    torch.backends.cudnn.allow_tf32 = setup.tf32
    results = side(setup, case, folder)
    before = next(results)
    pipe.send("ready")
    while message := pipe.recv():
        begin = time.perf_counter()
        audio = next(results)
        duration = time.perf_counter() - begin
        pipe.send((duration, audio if message == "audio" else None, common.peak_memory(setup.device) - before))


def measure(setup: Setup, case: Case, runs: int) -> list[Measurement]:
    """Run both sides in turns, each in a process of its own: the public one, then ours."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_checkpoint(make(case.label, setup.clones, folder)[2], folder / "ours.safetensors")
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
                time.sleep(0.2)  # until the threads of the other side no longer wait for work
                pipe.send("time" if run else "audio")
                own.append(pipe.recv())
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.send("")
            process.join()
    return [
        Measurement(
            statistics.median(duration for duration, _, _ in own[1:] or own),  # the first one warms up
            own[-1][2],
            own[0][1].astype(np.float64),
        )
        for own in answers
    ]


def cells(case: Case, public_one: Measurement, ours: Measurement) -> tuple[str, ...]:
    """Format a row of the table."""
    difference = np.square(ours.audio - public_one.audio).mean()
    snr = 10 * np.log10(np.square(public_one.audio).mean() / difference)
    audio_seconds = case.batch * case.seconds
    return (
        case.label,
        f"{case.batch} x {case.seconds:g} s",
        f"{audio_seconds / public_one.seconds:.3g}",
        f"{audio_seconds / ours.seconds:.3g}",
        f"{public_one.seconds / ours.seconds:.2f}",
        f"{snr:.0f}",
        f"{public_one.memory:.0f}",
        f"{ours.memory:.0f}",
        f"{ours.memory / public_one.memory:.2f}",
    )


def print_latencies(setup: Setup, labels: list[str], runs: int) -> None:
    """Print the table of the time to the first audio."""
    print()
    common.header("generator", "lookahead, ms", "first audio, ms")
    for label in labels:
        with tempfile.TemporaryDirectory() as name:
            checkpoint = make(label, setup.clones, Path(name))[2]
        vocoder = Vocoder(checkpoint, label, setup.precision).to(setup.device)
        values = latency(vocoder, common.noise_mel(vocoder.mel_config, 1.0), vocoder.uses_f0, max(runs, 1)).values()
        first, lookahead = ("" if value is None else f"{value:.1f}" for value in values)
        common.row(label, lookahead, first)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("inference", "Synthesis beside the public implementations.")
    parser.add_argument("generators", nargs="*", help=f"some of {', '.join(PAIRS)} (default: all)")
    parser.add_argument("--clones", type=Path, required=True, help="see recipes/benchmarks/public.py")
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    common.add_runs(parser, 7, ", after one that warms up; 0: only that one")
    common.add_threads(parser)
    parser.add_argument("--device", default="cpu")
    common.add_precision(parser)
    parser.add_argument("--no-tf32", dest="tf32", action="store_false", help="convolve in float32 on a GPU")
    parser.add_argument("--latency", action="store_true", help="measure also the first audio of a stream")
    options = parser.parse_args(arguments)
    if unknown := set(options.generators) - set(PAIRS):
        parser.error(f"no such generator: {', '.join(sorted(unknown))}; there are {', '.join(PAIRS)}")
    setup = Setup(options.clones, options.device, options.precision, options.threads, options.tf32)
    labels = options.generators or [label for label in PAIRS if label != FUSED]

    def benchmark() -> None:
        tf32 = "" if setup.tf32 else ", no TF32"
        print(f"{setup.device}, {setup.threads} threads, {setup.precision}{tf32}, torch {torch.__version__}\n")
        speeds = ("public, x real time", "ours", "ratio")
        common.header("generator", "input", *speeds, "SNR, dB", "public, MiB", "ours", "ratio")
        for case in itertools.starmap(Case, itertools.product(labels, options.batch, options.seconds)):
            try:
                common.row(*cells(case, *measure(setup, case, options.runs)))
            except FileNotFoundError as error:
                raise VocoderError(f"{error}; clones are yours to make, see recipes/benchmarks/public.py") from None
        if options.latency:
            print_latencies(setup, labels, options.runs)

    return common.status("inference", benchmark)


if __name__ == "__main__":
    sys.exit(main())
