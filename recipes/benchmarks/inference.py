"""Synthesis beside the public implementations: python -m recipes.benchmarks.inference --clones DIR [--device cuda]

Same weights, same input; each in a process of its own, because our setting of the C library's memory would speed the
public code up as well. They run in turn; times are medians. Ours is ``Vocoder.__call__``, from numpy to numpy, as users
call it, but with an F0 that is given; theirs is the bare network without weight norm, as their inference code has it.
The weights are the public implementation's random ones, taken over by our importers, so the equality of both outputs
(signal-to-noise ratio) is measured along. Memory is the most of a process, beyond what it had with the model loaded.

DIR holds clones that the user made, see recipes/benchmarks/public.py.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from recipes.benchmarks import peak_resident, public
from vocoders.checkpoint import Checkpoint, save_checkpoint
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.noise import white_noise
from vocoders.errors import MelWarning
from vocoders.importers import import_checkpoint
from vocoders.pretrained import load

Generate = Callable[[Tensor, Tensor, Tensor], Tensor]  # (mel, f0, noise) -> audio (batch, 1, samples)
Pair = tuple[nn.Module, Generate, Checkpoint]
"""The public generator, how it is called, and the same weights as a checkpoint of ours."""


def hifigan(version: str, clones: Path, folder: Path) -> Pair:
    config = clones / "hifi-gan" / f"config_{version}.json"
    (models,) = public.load_modules(clones / "hifi-gan", "models")
    generator = models.Generator(public.Settings(json.loads(config.read_text())))
    torch.save({"generator": generator.state_dict()}, folder / "g")
    ours = import_checkpoint("hifi-gan", folder / "g", config)
    _fold(generator)
    return generator, lambda mel, f0, noise: generator(mel), ours


def istftnet(clones: Path, folder: Path) -> Pair:
    clone = clones / "iSTFTNet-pytorch"
    (models,) = public.load_modules(clone, "models")
    settings: Any = public.Settings(json.loads((clone / "config_v1.json").read_text()))
    generator = models.Generator(settings)
    nn.init.normal_(generator.conv_post.weight_g, std=1e-3)  # or exp(.) of random weights overflows
    torch.save({"generator": generator.state_dict()}, folder / "g")
    ours = import_checkpoint("istftnet", folder / "g", clone / "config_v1.json")
    _fold(generator)
    n_fft, hop = settings.gen_istft_n_fft, settings.gen_istft_hop_size
    window = torch.hann_window(n_fft)

    def generate(mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
        spectrum, phase = generator(mel)  # the inverse is a class of its own there, with a fixed device
        audio = torch.istft(spectrum * torch.exp(phase * 1j), n_fft, hop, n_fft, window=window.to(mel.device))
        return audio.unsqueeze(1)

    return generator, generate, ours


def parallel_wavegan(clones: Path, folder: Path) -> Pair:
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
    _fold(opponents.generator)
    return opponents.generator, opponents.generate, ours


def wavehax(clones: Path, folder: Path) -> Pair:
    opponents = public.wavehax(clones, "multi-resolution")
    config = clones / "wavehax/wavehax/bin/config/generator/wavehax.v1.yaml"
    torch.save({"model": {"generator": opponents.generator.state_dict()}}, folder / "w.pkl")
    ours = import_checkpoint("wavehax", folder / "w.pkl", config, None, "wavehax-24k")

    def generate(mel: Tensor, f0: Tensor, noise: Tensor) -> Tensor:
        """It draws noise and an initial phase of its own: ours take their place."""
        with (
            mock.patch("torch.randn", return_value=noise),
            mock.patch("torch.rand", return_value=torch.zeros(1, 1, device=noise.device)),
        ):
            return opponents.generate(mel, f0, noise)

    return opponents.generator, generate, ours


def _fold(generator: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):  # some say so
        generator.remove_weight_norm()


PAIRS: dict[str, Callable[[Path, Path], Pair]] = {
    "HiFi-GAN V1": lambda clones, folder: hifigan("v1", clones, folder),
    "HiFi-GAN V2": lambda clones, folder: hifigan("v2", clones, folder),
    "HiFi-GAN V3": lambda clones, folder: hifigan("v3", clones, folder),
    "iSTFTNet V1-C8C8I": istftnet,
    "Parallel WaveGAN v1, 24 kHz": parallel_wavegan,
    "Wavehax v1": wavehax,
}


def make(label: str, clones: Path, folder: Path) -> Pair:
    """The same random weights in every process."""
    torch.manual_seed(0)
    warnings.simplefilter("ignore", FutureWarning)  # of the public code's weight norm
    return PAIRS[label](clones, folder)


def inputs(mel_config: MelConfig, seconds: float, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mel (batch, n_mels, frames), f0 (batch, frames) and the noise of ``Vocoder`` (batch, 1, samples)."""
    frames = round(seconds * mel_config.sample_rate / mel_config.hop_length)
    mel = np.random.default_rng(0).normal(-5, 1, (batch, mel_config.n_mels, frames)).astype(np.float32)
    noise = np.broadcast_to(
        white_noise(0, frames * mel_config.hop_length, 0), (batch, 1, frames * mel_config.hop_length)
    )
    return mel, np.full((batch, frames), 150, np.float32), noise


def public_side(options: argparse.Namespace, label: str, batch: int, seconds: float, folder: Path) -> Iterator[Any]:
    """First what the process has in memory, then the audio of each run (batch, samples), numpy."""
    generator, generate, checkpoint = make(label, options.clones, folder)
    generator = generator.eval().to(options.device)
    arrays = inputs(checkpoint.mel_config, seconds, batch)
    mel, f0, noise = (torch.tensor(array, device=options.device) for array in arrays)
    yield memory(options.device)
    while True:
        with torch.inference_mode():
            yield generate(mel, f0.unsqueeze(1), noise).squeeze(1).cpu().numpy()


def our_side(options: argparse.Namespace, label: str, batch: int, seconds: float, folder: Path) -> Iterator[Any]:
    vocoder = load(folder / "ours.safetensors", options.device, options.precision)
    mel, f0, _ = inputs(vocoder.mel_config, seconds, batch)
    warnings.simplefilter("ignore", MelWarning)  # the mels are noise
    yield memory(options.device)
    while True:
        yield vocoder(mel, f0)


def memory(device: str) -> float:
    """MiB, the most so far."""
    return torch.cuda.max_memory_allocated() / 2**20 if device.startswith("cuda") else peak_resident()


def work(side: Callable[..., Iterator[Any]], options: argparse.Namespace, pipe: Connection, *case: Any) -> None:
    """Serves ``row`` in a process of its own: for each message one run, and its time in seconds; then the memory."""
    torch.set_num_threads(options.threads)
    runs = side(options, *case)
    before = next(runs)
    pipe.send("ready")
    while wanted := pipe.recv():
        begin = time.perf_counter()
        audio = next(runs)
        pipe.send((time.perf_counter() - begin, audio if wanted == "audio" else None, memory(options.device) - before))


def row(options: argparse.Namespace, label: str, batch: int, seconds: float) -> str:
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = make(label, options.clones, folder)[2]
        save_checkpoint(checkpoint, folder / "ours.safetensors")
        pipes, processes = [], []
        for side in (public_side, our_side):
            here, there = context.Pipe()
            arguments = (side, options, there, label, batch, seconds, folder)
            processes.append(context.Process(target=work, args=arguments, daemon=True))
            processes[-1].start()
            there.close()
            pipes.append(here)
            here.recv()
        taken: list[list[float]] = [[], []]
        audio, most = [], [0.0, 0.0]
        for turn in range(options.runs + 1):
            for i, pipe in enumerate(pipes):
                time.sleep(0.2)  # until the other's threads no longer wait for work
                pipe.send("audio" if turn == 0 else "time")
                duration, result, most[i] = pipe.recv()
                if turn == 0:
                    audio.append(result.astype(np.float64))
                if turn or not options.runs:  # the first one warms up
                    taken[i].append(duration)
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.send("")
            process.join()
    snr = 10 * np.log10(np.square(audio[0]).mean() / np.square(audio[1] - audio[0]).mean())
    a, b = (statistics.median(some) for some in taken)
    speeds = " | ".join(f"{batch * seconds / duration:.3g}" for duration in (a, b))
    used = f"{most[0]:.0f} | {most[1]:.0f} | {most[1] / most[0]:.2f}"
    return f"| {label} | {batch} x {seconds:g} s | {speeds} | {a / b:.2f} | {snr:.0f} | {used} |"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.benchmarks.inference", description="Synthesis beside the public implementations."
    )
    parser.add_argument("generators", nargs="*", help=f"of {', '.join(PAIRS)} (default: all)")
    parser.add_argument("--clones", type=Path, required=True, help="see recipes/benchmarks/public.py")
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--runs", type=int, default=7, help="after one that warms up; 0: only that one (default: 7)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of ours")
    options = parser.parse_args(arguments)
    if unknown := set(options.generators) - set(PAIRS):
        parser.error(f"no such generator: {', '.join(sorted(unknown))}; there are {', '.join(PAIRS)}")
    print(f"{options.device}, {options.threads} threads, {options.precision}, torch {torch.__version__}\n")
    print("| generator | input | public, x real time | ours | ratio | SNR, dB | public, MiB | ours | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in itertools.product(options.generators or PAIRS, options.batch, options.seconds):
        try:
            print(row(options, *case), flush=True)
        except FileNotFoundError as error:
            print(f"{error}; clones are yours to make, see recipes/benchmarks/public.py", file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
