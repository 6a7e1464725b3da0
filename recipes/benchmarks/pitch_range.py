"""How far the pitch of a voice reaches: python -m recipes.benchmarks.pitch_range [MODEL]

Copy synthesis of synthetic vowels from 60 to 1100 Hz, from the mel alone: the F0 that the model reads from the mel, and
the F0 and level of what it makes of it. The F0 of the synthesis is WORLD's Harvest, from 45 to 1500 Hz.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import torch

from recipes.evaluate import load_checkpointed
from vocoders.errors import VocoderError

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


def described(track: np.ndarray, hz: float) -> str:
    """Share of voiced frames, and their median F0 off by how many cents."""
    voiced = track[track > 0]
    if not len(voiced):
        return "0 % | "
    return f"{100 * len(voiced) / len(track):.0f} % | {1200 * np.log2(np.median(voiced) / hz):+.0f}"


def main(arguments: list[str] | None = None) -> int:
    import pyworld

    parser = argparse.ArgumentParser(
        prog="python -m recipes.benchmarks.pitch_range", description="The range of pitch of a voice."
    )
    parser.add_argument("model", nargs="?", help="as for vocode -m (default: the built-in voice)")
    options = parser.parse_args(arguments)
    try:
        voc = load_checkpointed(options.model)
        if voc.pitch is None:
            raise VocoderError(f"{voc.name} reads no F0 from the mel")
    except VocoderError as error:
        print(f"recipes.benchmarks.pitch_range: {error}", file=sys.stderr)
        return 2
    print("| F0, Hz | from the mel: voiced | off, cents | synthesis: voiced | off, cents | level, dB |")
    print("|---|---|---|---|---|---|")
    for hz in PITCHES:
        audio = vowel(hz, voc.sample_rate)
        mel = voc.analyze(audio)
        read = voc.pitch.estimate(torch.from_numpy(mel)[None])[0, 0].numpy()[10:-10]
        fake = voc(mel)
        heard, _ = pyworld.harvest(fake.astype(np.float64), voc.sample_rate, 45.0, 1500.0)
        inside = slice(voc.sample_rate // 4, -voc.sample_rate // 4)
        level = 10 * np.log10(np.mean(fake[inside] ** 2) / np.mean(audio[inside] ** 2))
        print(f"| {hz} | {described(read, hz)} | {described(heard[50:-50], hz)} | {level:+.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
