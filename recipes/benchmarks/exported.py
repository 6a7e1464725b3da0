"""Exported models beside torch: python -m recipes.benchmarks.exported [--threads N] [--seconds S] [NAME ...]

Exports every published configuration, untrained, and the built-in voice, and times synthesis of one utterance by
OnnxVocoder and by Vocoder, in turns. Medians; the machine should be idle.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recipes.benchmarks.vocode import published
from vocoders.checkpoint import Checkpoint, load_checkpoint
from vocoders.generators import build_generator
from vocoders.inference.vocoder import Vocoder
from vocoders.onnx.export import export_onnx
from vocoders.onnx.vocoder import OnnxVocoder
from vocoders.pretrained import DEFAULT_VOICE, find_pretrained


def checkpoints() -> Iterator[tuple[str, Checkpoint]]:
    yield DEFAULT_VOICE, load_checkpoint(find_pretrained()[1])
    for label, (name, config, mel_config) in published().items():
        torch.manual_seed(0)
        yield label, Checkpoint(mel_config, build_generator(name, config, mel_config).eval())


def compare(checkpoint: Checkpoint, path: Path, seconds: float, runs: int) -> tuple[float, float, float]:
    """How many times faster than real time torch and ONNX Runtime are, and how far apart, of the peak of the audio."""
    export_onnx(checkpoint, path)
    vocoders: tuple[Any, Any] = (Vocoder(checkpoint), OnnxVocoder(path))
    mel_config = checkpoint.mel_config
    frames = round(seconds * mel_config.sample_rate / mel_config.hop_length)
    mel = np.random.default_rng(0).normal(-6, 1.5, (mel_config.n_mels, frames)).astype(np.float32)
    f0 = None if checkpoint.f0_estimator else np.full(frames, 150.0)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs + 1):
        audio = []
        for voc, taken in zip(vocoders, times, strict=True):
            begin = time.perf_counter()
            audio.append(voc(mel, f0))
            taken.append(time.perf_counter() - begin)
    slow, fast = (seconds / statistics.median(taken[1:]) for taken in times)
    return slow, fast, float(np.abs(audio[1] - audio[0]).max() / np.abs(audio[0]).max())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.benchmarks.exported", description="ONNX Runtime beside torch."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="parts of labels, such as HiFi-GAN (default: all)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=5.0, help="of audio")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # OnnxVocoder reads it
    print(f"{options.seconds:g} s of audio, {options.threads} threads, medians of {options.runs}")
    print("| model | torch, x real time | ONNX Runtime | ratio | difference, of the peak |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for label, checkpoint in checkpoints():
            if not options.names or any(name.lower() in label.lower() for name in options.names):
                torch_, onnx, apart = compare(checkpoint, Path(folder) / "model.onnx", options.seconds, options.runs)
                print(f"| {label} | {torch_:.1f} | {onnx:.1f} | {onnx / torch_:.2f} | {apart:.0e} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
