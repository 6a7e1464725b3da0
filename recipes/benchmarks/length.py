"""Cost of synthesis by length of the utterance: python -m recipes.benchmarks.length [--seconds 10 60 600]

Time per second of audio of utterances of several lengths: the built-in model and the default size, untrained, of each
generator. The lengths alternate, so that other work on the machine affects all. In each turn a length is repeated up to
the duration of the longest, at most 3 times; medians.

``--memory 500`` measures instead the peak memory of the process, beyond the loaded model, after a fifth, two fifths ...
of 500 utterances of as many lengths, in an order by chance.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Iterator

import numpy as np
import torch

from recipes.benchmarks import common
from vocoders.errors import MelWarning, VocoderError
from vocoders.generators import GENERATORS
from vocoders.inference.base import BaseVocoder
from vocoders.pretrained import DEFAULT_MODEL, load


def vocoders(labels: list[str]) -> Iterator[tuple[str, BaseVocoder]]:
    """Load the models of these labels, by default of all, one at a time.

    Raises:
        VocoderError: for an unknown label.
    """
    sizes = common.published()
    for label in labels or [DEFAULT_MODEL, *(common.default_label(name) for name in GENERATORS)]:
        if label != DEFAULT_MODEL and label not in sizes:
            raise VocoderError(f"unknown model '{label}'; known: {', '.join([DEFAULT_MODEL, *sizes])}")
        yield label, load() if label == DEFAULT_MODEL else sizes[label].vocoder()


def costs(vocoder: BaseVocoder, lengths: list[float], turns: int) -> list[float]:
    """Measure the milliseconds per second of audio for each of ``lengths``, in seconds."""
    times: list[list[float]] = [[] for _ in lengths]
    for turn in range(turns + 1):
        for seconds, durations in zip(lengths, times, strict=True):
            mel = common.noise_mel(vocoder.mel_config, seconds)
            f0 = common.f0_for(vocoder, mel.shape[1])
            for _ in range(min(3, round(max(lengths) / seconds)) if turn else int(seconds == min(lengths))):
                begin = time.perf_counter()
                vocoder(mel, f0)
                if turn:  # turn 0 only warms up
                    durations.append((time.perf_counter() - begin) / seconds * 1000)
    return [statistics.median(durations) for durations in times]


def memory_of(vocoder: BaseVocoder, count: int) -> list[float]:
    """Measure the peak memory after each fifth of ``count`` utterances, of 30 frames and more, in MiB."""
    before, peaks = common.reset_peak_memory("cpu"), []
    lengths = np.random.default_rng(0).permutation(np.arange(30, 30 + count))
    for part in np.array_split(lengths, 5):
        for frames in part:
            mel = common.noise_mel(vocoder.mel_config, frames * vocoder.mel_config.hop_length / vocoder.sample_rate)
            vocoder(mel, common.f0_for(vocoder, mel.shape[1]))
        peaks.append(common.peak_memory("cpu") - before)
    return peaks


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("length", "Cost of short and of long utterances.")
    parser.add_argument("models", nargs="*", help=f"{DEFAULT_MODEL}, 'hifigan v2' and the like (default: all families)")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 60.0, 600.0])
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--memory", type=int, metavar="COUNT", help="measure memory after COUNT different lengths")
    common.add_threads(parser)
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        torch.set_num_threads(options.threads)
        warnings.simplefilter("ignore", MelWarning)  # the mels are noise
        if options.memory:
            print(f"peak memory beyond the loaded model, MiB, after so many of {options.memory} lengths\n")
            common.header("model", "a fifth", "two", "three", "four", "all")
            for label, vocoder in vocoders(options.models):
                common.row(label, *(f"{peak:.0f}" for peak in memory_of(vocoder, options.memory)))
            return
        print(f"{options.threads} threads, milliseconds per second of audio\n")
        common.header("model", *(f"{seconds:g} s" for seconds in options.seconds), "longest / shortest")
        for label, vocoder in vocoders(options.models):
            values = costs(vocoder, options.seconds, options.turns)
            common.row(label, *(f"{cost:.1f}" for cost in values), f"{values[-1] / values[0]:.2f}")

    return common.status("length", benchmark)


if __name__ == "__main__":
    sys.exit(main())
