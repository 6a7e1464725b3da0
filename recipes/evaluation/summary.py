"""Summarise an evaluation: means with intervals, table and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recipes.evaluation.artifacts import Click, Line
from recipes.evaluation.metrics import NAN

Metrics = dict[str, float]

RECORDING = "recording"


class Column(NamedTuple):
    """Format of a metric in tables.

    Attributes:
        digits: number of decimals, after scaling.
        better: better direction, or ideal value.
        scale: factor, 100 for percentages.
    """

    title: str
    digits: int
    better: str
    meaning: str
    scale: float = 1.0


COLUMNS = {
    "distillmos": Column("DistillMOS", 2, "as recorded", "opinion predicted from the signal alone, 1 to 5"),
    "dnsmos": Column("DNSMOS", 2, "as recorded", "overall quality predicted from the signal alone, 1 to 5"),
    "nisqa": Column("NISQA", 2, "as recorded", "quality predicted from the signal alone, 1 to 5"),
    "visqol": Column("ViSQOL", 2, "↑", "similarity for speech, 1 to 5; does not notice buzz"),
    "pesq": Column("PESQ", 2, "↑", "perceptual quality, wide band, at most 4.64; does not notice buzz"),
    "stoi": Column("STOI", 3, "↑", "intelligibility, at most 1"),
    "log_mel_l1": Column("log-mel L1", 3, "↓", "mean absolute difference of the log-mels"),
    "stft_distance": Column("MR-STFT", 3, "↓", "spectral convergence + log-magnitude difference, three resolutions"),
    "mcd_db": Column("MCD, dB", 2, "↓", "mel-cepstral distortion: difference of the envelopes up to 8 kHz"),
    "voicing_error": Column("voicing error, %", 1, "↓", "instants that only one of the two calls voiced", 100),
    "voicing_f1": Column("voicing F1", 3, "↑", "harmonic mean of precision and recall of “voiced”"),
    "gross_error": Column("gross F0 error, %", 1, "↓", "voiced instants with an F0 error of more than 20 %", 100),
    "f0_rmse_cents": Column("F0 RMSE, cents", 0, "↓", "root mean square F0 error of the other voiced instants"),
    "periodicity_error": Column("periodicity error", 3, "↓", "RMSE of the share of the power that repeats, 0 to 1"),
    "periodicity_1k": Column("periodicity 1-2 kHz", 3, "as recorded", "correlation of neighbouring periods, at most 1"),
    "periodicity_2k": Column("2-4 kHz", 3, "as recorded", "the same in this band; less is noise, more is buzz"),
    "periodicity_4k": Column("4-8 kHz", 3, "as recorded", "the same in this band"),
    "noise_texture": Column("noise texture", 2, "→ 1", "spread of noise over the recording's; less is buzz"),
    "voiced_texture": Column("voiced texture", 2, "→ 1", "the same in voiced frames; less is noise, more is buzz"),
    "level_db": Column("level, dB", 2, "→ 0", "difference of its level from the recording's"),
    "above_mel_db": Column(
        "above the mel, dB", 1, "→ 0", "difference of its level from the recording's, above the band of the mel"
    ),
    "silence_dbfs": Column("silence, dBFS", 1, "as recorded", "its level where the recording is silent"),
    "lines": Column("tones", 2, "↓", "tones and stripes per clip that the recording does not have"),
    "clicks": Column("clicks", 2, "↓", "clicks per clip that the recording does not have"),
    "speed": Column("x real time", 1, "↑", "speed of the synthesis alone, on the machine that made the page"),
}


class Outcome(NamedTuple):
    """Results of one clip.

    Attributes:
        name: path of the clip.
        metrics: system -> metrics, empty without audio; F0 estimators count as systems.
        lines: system -> tones and stripes; none for the recording.
        clicks: system -> clicks, for the same systems.
    """

    name: str
    seconds: float
    metrics: dict[str, Metrics]
    lines: dict[str, list[Line]]
    clicks: dict[str, list[Click]]


class Mean(NamedTuple):
    """A mean over ``clips`` clips (NaN for none), and half its 95 % interval (Student's t)."""

    value: float
    half_width: float
    clips: int


Summary = dict[str, dict[str, Mean]]
"""System -> metric -> mean."""


def mean(values: Sequence[float]) -> Mean:
    """Average values over clips, without NaN, which means undefined."""
    from scipy.stats import t

    defined = np.array([value for value in values if not np.isnan(value)])
    count = len(defined)
    half = float(t.ppf(0.975, count - 1) * defined.std(ddof=1) / np.sqrt(count)) if count > 1 else NAN
    return Mean(float(defined.mean()) if count else NAN, half, count)


def average(draws: Sequence[Metrics]) -> Metrics:
    """Average the metrics over several syntheses of a clip."""
    return {name: mean([metrics[name] for metrics in draws]).value for name in draws[0]}


def summarize(outcomes: Sequence[Outcome]) -> Summary:
    """Average each system's metrics over its clips."""
    summary: Summary = {}
    for system in outcomes[0].metrics:
        figures = [outcome.metrics[system] for outcome in outcomes]
        names = dict.fromkeys(name for metrics in figures for name in metrics)
        summary[system] = {name: mean([metrics.get(name, NAN) for metrics in figures]) for name in names}
    return summary


def shown(name: str, value: float, half_width: float = NAN) -> str:
    """Format a value of metric ``name`` with its interval, if any."""
    column = COLUMNS[name]
    if np.isnan(value):
        return "-"
    parts = [value] if np.isnan(half_width) else [value, half_width]
    return " ± ".join(f"{part * column.scale:.{column.digits}f}" for part in parts)


def measured_columns(summary: Summary) -> dict[str, Column]:
    """Select the columns with a value."""
    measured = {name for figures in summary.values() for name, mean in figures.items() if mean.clips}
    return {name: column for name, column in COLUMNS.items() if name in measured}


def table(summary: Summary) -> str:
    """Format a Markdown table: rows are systems, columns metrics."""
    columns = measured_columns(summary)
    rows = [["system", *(column.title for column in columns.values())], ["---"] * (len(columns) + 1)]
    for system, figures in summary.items():
        rows.append([system, *(shown(name, *figures[name][:2]) if name in figures else "" for name in columns)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def as_json(outcomes: Sequence[Outcome]) -> str:
    """Format means, intervals and each clip's metrics as JSON; undefined values are null."""

    def null(metrics: Metrics) -> dict[str, float | None]:
        return {name: value if np.isfinite(value) else None for name, value in metrics.items()}

    summary = summarize(outcomes)
    heard = dict.fromkeys(system for outcome in outcomes for system in outcome.lines)
    content = {
        "clips": [outcome.name for outcome in outcomes],
        "mean": {system: null({k: v.value for k, v in values.items()}) for system, values in summary.items()},
        "interval": {system: null({k: v.half_width for k, v in values.items()}) for system, values in summary.items()},
        "per_clip": {system: [null(outcome.metrics[system]) for outcome in outcomes] for system in summary},
        "lines": {system: [outcome.lines.get(system, []) for outcome in outcomes] for system in heard},
        "clicks": {system: [outcome.clicks.get(system, []) for outcome in outcomes] for system in heard},
    }
    return json.dumps(content, indent=1, allow_nan=False)
