"""Spectrograms: images for TensorBoard, and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.evaluation.metrics.signal import Signal
from recipes.evaluation.metrics.spectral import spectrogram_db
from vocoders.files import atomic_write

RANGE = 80.0  # dB that a spectrogram shows


def spectrogram_image(audio: Tensor) -> Tensor:
    """Draw audio (1, samples) -> grey image (1, bins, frames) in [0, 1] of RANGE dB, low frequencies at the bottom."""
    decibels = spectrogram_db(audio, hop_length=256)
    return ((decibels - decibels.max()) / RANGE + 1).clamp(0, 1).flip(1)


def brightest(signals: dict[str, Signal]) -> float:
    """Return the level in dB to draw brightest: the one that a thousandth of the first signal exceeds."""
    return float(np.percentile(_decibels(next(iter(signals.values()))), 99.9))


def draw(signals: dict[str, Signal], path: Path, top: float) -> None:
    """Draw spectrograms one below the other, with a transparent background for light and dark pages.

    Args:
        signals: the signals to draw, by title.
        path: the picture to write (.png or .webp, a tenth of its size).
        top: the level in dB drawn brightest; RANGE dB below it is black.
    """
    from matplotlib.figure import Figure

    grey = "#808080"
    figure = Figure(figsize=(6, 0.4 + 2.8 * len(signals)), layout="constrained")
    panels = figure.subplots(len(signals), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, signal) in zip(panels, signals.items(), strict=True):
        extent = (0, len(signal.audio) / signal.sample_rate, 0, signal.sample_rate / 2000)
        image = {"origin": "lower", "aspect": "auto", "cmap": "magma", "vmin": top - RANGE, "vmax": top}
        axes.imshow(_decibels(signal), extent=extent, **image)
        axes.set_title(name, color=grey)
        axes.set_ylabel("kHz", color=grey)
        axes.tick_params(colors=grey)
        axes.spines[:].set_visible(False)
    panels[-1].set_xlabel("s", color=grey)
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=100, transparent=True)


def draw_comparison(signals: dict[str, Signal], path: Path, seconds: float = 4.0) -> None:
    """Draw the first seconds of signals: a recording, which must come first, and its syntheses."""
    begin = {name: Signal(x.audio[: int(seconds * x.sample_rate)], x.sample_rate) for name, x in signals.items()}
    draw(begin, path, brightest(signals))


def _decibels(signal: Signal) -> np.ndarray:
    """Compute the spectrogram of a signal, (bins, frames)."""
    return spectrogram_db(torch.from_numpy(signal.audio), hop_length=128).numpy()
