"""What an evaluation is shown as: means with intervals, a table in Markdown, spectrograms, a folder to listen to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from recipes.evaluation.artifacts import Click, Line
from recipes.evaluation.metrics import NAN, Signal
from vocoders.dsp.stft import STFT
from vocoders.files import atomic_write
from vocoders.io.audio import encode_audio

Metrics = dict[str, float]

RECORDING = "recording"
RANGE = 80.0  # dB that a spectrogram shows


class Column(NamedTuple):
    """How a metric is shown: its title, decimals after multiplying by ``scale``, which way is better, what it is."""

    title: str
    digits: int
    better: str
    meaning: str
    scale: float = 1.0


COLUMNS = {
    "nisqa": Column("NISQA", 2, "as recorded", "quality predicted from the signal alone, 1 to 5"),
    "pesq": Column("PESQ", 2, "↑", "perceptual quality, wide band, at most 4.64; does not notice buzz"),
    "stoi": Column("STOI", 3, "↑", "intelligibility, at most 1"),
    "log_mel_l1": Column("log-mel L1", 3, "↓", "mean absolute difference of the log-mels"),
    "stft_distance": Column("MR-STFT", 3, "↓", "spectral convergence + log-magnitude difference, three resolutions"),
    "mcd_db": Column("MCD, dB", 2, "↓", "mel-cepstral distortion: difference of the envelopes up to 8 kHz"),
    "voicing_error": Column("voicing error, %", 1, "↓", "instants voiced in one and not in the other", 100),
    "voicing_f1": Column("voicing F1", 3, "↑", "precision and recall of “voiced”, their harmonic mean"),
    "gross_error": Column("gross F0 error, %", 1, "↓", "voiced instants whose F0 is off by more than 20 %", 100),
    "f0_rmse_cents": Column("F0 RMSE, cents", 0, "↓", "of the others"),
    "periodicity_error": Column("periodicity error", 3, "↓", "RMSE of the share of the power that repeats, 0 to 1"),
    "noise_texture": Column("noise texture", 2, "→ 1", "spread of noise over the recording's; less is buzz"),
    "level_db": Column("level, dB", 2, "→ 0", "louder than the recording by"),
    "above_mel_db": Column("above the mel, dB", 1, "→ 0", "louder than the recording where the mel is blind, by"),
    "silence_dbfs": Column("silence, dBFS", 1, "as recorded", "level where the recording is silent"),
    "lines": Column("tones", 2, "↓", "tones and stripes per clip that the recording has not"),
    "clicks": Column("clicks", 2, "↓", "clicks per clip that the recording has not"),
    "speed": Column("x real time", 1, "↑", "speed of the synthesis alone, on this machine"),
}


class Outcome(NamedTuple):
    """What is measured on one clip."""

    name: str
    seconds: float
    metrics: dict[str, Metrics]
    """By system; also what makes no sound, such as the F0 estimator."""
    lines: dict[str, list[Line]]
    """Tones and stripes of the recording (none) and of each system that makes sound."""
    clicks: dict[str, list[Click]]
    """Likewise."""


class Estimate(NamedTuple):
    """A mean over clips, half the width of its 95 % interval (Student's t; NaN for one clip), and how many clips."""

    mean: float
    half_width: float
    clips: int


def estimate(values: Sequence[float]) -> Estimate:
    """Values that are NaN, not defined for their clip, are left out."""
    from scipy.stats import t

    defined = np.array([value for value in values if not np.isnan(value)])
    count = len(defined)
    half = float(t.ppf(0.975, count - 1) * defined.std(ddof=1) / np.sqrt(count)) if count > 1 else NAN
    return Estimate(float(defined.mean()) if count else NAN, half, count)


def summarize(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Estimate]]:
    """System -> metric -> estimate."""
    return {
        system: {name: estimate([outcome.metrics[system][name] for outcome in outcomes]) for name in metrics}
        for system, metrics in outcomes[0].metrics.items()
    }


def shown(name: str, value: float, half_width: float = NAN) -> str:
    """A value of metric ``name`` with its interval, where there is one."""
    column = COLUMNS[name]
    if np.isnan(value):
        return "-"
    parts = [value] if np.isnan(half_width) else [value, half_width]
    return " ± ".join(f"{part * column.scale:.{column.digits}f}" for part in parts)


def columns_of(summary: dict[str, dict[str, Estimate]]) -> dict[str, Column]:
    """Those in which any system has a figure."""
    return {name: column for name, column in COLUMNS.items() if any(name in figures for figures in summary.values())}


def table(summary: dict[str, dict[str, Estimate]]) -> str:
    """Systems down, metrics across, in Markdown."""
    columns = columns_of(summary)
    rows = [["system", *(column.title for column in columns.values())], ["---"] * (len(columns) + 1)]
    for system, figures in summary.items():
        rows.append([system, *(shown(name, *figures[name][:2]) if name in figures else "" for name in columns)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def decibels(signal: Signal) -> np.ndarray:
    """What is drawn of a signal, (bins, frames)."""
    return 20 * STFT(1024, 128)(torch.from_numpy(signal.audio)).abs().clamp_min(1e-5).log10().numpy()


def brightest(signals: dict[str, Signal]) -> float:
    """The level drawn brightest: what a thousandth of the recording, which comes first, exceeds."""
    return float(np.percentile(decibels(next(iter(signals.values()))), 99.9))


def draw(signals: dict[str, Signal], path: Path, top: float) -> None:
    """Spectrograms one below the other, RANGE dB below ``top``. On a transparent ground, for pages light and dark."""
    from matplotlib.figure import Figure

    grey = "#808080"
    figure = Figure(figsize=(6, 0.4 + 2.8 * len(signals)), layout="constrained")
    panels = figure.subplots(len(signals), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, signal) in zip(panels, signals.items(), strict=True):
        extent = (0, len(signal.audio) / signal.sample_rate, 0, signal.sample_rate / 2000)
        image = {"origin": "lower", "aspect": "auto", "cmap": "magma", "vmin": top - RANGE, "vmax": top}
        axes.imshow(decibels(signal), extent=extent, **image)
        axes.set_title(name, color=grey)
        axes.set_ylabel("kHz", color=grey)
        axes.tick_params(colors=grey)
        axes.spines[:].set_visible(False)
    panels[-1].set_xlabel("s", color=grey)
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=100, transparent=True)


def picture(signals: dict[str, Signal], path: Path, seconds: float = 4.0) -> None:
    """The first seconds of a recording, which comes first, and of its syntheses."""
    begin = {name: Signal(x.audio[: int(seconds * x.sample_rate)], x.sample_rate) for name, x in signals.items()}
    draw(begin, path, brightest(signals))


def write_sounds(folder: Path, number: int, signals: dict[str, Signal]) -> None:
    """Of clip ``number``, the recording and its syntheses as sound files and spectrograms."""
    top = brightest(signals)
    for index, (name, signal) in enumerate(signals.items()):
        stem = file_stem(number, index, name)
        (folder / f"{stem}.flac").write_bytes(encode_audio(signal.audio, signal.sample_rate, "flac"))
        draw({"": signal}, folder / f"{stem}.png", top)


def file_stem(number: int, index: int, system: str) -> str:
    """Of the sound file and the picture of a system, the ``index``-th, on a clip."""
    return f"{number:04d}-{index}-{re.sub(r'[^A-Za-z0-9]+', '-', system).strip('-')[-40:]}"


def write_page(folder: Path, source: str, outcomes: Sequence[Outcome]) -> None:
    """The page over the files of ``write_sounds``."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=here, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.globals.update(shown=shown, file_stem=file_stem, recording=RECORDING, range=RANGE)
    summary = summarize(outcomes)
    content = {"source": source, "outcomes": outcomes, "summary": summary, "columns": columns_of(summary)}
    text = page.get_template("report.html").render(content)
    (folder / "index.html").write_text(text, encoding="utf-8")
