"""Draw spectrograms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from recipes.evaluation.metrics.signal import Signal
from recipes.evaluation.metrics.spectral import spectrogram_db
from vocoders.files import atomic_write

RANGE = 80.0  # dB


def brightest(signals: dict[str, Signal]) -> float:
    """Return the level in dB drawn brightest: a thousandth of the first signal exceeds it."""
    return float(np.percentile(_decibels(next(iter(signals.values()))), 99.9))


def draw(signals: dict[str, Signal], path: Path, top: float) -> None:
    """Draw titled spectrograms one below the other into a .png, or a .webp of a tenth of the size.

    ``top`` is the brightest level in dB; RANGE dB below it is black. The background is transparent.
    """
    with atomic_write(path) as partial:
        _figure(signals, top).savefig(partial, dpi=100, transparent=True)


def spectrogram_image(signals: dict[str, Signal], seconds: float = 10.0) -> np.ndarray:
    """Draw the first seconds of signals side by side on one scale: uint8 (height, width, 3)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    begin = _cut(signals, seconds)
    canvas = FigureCanvasAgg(_figure(begin, brightest(begin), beside=True))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _figure(signals: dict[str, Signal], top: float, beside: bool = False) -> Any:
    """Draw spectrograms one below the other, or side by side."""
    from matplotlib.figure import Figure

    grey = "#808080"
    rows, columns = (1, len(signals)) if beside else (len(signals), 1)
    figure = Figure(figsize=(6 * columns, 0.4 + 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=beside, squeeze=False).flatten()
    for axes, (name, signal) in zip(panels, signals.items(), strict=True):
        extent = (0, len(signal.audio) / signal.sample_rate, 0, signal.sample_rate / 2000)
        image = {"origin": "lower", "aspect": "auto", "cmap": "magma", "vmin": top - RANGE, "vmax": top}
        axes.imshow(_decibels(signal), extent=extent, **image)
        axes.set_title(name, color=grey)
        axes.set_ylabel("kHz", color=grey)
        axes.tick_params(colors=grey)
        axes.spines[:].set_visible(False)
    for axes in panels if beside else panels[-1:]:
        axes.set_xlabel("s", color=grey)
    return figure


def draw_comparison(signals: dict[str, Signal], path: Path, seconds: float = 4.0) -> None:
    """Draw the first seconds of a recording, which comes first, and its syntheses."""
    draw(_cut(signals, seconds), path, brightest(signals))


def _cut(signals: dict[str, Signal], seconds: float) -> dict[str, Signal]:
    return {name: Signal(x.audio[: int(seconds * x.sample_rate)], x.sample_rate) for name, x in signals.items()}


def _decibels(signal: Signal) -> np.ndarray:
    """Compute a signal's spectrogram in dB, (bins, frames)."""
    return spectrogram_db(torch.from_numpy(signal.audio), hop_length=128).numpy()
