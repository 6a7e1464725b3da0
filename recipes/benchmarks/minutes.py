"""What minutes of training buy: python -m recipes.benchmarks.minutes --data DIR [FAMILY ...]

Trains the small version of each family on one CPU core by its openvoices recipe, with a batch and a discriminator that
such a core can bear, and measures copy synthesis of recordings it is not trained on after each number of minutes. So
short a training says which family gets going fast, not which one ends best.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from recipes.data.clips import Clip, choose, list_clips, read_clip
from recipes.evaluation.metrics import Signal, compare
from recipes.evaluation.systems import System
from recipes.training.loop import run_training
from recipes.training.recipe import load_recipe
from vocoders.errors import VocoderError
from vocoders.pretrained import load

OPENVOICES = Path(__file__).parent.parent / "openvoices"
SMALL = {
    "hifigan": ("HiFi-GAN V2", {"generator.config": "{channels: 128}"}),
    "istftnet": ("iSTFTNet V2-C8C8I", {"generator.config": "{channels: 128}"}),
    "parallel-wavegan": ("Parallel WaveGAN v1", {"losses.adversarial": "1.0"}),
    "wavehax": (
        "Wavehax v2",
        {"generator.config": "{channels: 16, expansion: 3, kernel_size: [13, 7]}", "adversarial.objective": "lsgan"},
    ),
}
COMMON = {
    "discriminators": "{multi-resolution: {channels: 16}}",
    "adversarial.start": "500",
    "adversarial.optimizer": "{lr: 0.0005, betas: [0.8, 0.99], warmup: 0, schedule: decay, decay: 1.0}",
    "optimizer": "{lr: 0.001, betas: [0.8, 0.99], warmup: 100, schedule: decay, decay: 1.0, clip: 10.0}",
    "train.precision": "bfloat16",
    "train.batch_size": "4",
    "train.segment_frames": "32",
    "train.threads": "1",
    "train.ema": "0.99",
    "train.save_every": "1000000",
    "train.validate_every": "1000000",
    "train.log_every": "10",
    "data.workers": "0",
}
SHOWN = ("pesq", "log_mel_l1", "stft_distance", "noise_texture")


def quality(path: Path, clips: list[Clip]) -> dict[str, float]:
    """Mean metrics of copy synthesis; F0, where a model needs it, is the recording's own."""
    system = System(load(path))
    mel_config = system.voc.mel_config
    found = []
    for clip in clips:
        audio = read_clip(clip, mel_config)[0].numpy()
        fake, _ = system.copy(audio)
        found.append(compare(Signal(audio, mel_config.sample_rate), Signal(fake, mel_config.sample_rate), mel_config))
    return {name: float(np.nanmean([values[name] for values in found])) for name in SHOWN}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.benchmarks.minutes", description="Quality against minutes of training."
    )
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"default: {', '.join(SMALL)}")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of openvoices")
    parser.add_argument("--minutes", type=float, nargs="*", default=[2.5, 5, 10])
    parser.add_argument("--clips", type=int, default=8, help="of valid.txt to measure on")
    parser.add_argument("--out", type=Path, default=Path("runs/minutes"), metavar="DIR")
    options = parser.parse_args(arguments)
    print("| model | minutes | steps | PESQ | log-mel L1 | STFT distance | noise texture |")
    print("|---|---|---|---|---|---|---|", flush=True)
    try:
        clips = choose(list_clips(options.data, options.data / "valid.txt"), options.clips)
        for family in options.families or SMALL:
            if family not in SMALL:
                raise VocoderError(f"unknown family '{family}'; known: {', '.join(SMALL)}")
            label, changes = SMALL[family]
            settings = [f"{key}={value}" for key, value in (COMMON | changes).items()]
            recipe = load_recipe(OPENVOICES / f"{family}.yaml", [*settings, f"data.dir={options.data}"])
            if (options.out / family).exists():
                raise VocoderError(f"{options.out / family} holds an earlier run; choose another --out")
            spent = 0.0
            for minutes in sorted(options.minutes):
                path = run_training(recipe, options.out / family, minutes=minutes - spent)
                spent = minutes
                values = quality(path, clips)
                shown = " | ".join(f"{values[name]:.2f}" for name in SHOWN)
                print(f"| {label} | {minutes:g} | {load(path).training['steps']} | {shown} |", flush=True)
    except VocoderError as error:
        print(f"recipes.benchmarks.minutes: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
