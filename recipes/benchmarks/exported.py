"""Exported models beside torch: python -m recipes.benchmarks.exported [--threads N] [--seconds S] [NAME ...]

Exports every published size, untrained, and the built-in model, and times synthesis of one utterance by OnnxVocoder and
by Vocoder, in turns. Medians; the machine should be idle.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from recipes.benchmarks import common
from vocoders.checkpoint import Checkpoint, load_checkpoint
from vocoders.inference.base import BaseVocoder
from vocoders.onnx.export import export_onnx
from vocoders.onnx.vocoder import OnnxVocoder
from vocoders.pretrained import DEFAULT_MODEL, find_pretrained


def checkpoints(parts: list[str]) -> Iterator[tuple[str, Checkpoint]]:
    """Load the models whose labels contain one of ``parts``, all by default; one at a time."""

    def chosen(label: str) -> bool:
        return not parts or any(part.lower() in label for part in parts)

    if chosen(DEFAULT_MODEL):
        yield DEFAULT_MODEL, load_checkpoint(find_pretrained()[1])
    for label, size in common.published().items():
        if chosen(label):
            yield label, size.checkpoint()


def compare(checkpoint: Checkpoint, path: Path, seconds: float, runs: int) -> tuple[float, float, float]:
    """Time torch and ONNX Runtime.

    Args:
        checkpoint: the model.
        path: the exported model to write.
        seconds: length of the audio.
        runs: number of measured runs, after one that warms up.

    Returns:
        Speed of torch and of ONNX Runtime, x real time, and their largest difference relative to the peak of the
        audio.
    """
    export_onnx(checkpoint, path)
    vocoders: tuple[BaseVocoder, BaseVocoder] = (common.make_vocoder(checkpoint), OnnxVocoder(path))
    mel = common.noise_mel(checkpoint.mel_config, seconds)
    f0 = common.f0_for(vocoders[0], mel.shape[1])
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs + 1):
        audio = []
        for voc, durations in zip(vocoders, times, strict=True):
            begin = time.perf_counter()
            audio.append(voc(mel, f0))
            durations.append(time.perf_counter() - begin)
    by_torch, by_onnx = (seconds / statistics.median(durations[1:]) for durations in times)
    return by_torch, by_onnx, float(np.abs(audio[1] - audio[0]).max() / np.abs(audio[0]).max())


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("exported", "ONNX Runtime beside torch.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of labels, such as hifigan (default: all)")
    common.add_threads(parser, torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of audio")
    common.add_runs(parser, 7)
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        torch.set_num_threads(options.threads)
        os.environ["OMP_NUM_THREADS"] = str(options.threads)  # OnnxVocoder reads it
        print(f"{options.seconds:g} s of audio, {options.threads} threads, medians of {options.runs}")
        common.header("model", "torch, x real time", "ONNX Runtime", "ratio", "difference / peak")
        with tempfile.TemporaryDirectory() as folder:
            for label, checkpoint in checkpoints(options.names):
                path = Path(folder) / "model.onnx"
                by_torch, by_onnx, difference = compare(checkpoint, path, options.seconds, options.runs)
                ratio = f"{by_onnx / by_torch:.2f}"
                common.row(label, f"{by_torch:.1f}", f"{by_onnx:.1f}", ratio, f"{difference:.0e}")

    return common.status("exported", benchmark)


if __name__ == "__main__":
    sys.exit(main())
