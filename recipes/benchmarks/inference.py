"""Synthesis beside the public implementations: python -m recipes.benchmarks.inference --clones DIR [--device cuda]

Same weights, same input, in one run and in turn; medians. The weights are the public implementation's own random ones,
taken over by our importers, so that the equality of both outputs (signal-to-noise ratio) is measured along. DIR holds
clones that the user made, see recipes/benchmarks/public.py; weight norm is folded in both, as inference code does.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from recipes.benchmarks import public
from vocoders.checkpoint import Checkpoint
from vocoders.importers import import_checkpoint
from vocoders.vocoder import Vocoder

Generate = Callable[[Tensor, Tensor, Tensor], Tensor]  # (mel, f0, noise) -> audio
Pair = tuple[str, nn.Module, Generate, Checkpoint]


def _mel_alone(generator: nn.Module, mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
    audio: Tensor = generator(mel)
    return audio


def pairs(clones: Path, folder: Path) -> Iterator[Pair]:
    """Label, public generator, how it is called, and the same weights as a checkpoint of ours."""
    for version in ("v1", "v2", "v3"):
        config = clones / "hifi-gan" / f"config_{version}.json"
        (models,) = public.load_modules(clones / "hifi-gan", "models")
        generator = models.Generator(public.Settings(json.loads(config.read_text())))
        torch.save({"generator": generator.state_dict()}, folder / "g")
        ours = import_checkpoint("hifi-gan", folder / "g", config)
        with contextlib.redirect_stdout(io.StringIO()):  # it says so
            generator.remove_weight_norm()
        yield f"HiFi-GAN {version.upper()}", generator, partial(_mel_alone, generator), ours

    opponents = public.parallel_wavegan(clones, "parallel-wavegan")
    sizes = {
        "layers": 30,
        "stacks": 3,
        "kernel_size": 3,
        "residual_channels": 64,
        "gate_channels": 128,
        "skip_channels": 64,
        "aux_context_window": 2,
        "upsample_params": {"upsample_scales": [4, 5, 3, 5]},
    }
    mel = {"sampling_rate": 24000, "fft_size": 2048, "hop_size": 300, "win_length": 1200, "num_mels": 80}
    (folder / "config.yml").write_text(yaml.safe_dump(mel | {"fmin": 80, "fmax": 7600, "generator_params": sizes}))
    torch.save({"model": {"generator": opponents.generator.state_dict()}}, folder / "p.pkl")
    ours = import_checkpoint("parallel-wavegan", folder / "p.pkl", folder / "config.yml")
    fold: Any = opponents.generator.remove_weight_norm
    fold()
    yield "Parallel WaveGAN v1, 24 kHz", opponents.generator, opponents.generate, ours

    opponents = public.wavehax(clones, "multi-resolution")
    config = clones / "wavehax/wavehax/bin/config/generator/wavehax.v1.yaml"
    torch.save({"model": {"generator": opponents.generator.state_dict()}}, folder / "w.pkl")
    ours = import_checkpoint("wavehax", folder / "w.pkl", config, None, "wavehax-24k")
    yield "Wavehax v1", opponents.generator, opponents.generate, ours


def row(pair: Pair, seconds: float, batch: int, runs: int, device: torch.device, precision: str) -> str:
    label, theirs, generate, checkpoint = pair
    assert checkpoint.generator is not None
    theirs = theirs.eval().to(device)
    generator = copy.deepcopy(Vocoder(checkpoint).generator).to(device)
    spec = checkpoint.mel_spec
    frames = round(seconds * spec.sample_rate / spec.hop_length)
    source = torch.Generator().manual_seed(0)
    mel = (torch.randn(batch, spec.n_mels, frames, generator=source) - 5).to(device)
    noise = torch.randn(batch, 1, frames * spec.hop_length, generator=source).to(device)
    f0 = torch.full((batch, 1, frames), 150.0, device=device)

    def public_one() -> Tensor:
        return generate(mel, f0, noise)

    def ours() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, precision == "bfloat16"):
            return generator(mel, f0=f0, noise=noise)

    times: dict[Any, list[float]] = {public_one: [], ours: []}
    with torch.inference_mode():
        for turn in range(runs + 2):
            for function, list_ in times.items():
                begin = time.perf_counter()
                audio = function()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if turn >= 2:  # the first ones warm up
                    list_.append(time.perf_counter() - begin)
                times[function] = list_
                if turn == 0 and function is public_one:
                    wanted = audio.double()
                elif turn == 0:
                    error = (audio.double() - wanted).square().mean()
    snr = float(10 * torch.log10(wanted.square().mean() / error))
    a, b = (statistics.median(list_) for list_ in times.values())
    # Wavehax of the public code draws its own phase and noise: its output cannot be compared here, see test_importers.
    shown = "" if label.startswith("Wavehax") else f"{snr:.0f}"
    speeds = " | ".join(f"{batch * seconds / duration:.1f}" for duration in (a, b))
    return f"| {label} | {batch} x {seconds:g} s | {speeds} | {a / b:.2f} | {shown} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.benchmarks.inference", description="Synthesis beside the public implementations."
    )
    parser.add_argument("--clones", type=Path, required=True, help="see recipes/benchmarks/public.py")
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of ours")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{options.device}, {options.threads} threads, {options.precision}, torch {torch.__version__}\n")
    print("| generator | input | public, x real time | ours, x real time | ratio | SNR, dB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for pair in pairs(options.clones, Path(folder)):
            for batch in options.batch:
                for seconds in options.seconds:
                    device = torch.device(options.device)
                    print(row(pair, seconds, batch, options.runs, device, options.precision), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
