"""Quality after minutes of training: python -m recipes.benchmarks.minutes --data DIR [FAMILY ...]

Trains a small size of each family on one CPU core by its openvoices recipe, with a batch and a discriminator that are
small enough for it, and measures copy synthesis of recordings it is not trained on after each number of minutes. Such
short training shows which family starts fast, not which one ends best.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from recipes.benchmarks import common
from recipes.data.clips import Clip, choose, list_clips, read_clip
from recipes.evaluation.metrics import Signal, compare
from recipes.evaluation.systems import System
from recipes.training.loop import run_training
from recipes.training.recipe import load_recipe
from recipes.training.schema import Recipe
from vocoders.errors import VocoderError
from vocoders.generators import GENERATORS
from vocoders.pretrained import load

OPENVOICES = Path(__file__).parent.parent / "openvoices"


class Small(NamedTuple):
    """Settings of a family in this benchmark.

    Attributes:
        version: its published size, a key of ``configs``.
        changes: changes of the recipe, beside COMMON.
    """

    version: str
    changes: dict[str, str]


SMALL = {
    "hifigan": Small("v2", {}),
    "istftnet": Small("v2-c8c8i", {}),
    "parallel-wavegan": Small("v1-24k", {"losses.adversarial": "1.0"}),
    "wavehax": Small("v2", {"adversarial.objective": "lsgan"}),
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


def small_recipe(family: str, data: Path) -> Recipe:
    """Load the openvoices recipe of a family with the settings of this benchmark.

    Raises:
        VocoderError: for an unknown family.
    """
    if family not in SMALL:
        raise VocoderError(f"unknown family '{family}'; known: {', '.join(SMALL)}")
    version, changes = SMALL[family]
    config = GENERATORS[family].configs[version].model_dump(mode="json")
    settings = COMMON | changes | {"generator.config": json.dumps(config), "data.dir": str(data)}
    return load_recipe(OPENVOICES / f"{family}.yaml", [f"{key}={value}" for key, value in settings.items()])


def quality(path: Path, clips: list[Clip]) -> dict[str, float]:
    """Average metrics of copy synthesis; F0, where a model needs it, is the recording's own."""
    system = System(load(path))
    mel_config = system.voc.mel_config
    figures = []
    for clip in clips:
        reference = Signal(read_clip(clip, mel_config)[0].numpy(), mel_config.sample_rate)
        estimate = Signal(system.copy(reference.audio)[0], mel_config.sample_rate)
        figures.append(compare(reference, estimate, mel_config))
    return {name: float(np.nanmean([values[name] for values in figures])) for name in SHOWN}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("minutes", "Quality against minutes of training.")
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"default: {', '.join(SMALL)}")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of openvoices")
    parser.add_argument("--minutes", type=float, nargs="*", default=[2.5, 5, 10])
    parser.add_argument("--clips", type=int, default=8, help="clips of valid.txt to measure on")
    parser.add_argument("--out", type=Path, default=Path("runs/minutes"), metavar="DIR")
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        common.header("model", "minutes", "steps", "PESQ", "log-mel L1", "STFT distance", "noise texture")
        clips = choose(list_clips(options.data, options.data / "valid.txt"), options.clips)
        for family in options.families or SMALL:
            recipe = small_recipe(family, options.data)
            folder = options.out / family
            if folder.exists():
                raise VocoderError(f"{folder} holds an earlier run; choose another --out")
            spent = 0.0
            for minutes in sorted(options.minutes):
                path = run_training(recipe, folder, minutes=minutes - spent)
                spent = minutes
                shown = (f"{value:.2f}" for value in quality(path, clips).values())
                label = f"{family} {SMALL[family].version}"
                common.row(label, f"{minutes:g}", load(path).training["steps"], *shown)

    return common.status("minutes", benchmark)


if __name__ == "__main__":
    sys.exit(main())
