"""Time and memory of one training step: python -m recipes.benchmarks.training_step [--clones CLONES]

Every pairing of a generator, at its published size, and a discriminator (or several, NAME+NAME): both are updated once,
with the mel loss and feature matching beside the adversarial one. Generator "none" is the discriminator's part alone.
With clones of public implementations (see recipes/benchmarks/public.py) their step is measured right after ours, at the
same sizes. Each measurement is a process of its own; medians. The machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from losses.discriminators import DISCRIMINATORS
from recipes.benchmarks import peak_resident
from recipes.benchmarks.public import PUBLIC, public_step
from recipes.training.distributed import Ranks, join
from recipes.training.loop import descend, start, train_step
from recipes.training.recipe import Recipe
from vocoders.config import bind
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators.hifigan import HiFiGAN
from vocoders.generators.istftnet import ISTFTNet
from vocoders.generators.parallel_wavegan import ParallelWaveGAN
from vocoders.generators.wavehax import Wavehax

# Generator: label, configuration, mel config.
GENERATORS: dict[str, tuple[str, dict[str, Any], str]] = {
    "hnmask": ("HNMask", {}, "hifigan-22k"),
    "hifigan": ("HiFi-GAN V1", HiFiGAN.configs["v1"].model_dump(), "hifigan-22k"),
    "istftnet": ("iSTFTNet V1-C8C8I", ISTFTNet.configs["v1-c8c8i"].model_dump(), "hifigan-22k"),
    "parallel-wavegan": ("Parallel WaveGAN v1", ParallelWaveGAN.configs["v1-24k"].model_dump(), "espnet-24k"),
    "wavehax": ("Wavehax v1", Wavehax.configs["v1"].model_dump(), "wavehax-24k"),
    "multi-stream-wavehax": ("Wavehax multi-stream", {}, "wavehax-24k"),
}


def recipe_of(generator: str, discriminator: str, batch: int, samples: int, precision: str) -> Recipe:
    """A recipe of one pairing, without data; of the discriminator alone for generator "none"."""
    _, config, named = GENERATORS["hnmask" if generator == "none" else generator]
    mel_config = MEL_CONFIGS[named]
    values = {
        "name": "step",
        "mel": mel_config.model_dump(),
        "generator": {"name": "hnmask" if generator == "none" else generator, "config": config},
        "data": {"dir": ".", "train": "-", "valid": "-"},
        # Parallel WaveGAN's own discriminator is trained against without feature matching.
        "losses": {"full_band_mel": 45.0, "feature_matching": 0.0 if discriminator == "parallel-wavegan" else 2.0},
        "discriminators": {name: {} for name in discriminator.split("+")},
        "optimizer": {"lr": 2e-4, "clip": 1e3},
        "train": {
            "steps": 1000,
            "batch_size": batch,
            "segment_frames": samples // mel_config.hop_length,
            "precision": precision,
        },
    }
    return bind(Recipe, values, "the benchmark's recipe")


def peak_memory(device: torch.device) -> float:
    """MiB: of the GPU, or of this process."""
    return torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else peak_resident()


def measured(options: argparse.Namespace, whose: str, generator: str, discriminator: str) -> dict[str, float]:
    """Median seconds of a step and the MiB that building and stepping add, in this process."""
    recipe = recipe_of(generator, discriminator, options.batch, options.samples, options.precision)
    frames, hop = recipe.train.segment_frames, recipe.mel.hop_length
    torch.manual_seed(0)
    device = join(options.device).device
    audio = 0.1 * torch.randn(options.batch, 1, frames * hop, device=device)
    f0 = torch.full((options.batch, 1, frames), 150.0, device=device)
    torch.fft.rfft(audio)
    before = peak_memory(device)
    step: Callable[[], Any]
    if whose == "public":
        opponents = PUBLIC[generator, discriminator](options.clones, discriminator)
        for module in opponents[::2]:
            module.to(device)
        update = public_step(opponents, recipe.mel, recipe.optimizer.lr)
        mel = torch.full((options.batch, recipe.mel.n_mels, frames), -5.0, device=device)
        noise = torch.randn_like(audio)

        def step() -> None:
            update(mel, f0, noise, audio)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run = start(recipe, Path(folder), Ranks(device=device))
        if generator == "none":
            assert run.adversary is not None
            adversary = run.adversary
            fake = (audio + 0.01 * torch.randn_like(audio)).requires_grad_()

            def step() -> None:
                with torch.autocast(device.type, torch.bfloat16, recipe.train.precision == "bfloat16"):
                    terms, own = adversary(fake, audio)
                loss = torch.stack([recipe.weights[name] * term for name, term in terms.items()]).sum()
                loss.backward(inputs=[fake], retain_graph=True)
                weights = list(adversary.parameters())
                own.backward(inputs=weights)
                descend(run, "adversary", weights, recipe.optimizer, recipe.train.steps)
                run.optimizers["adversary"].zero_grad(set_to_none=True)
        else:

            def step() -> None:
                train_step(run, [{"audio": audio, "f0": f0}], recipe)

    times = []
    for _ in range(options.steps + 1):
        begin = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begin)
    return {"seconds": statistics.median(times[1:]), "memory": peak_memory(device) - before}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.benchmarks.training_step", description="Time and memory of one training step."
    )
    parser.add_argument("--clones", type=Path, help="folder of clones of public implementations")
    parser.add_argument("--generators", nargs="*", default=["none", *GENERATORS], choices=["none", *GENERATORS])
    parser.add_argument(
        "--discriminators", nargs="*", default=list(DISCRIMINATORS), metavar="NAME", help="several as NAME+NAME"
    )
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--samples", type=int, default=8192, help="of a segment, rounded down to whole frames")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of ours")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--device", help="cpu or cuda; default: a GPU where there is one")
    parser.add_argument("--one", choices=["ours", "public"], help=argparse.SUPPRESS)  # how this script calls itself
    options = parser.parse_args(arguments)
    if options.one:
        torch.set_num_threads(options.threads)
        print(json.dumps(measured(options, options.one, options.generators[0], options.discriminators[0])))
        return 0

    def result(whose: str, generator: str, discriminator: str) -> dict[str, float]:
        command = [sys.executable, "-m", "recipes.benchmarks.training_step", "--one", whose]
        command += ["--generators", generator, "--discriminators", discriminator]
        for name in ("batch", "samples", "precision", "threads", "steps"):
            command += [f"--{name}", str(getattr(options, name))]
        command += ["--device", options.device] if options.device else []
        command += ["--clones", str(options.clones)] if options.clones else []
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return {"seconds": float("nan"), "memory": float("nan")}
        return json.loads(done.stdout.splitlines()[-1])

    print(f"{options.batch} x {options.samples} samples, {options.threads} threads, ours in {options.precision}\n")
    print("| generator | discriminator | step, s | memory, MiB | public, s | public, MiB | times faster |")
    print("|---|---|---|---|---|---|---|")
    for generator in options.generators:
        label = "none" if generator == "none" else GENERATORS[generator][0]
        for discriminator in options.discriminators:
            ours = result("ours", generator, discriminator)
            row = f"| {label} | {discriminator} | {ours['seconds']:.3f} | {ours['memory']:.0f} |"
            if options.clones and (generator, discriminator) in PUBLIC:
                public = result("public", generator, discriminator)
                ratio = public["seconds"] / ours["seconds"]
                row += f" {public['seconds']:.3f} | {public['memory']:.0f} | {ratio:.2f} |"
            else:
                row += " | | |"
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
