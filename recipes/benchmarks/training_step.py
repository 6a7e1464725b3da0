"""Measure time and memory of a training step: python -m recipes.benchmarks.training_step [--clones CLONES]

Measures each pair of a generator, at its default size, and one or more discriminators (NAME+NAME). Both are updated
once, with mel, feature matching and adversarial losses. Generator "none" is the discriminators' part alone. With clones
(public.py) the public step follows ours, at the same sizes. Medians, each in its own process; keep the machine idle.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import torch

from losses import DISCRIMINATORS
from recipes.benchmarks import common, public
from recipes.training.distributed import DistributedContext, init_distributed
from recipes.training.run import start_run
from recipes.training.schema import Recipe
from recipes.training.step import Run, train_step
from vocoders.config import bind
from vocoders.generators import GENERATORS

NONE = "none"  # no generator


class Setup(NamedTuple):
    """A pair to measure, and the command's options."""

    generator: str
    discriminator: str
    batch: int
    samples: int
    precision: str
    runs: int
    device: str | None
    threads: int
    clones: Path | None


Step = Callable[[], object]


def make_recipe(setup: Setup) -> Recipe:
    """Make a pair's recipe, without data."""
    generator = next(iter(GENERATORS)) if setup.generator == NONE else setup.generator
    size = common.published()[common.default_label(generator)]
    values = {
        "name": "step",
        "mel_config": size.mel_config.model_dump(),
        "generator": {"name": generator, "config": size.config.model_dump()},
        "data": {"dir": ".", "train": "-", "valid": "-"},
        # Parallel WaveGAN trains without feature matching.
        "losses": {
            "full_band_mel": 45.0,
            "feature_matching": 0.0 if setup.discriminator == "parallel-wavegan" else 2.0,
        },
        "discriminators": {name: {} for name in setup.discriminator.split("+")},
        "optimizer": {"lr": 2e-4, "clip": 1e3},
        "train": {
            "steps": 1000,
            "batch_size": setup.batch,
            "segment_frames": setup.samples // size.mel_config.hop_length,
            "precision": setup.precision,
        },
    }
    return bind(Recipe, values, "the benchmark's recipe")


def our_step(setup: Setup, recipe: Recipe, batch: dict[str, torch.Tensor]) -> Step:
    """Make our training step."""
    device = batch["audio"].device
    with tempfile.TemporaryDirectory() as folder:
        run = start_run(recipe, Path(folder), DistributedContext(device=device))
    if setup.generator == NONE:
        return discriminator_step(run, batch["audio"])
    return lambda: train_step(run, [batch])


def discriminator_step(run: Run, audio: torch.Tensor) -> Step:
    """Make the discriminators' part of a step: both gradients and their own update."""
    assert run.discriminators is not None
    discriminators, recipe = run.discriminators, run.recipe
    fake = (audio + 0.01 * torch.randn_like(audio)).requires_grad_()

    def step() -> None:
        with torch.autocast(audio.device.type, torch.bfloat16, recipe.train.precision == "bfloat16"):
            losses, own = discriminators(fake, audio)
        loss = torch.stack([recipe.weights[name] * value for name, value in losses.items()]).sum()
        loss.backward(inputs=[fake], retain_graph=True)
        own.backward(inputs=list(discriminators.parameters()))
        run.clip_and_step("discriminators")
        run.optimizers["discriminators"].zero_grad(set_to_none=True)

    return step


def their_step(setup: Setup, recipe: Recipe, batch: dict[str, torch.Tensor]) -> Step:
    """Make the public implementation's training step."""
    assert setup.clones is not None
    audio, f0 = batch["audio"], batch["f0"]
    theirs = public.PAIRS[common.default_label(setup.generator)](setup.clones)
    build = public.DISCRIMINATORS[setup.generator, setup.discriminator]
    discriminator = build(setup.clones, setup.discriminator)
    theirs.generator.to(audio.device)
    discriminator.module.to(audio.device)
    update = public.public_step(theirs, discriminator, recipe.mel_config, recipe.optimizer.lr)
    mel = torch.full((setup.batch, recipe.mel_config.n_mels, f0.shape[-1]), -5.0, device=audio.device)
    noise = torch.randn_like(audio)
    return lambda: update(mel, f0, noise, audio)


def measure(setup: Setup, make_step: Callable[[Setup, Recipe, dict[str, torch.Tensor]], Step]) -> tuple[float, float]:
    """Measure a step's median seconds, and the MiB that building and stepping add."""
    torch.set_num_threads(setup.threads)
    recipe = make_recipe(setup)
    frames = recipe.train.segment_frames
    torch.manual_seed(0)
    device = init_distributed(setup.device).device
    batch = {
        "audio": 0.1 * torch.randn(setup.batch, 1, frames * recipe.mel_config.hop_length, device=device),
        "f0": torch.full((setup.batch, 1, frames), 150.0, device=device),
    }
    torch.fft.rfft(batch["audio"])  # loads the libraries of any step
    before = common.peak_memory(device)
    step = make_step(setup, recipe, batch)
    times, warm_up = [], 1 if device.type == "cpu" else 5
    for _ in range(setup.runs + warm_up):
        begin = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times[warm_up:]), common.peak_memory(device) - before


def print_row(setup: Setup) -> None:
    """Measure and print a pair, each side in its own process."""
    has_public = setup.clones and (setup.generator, setup.discriminator) in public.DISCRIMINATORS
    results = []
    for make_step in (our_step, their_step) if has_public else (our_step,):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            results.append(process.submit(measure, setup, make_step).result())
    cells = [f"{seconds:.3f} | {memory:.0f}" for seconds, memory in results]
    cells.append(f"{results[1][0] / results[0][0]:.2f}" if has_public else " | | ")
    common.row(setup.generator, setup.discriminator, *cells)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = common.parser("training_step", "Time and memory of one training step.", runs=5)
    parser.add_argument("--clones", type=Path, help="folder of clones of public implementations")
    generators = [NONE, *GENERATORS]
    parser.add_argument("--generators", nargs="*", default=generators, choices=generators)
    parser.add_argument(
        "--discriminators", nargs="*", default=list(DISCRIMINATORS), metavar="NAME", help="several as NAME+NAME"
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--samples", type=int, default=8192, help="samples of a segment, rounded down to whole frames")
    common.add_precision(parser)
    parser.add_argument("--device", help="cpu or cuda; default: a GPU where there is one")
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        print(f"{options.batch} x {options.samples} samples, {options.threads} threads, ours in {options.precision}\n")
        titles = ("step, s", "memory, MiB", "public, s", "public, MiB", "times faster")
        common.header("generator", "discriminator", *titles)
        rest: Any = [getattr(options, name) for name in Setup._fields[2:]]
        for generator in options.generators:
            for discriminator in options.discriminators:
                print_row(Setup(generator, discriminator, *rest))

    return common.status("training_step", benchmark)


if __name__ == "__main__":
    sys.exit(main())
