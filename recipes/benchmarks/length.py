"""Whether the cost grows in proportion to the length: python -m recipes.benchmarks.length [--seconds 10 60 600]

Time per second of audio of utterances of several lengths: the built-in voice and one configuration, untrained, of each
published family. The lengths take turns, each as often as makes up the longest, so that all see the same machine, but
at most 3 times in a turn; medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Iterator

import numpy as np
import torch

from recipes.benchmarks.vocode import published
from vocoders.checkpoint import Checkpoint
from vocoders.errors import MelWarning
from vocoders.generators import build_generator
from vocoders.inference.vocoder import Vocoder
from vocoders.pretrained import DEFAULT_VOICE, load

LABELS = ("HiFi-GAN V1", "HiFi-GAN V2", "HiFi-GAN V3", "iSTFTNet V1-C8C8I", "Parallel WaveGAN v1, 24 kHz", "Wavehax v1")


def vocoders() -> Iterator[tuple[str, Vocoder]]:
    yield DEFAULT_VOICE, load()
    sizes = published()
    for label in LABELS:
        name, config, mel_config = sizes[label]
        torch.manual_seed(0)
        yield label, Vocoder(Checkpoint(mel_config, build_generator(name, config, mel_config)))


def costs(vocoder: Vocoder, lengths: list[float], turns: int) -> list[float]:
    """Milliseconds per second of audio for each of ``lengths``, in seconds."""
    mel_config = vocoder.mel_config
    times: list[list[float]] = [[] for _ in lengths]
    for turn in range(turns + 1):
        for seconds, taken in zip(lengths, times, strict=True):
            frames = round(seconds * mel_config.sample_rate / mel_config.hop_length)
            mel = np.random.default_rng(0).normal(-5, 1, (mel_config.n_mels, frames)).astype(np.float32)
            f0 = np.full(frames, 150, np.float32) if vocoder.f0_estimator is None else None
            for _ in range(min(3, round(max(lengths) / seconds)) if turn else int(seconds == min(lengths))):
                begin = time.perf_counter()
                vocoder(mel, f0)
                if turn:  # before, only warming up
                    taken.append((time.perf_counter() - begin) / seconds * 1000)
    return [statistics.median(taken) for taken in times]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.benchmarks.length", description="Cost of short and of long utterances."
    )
    parser.add_argument("models", nargs="*", help=f"of {DEFAULT_VOICE}, {', '.join(LABELS)} (default: all)")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 60.0, 600.0])
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", MelWarning)  # the mels are noise
    print(f"{options.threads} threads, milliseconds per second of audio\n")
    print("| model |", " | ".join(f"{seconds:g} s" for seconds in options.seconds), "| longest / shortest |")
    print("|---" * (len(options.seconds) + 2) + "|")
    for label, vocoder in vocoders():
        if not options.models or label in options.models:
            found = costs(vocoder, options.seconds, options.turns)
            print(
                f"| {label} |",
                " | ".join(f"{cost:.1f}" for cost in found),
                f"| {found[-1] / found[0]:.2f} |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
