"""Our constant-Q transform beside nnAudio's CQT2010v2: python -m recipes.benchmarks.cqt [--nnaudio DIR] [--threads N]

Forward and backward pass at the settings of the MS-SB-CQT discriminator, measured in turns in one run; medians. Three
rows for each setting: nnAudio as the published discriminator uses it (resampled to twice the rate, nine octaves from
C1), ours with the same settings, and ours as our discriminator uses it. DIR is the folder in a clone of
KinWaiCheuk/nnAudio that holds the package (Installation); not needed where nnAudio is installed. Memory is what one
pass adds to the resident memory of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from losses.cqt import CQT
from losses.discriminators.multi_scale_subband_cqt import MultiScaleSubbandCQTConfig
from recipes.benchmarks import common
from vocoders.errors import VocoderError

RATE = 24000
BATCHES = ((16, 8192), (4, 24000))
SETTINGS = ((24, 512), (36, 256), (48, 256))  # bins per octave and hop at twice the rate
KINDS = ("nnAudio", "ours, the same", "ours, as used")

Transform = Callable[[Tensor], Tensor]


def transform(kind: str, bins_per_octave: int, hop_length: int) -> Transform:
    """Make a transform: audio (batch, samples) at RATE -> a CQT whose last axis is (real, imaginary)."""
    from torchaudio.functional import resample

    if kind == "ours, as used":
        config = MultiScaleSubbandCQTConfig()
        used = CQT(RATE, hop_length // 2, bins_per_octave=bins_per_octave, max_kernel=config.max_kernel)
        return lambda audio: torch.view_as_real(used(audio))
    if kind == "nnAudio":
        from nnAudio.features.cqt import CQT2010v2

        theirs = CQT2010v2(
            sr=2 * RATE,
            hop_length=hop_length,
            n_bins=9 * bins_per_octave,
            bins_per_octave=bins_per_octave,
            output_format="Complex",
            pad_mode="constant",
            verbose=False,
        )
        return lambda audio: theirs(resample(audio, RATE, 2 * RATE))
    same = CQT(2 * RATE, hop_length, bins_per_octave=bins_per_octave, fmin=32.7, n_octaves=9, partial_kernels=True)
    return lambda audio: torch.view_as_real(same(resample(audio, RATE, 2 * RATE)))


def seconds(run: Transform, audio: Tensor) -> tuple[float, float]:
    """Measure the seconds of the forward and of the backward pass."""
    audio = audio.clone().requires_grad_()
    begin = time.perf_counter()
    loss = run(audio).square().sum()
    middle = time.perf_counter()
    loss.backward()
    return middle - begin, time.perf_counter() - middle


def peak_memory(kind: str, batch: int, samples: int, bins_per_octave: int, hop_length: int) -> float:
    """Measure the MiB that passes on a batch add to this process, kernels included."""
    audio = torch.randn(batch, samples)
    seconds(lambda x: torch.fft.irfft(torch.fft.rfft(x)), audio[:1, :256])  # loads the libraries of any pass
    before = common.peak_memory("cpu")
    run = transform(kind, bins_per_octave, hop_length)
    for _ in range(3):
        seconds(run, audio)
    return common.peak_memory("cpu") - before


def peak_memory_apart(options: argparse.Namespace, *case: object) -> float:
    """Measure ``peak_memory`` in a process of its own."""
    command = [sys.executable, "-m", "recipes.benchmarks.cqt", "--memory", json.dumps(case)]
    command += ["--threads", str(options.threads)]
    command += ["--nnaudio", options.nnaudio] if options.nnaudio else []
    return float(
        subprocess.run(command, check=True, capture_output=True, encoding="utf-8", errors="replace").stdout.split()[-1]
    )


def medians(bins_per_octave: int, hop_length: int, audio: Tensor, runs: int) -> dict[str, list[float]]:
    """Time each kind of transform: seconds of the forward and of the backward pass."""
    transforms = {kind: transform(kind, bins_per_octave, hop_length) for kind in KINDS}
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for _ in range(runs + 2):  # two warm up
        for kind in KINDS:  # alternating, so that other work on the machine affects all
            times[kind].append(seconds(transforms[kind], audio))
    return {kind: [statistics.median(part) for part in zip(*times[kind][2:], strict=True)] for kind in KINDS}


def compare(options: argparse.Namespace) -> None:
    """Print the table.

    Raises:
        VocoderError: when nnAudio is missing.
    """
    try:
        transform("nnAudio", *SETTINGS[0])
    except ImportError:
        raise VocoderError("nnAudio is not here; clone it and give --nnaudio its folder Installation") from None
    common.header("batch", "bins per octave", "transform", "forward, ms", "backward, ms", "times faster", "memory, MiB")
    for batch, samples in BATCHES:
        audio = torch.randn(batch, samples)
        for bins_per_octave, hop_length in SETTINGS:
            times = medians(bins_per_octave, hop_length, audio, options.runs)
            for kind, (forward, backward) in times.items():
                ratio = f"{sum(times['nnAudio']) / (forward + backward):.1f}"
                memory = f"{peak_memory_apart(options, kind, batch, samples, bins_per_octave, hop_length):.0f}"
                milliseconds = f"{forward * 1e3:.1f}", f"{backward * 1e3:.1f}"
                common.row(f"{batch} x {samples}", bins_per_octave, kind, *milliseconds, ratio, memory)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("cqt", "Our CQT beside nnAudio's.")
    parser.add_argument("--nnaudio", metavar="DIR", help="folder that holds the package nnAudio")
    common.add_threads(parser)
    common.add_runs(parser, 15)
    parser.add_argument("--memory", metavar="JSON", help=argparse.SUPPRESS)  # how this script calls itself
    options = parser.parse_args(arguments)
    if options.nnaudio:
        sys.path.append(options.nnaudio)
    torch.set_num_threads(options.threads)
    if options.memory:
        print(peak_memory(*json.loads(options.memory)))
        return 0
    return common.status("cqt", lambda: compare(options))


if __name__ == "__main__":
    sys.exit(main())
