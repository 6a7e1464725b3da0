"""The pitch range of a model: python -m recipes.benchmarks.pitch_range [MODEL]

Copy synthesis of synthetic vowels from 55 to 1400 Hz, from the mel alone: the F0 that the model estimates from the mel,
if it estimates any, and the F0 and level of its synthesis. The F0 of the synthesis is WORLD's Harvest, from 45 to 1500
Hz. The last row is digital silence.
"""

from __future__ import annotations

import sys
import warnings
from itertools import chain

import numpy as np

from recipes.benchmarks import common
from recipes.evaluation.systems import System, load_named
from vocoders.errors import MelWarning

PITCHES = (55, 60, 70, 80, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100, 1200, 1300, 1400)


def vowel(hz: float, sample_rate: int, seconds: float = 1.5) -> np.ndarray:
    """Make harmonics of ``hz`` under an envelope with two formants, over a little noise: float32 (samples,)."""
    time = np.arange(int(sample_rate * seconds)) / sample_rate
    total = np.zeros_like(time)
    for k in range(1, int(sample_rate / 2 / hz)):
        f = k * hz
        gain = np.exp(-f / 2500) + np.exp(-(((f - 700) / 200) ** 2)) + 0.5 * np.exp(-(((f - 2300) / 300) ** 2))
        total += gain * np.sin(2 * np.pi * f * time + k * k)
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.3 * total / np.abs(total).max() + 1e-3 * noise).astype(np.float32)


def describe(track: np.ndarray | None, hz: float | None) -> tuple[str, str]:
    """Describe an F0 track: the share of voiced frames, and the error of their median from ``hz`` in cents."""
    if track is None:
        return "", ""
    voiced = track[track > 0]
    cents = f"{1200 * np.log2(np.median(voiced) / hz):+.0f}" if len(voiced) and hz else ""
    return f"{100 * len(voiced) / len(track):.0f} %", cents


def measure(system: System, hz: float | None) -> tuple[object, ...]:
    """Measure one row of the table: a vowel, or silence when ``hz`` is None.

    Raises:
        VocoderError: for a model that needs F0 and cannot estimate it.
    """
    import pyworld

    voc = system.voc
    audio = vowel(hz, voc.sample_rate) if hz else np.zeros(3 * voc.sample_rate // 2, np.float32)
    estimated = system.estimated_f0(audio)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MelWarning)  # the values of a vowel alone are an unusual mel
        synthesis = voc(voc.analyze(audio, voc.sample_rate))
    f0, _ = pyworld.harvest(synthesis.astype(np.float64), voc.sample_rate, 45.0, 1500.0)
    inside = slice(voc.sample_rate // 4, -voc.sample_rate // 4)
    level, reference = (10 * np.log10(max(np.mean(x[inside].astype(float) ** 2), 1e-12)) for x in (synthesis, audio))
    return (
        hz or "silence",
        *describe(None if estimated is None else estimated[10:-10], hz),
        *describe(f0[50:-50], hz),
        f"{level - reference:+.1f}" if hz else f"{level:.0f} dBFS",
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("pitch_range", "The pitch range of a model.")
    common.add_model(parser)
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        system = System(load_named(options.model))
        rows = (measure(system, hz) for hz in (*PITCHES, None))
        first = next(rows)  # before the head, because a model that cannot estimate the F0 it needs fails here
        common.header("F0, Hz", "from the mel: voiced", "off, cents", "synthesis: voiced", "off, cents", "level, dB")
        for cells in chain([first], rows):
            common.row(*cells)

    return common.status("pitch_range", benchmark)


if __name__ == "__main__":
    sys.exit(main())
