"""What streaming costs and how long it waits: python -m recipes.benchmarks.streaming [MODEL ...] [--recomputed]

For the given models, or every published configuration, untrained; with an estimator of F0 where they need F0, and norms
over a frame where the published ones are over the utterance, which cannot stream.

    lookahead    frames that must follow a frame before all of its audio is final, and how long they last
    first audio  the work until the first audio is there, in pushes of so many frames. Where frames come no faster than
                 they sound, the wait for them comes on top: the lookahead and one push
    cost         of a second of audio within a stream, in pushes of so many frames, as a multiple of its cost in a whole
                 utterance; with --recomputed that of giving each push its context anew, the simplest exact way

Medians of processor time on one core, which what else runs on the machine hardly changes; the whole is timed beside the
streams.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from recipes.benchmarks.vocode import published
from vocoders.checkpoint import Checkpoint
from vocoders.errors import MelWarning, VocoderError
from vocoders.f0_estimator import F0Estimator, F0EstimatorConfig
from vocoders.generators import build_generator
from vocoders.inference.stream import Stream
from vocoders.inference.vocoder import Vocoder
from vocoders.pretrained import load


def vocoders(names: list[str]) -> Iterator[tuple[str, Vocoder]]:
    """What to measure, by label."""
    for name in names:
        yield name, load(name)
    for label, (name, config, mel_config) in {} if names else published().items():
        if name == "wavehax":
            label, config = f"{label}, framewise", config | {"framewise_norm": True}
        yield (
            label,
            Vocoder(
                Checkpoint(
                    mel_config, build_generator(name, config, mel_config), F0Estimator(F0EstimatorConfig(), mel_config)
                )
            ),
        )


def seconds(work: Callable[..., object], *arguments: object) -> float:
    begin = time.process_time()
    work(*arguments)
    return time.process_time() - begin


def push_all(stream: Stream, pushes: Iterable[Tensor]) -> None:
    for mel in pushes:
        stream.push(mel)


def push_until_audio(stream: Stream, pushes: Iterable[Tensor]) -> None:
    for mel in pushes:
        if len(stream.push(mel)):
            return


def row(label: str, voc: Vocoder, sizes: list[int], length: float, runs: int, recomputed: bool) -> str:
    mel_config = voc.mel_config
    frame = mel_config.hop_length / mel_config.sample_rate
    lookahead = Stream(voc).lookahead
    frames = max(round(length / frame), 2 * max(sizes))
    longest = max(frames, max(sizes) + 2 * lookahead)
    mel = torch.randn(mel_config.n_mels, longest, generator=torch.Generator().manual_seed(0)) * 1.5 - 6
    whole: list[float] = []
    first: dict[int, list[float]] = {size: [] for size in sizes}
    cost: dict[int, list[float]] = {size: [] for size in sizes}
    anew: dict[int, list[float]] = {size: [] for size in sizes}
    voc(mel)
    for _ in range(runs):
        for size in sizes:
            pushes = mel[:, : frames // size * size].split(size, dim=1)
            whole.append(seconds(voc, mel[:, :frames]) / frames)
            first[size].append(seconds(push_until_audio, Stream(voc), mel.split(size, dim=1)))
            stream = Stream(voc)
            push_all(stream, mel[:, : lookahead + size].split(size, dim=1))
            cost[size].append(seconds(push_all, stream, pushes) / len(pushes) / size)
            if recomputed:
                anew[size].append(seconds(voc, mel[:, : size + 2 * lookahead]) / size)
    unit = statistics.median(whole)

    def multiples(found: dict[int, list[float]]) -> str:
        medians = (statistics.median(values) / unit for values in found.values())
        return " / ".join(f"{multiple:.{0 if multiple >= 9.95 else 1}f}" for multiple in medians)

    works = " / ".join(f"{statistics.median(values) * 1000:.0f}" for values in first.values())
    cells = [label, f"{lookahead}", f"{lookahead * frame * 1000:.0f}", works, multiples(cost)]
    return f"| {' | '.join([*cells, multiples(anew)] if recomputed else cells)} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.benchmarks.streaming", description="Latency and cost of streaming."
    )
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="as for vocode -m (default: untrained, all families)"
    )
    parser.add_argument("--frames", type=int, nargs="*", default=[1, 4, 16, 64], metavar="N", help="of a push")
    parser.add_argument("--seconds", type=float, default=3.0, help="of audio in a stream (default: 3)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--recomputed", action="store_true", help="with the cost of giving each push its context anew")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sizes = " / ".join(map(str, options.frames))
    head = ["", "lookahead", "ms", f"first audio, ms, pushes of {sizes}", f"cost, pushes of {sizes}"]
    head += [f"recomputed, {sizes}"] if options.recomputed else []
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    try:
        warnings.simplefilter("ignore", MelWarning)
        for label, voc in vocoders(options.models):
            print(row(label, voc, options.frames, options.seconds, options.runs, options.recomputed), flush=True)
    except VocoderError as error:
        print(f"recipes.benchmarks.streaming: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
