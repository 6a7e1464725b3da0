"""How far the pitch of a voice reaches: python -m recipes.benchmarks.pitch_range [MODEL]

Copy synthesis of synthetic vowels from 60 to 1100 Hz, from the mel alone: the F0 that the model reads from the mel, if
it reads any, and the F0 and level of what it makes of it. The F0 of the synthesis is WORLD's Harvest, from 45 to 1500
Hz. The last row is digital silence.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from itertools import chain

import numpy as np
import torch

from vocoders.errors import MelWarning, VocoderError
from vocoders.inference.vocoder import Vocoder
from vocoders.pretrained import load

PITCHES = (60, 70, 80, 100, 150, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1100)


def vowel(hz: float, sample_rate: int, seconds: float = 1.5) -> np.ndarray:
    """Harmonics of ``hz`` under an envelope with two formants, over a little noise: float32 (samples,)."""
    time = np.arange(int(sample_rate * seconds)) / sample_rate
    total = np.zeros_like(time)
    for k in range(1, int(sample_rate / 2 / hz)):
        f = k * hz
        gain = np.exp(-f / 2500) + np.exp(-(((f - 700) / 200) ** 2)) + 0.5 * np.exp(-(((f - 2300) / 300) ** 2))
        total += gain * np.sin(2 * np.pi * f * time + k * k)
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.3 * total / np.abs(total).max() + 1e-3 * noise).astype(np.float32)


def described(track: np.ndarray | None, hz: float | None) -> str:
    """Share of voiced frames, and their median F0 off by how many cents of ``hz``, which silence has not."""
    if track is None:
        return " | "
    voiced = track[track > 0]
    cents = f"{1200 * np.log2(np.median(voiced) / hz):+.0f}" if len(voiced) and hz else ""
    return f"{100 * len(voiced) / len(track):.0f} % | {cents}"


def row(voc: Vocoder, hz: float | None) -> str:
    """Of the table: a vowel, or silence when ``hz`` is None."""
    import pyworld

    audio = vowel(hz, voc.sample_rate) if hz else np.zeros(3 * voc.sample_rate // 2, np.float32)
    mel = voc.analyze(audio, voc.sample_rate)
    read = voc.f0_estimator.estimate(torch.from_numpy(mel)[None])[0, 0].numpy()[10:-10] if voc.f0_estimator else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MelWarning)  # the values of a vowel alone are an unusual mel
        fake = voc(mel)
    heard, _ = pyworld.harvest(fake.astype(np.float64), voc.sample_rate, 45.0, 1500.0)
    inside = slice(voc.sample_rate // 4, -voc.sample_rate // 4)
    level, own = (10 * np.log10(max(np.mean(x[inside].astype(float) ** 2), 1e-12)) for x in (fake, audio))
    shown = f"{level - own:+.1f}" if hz else f"{level:.0f} dBFS"
    return f"| {hz or 'silence'} | {described(read, hz)} | {described(heard[50:-50], hz)} | {shown} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.benchmarks.pitch_range", description="The range of pitch of a voice."
    )
    parser.add_argument("model", nargs="?", help="as for vocode -m (default: the built-in voice)")
    options = parser.parse_args(arguments)
    try:
        voc = load(options.model)
        rows = (row(voc, hz) for hz in (*PITCHES, None))
        first = next(rows)  # where a model that needs F0 and reads none is found out
    except VocoderError as error:
        print(f"recipes.benchmarks.pitch_range: {error}", file=sys.stderr)
        return 2
    print("| F0, Hz | from the mel: voiced | off, cents | synthesis: voiced | off, cents | level, dB |")
    print("|---|---|---|---|---|---|")
    for line in chain([first], rows):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
