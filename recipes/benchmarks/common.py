"""Options, published sizes, inputs, memory and tables of the benchmarks."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vocoders.checkpoint import Checkpoint
from vocoders.cli import bench
from vocoders.complexity import build_on_meta
from vocoders.config import Config
from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.errors import MelWarning, VocoderError
from vocoders.generators import GENERATORS, build_generator
from vocoders.inference.vocoder import Vocoder
from vocoders.nn.fast import set_up_memory

_PREFERRED = ("bigvgan-44k", "cosyvoice2-24k")  # mel configs to prefer among those of one hop
# sizes whose configuration does not determine the mel config
_MADE_FOR = {
    "wavehax fullband": MelConfig.parse("wavehax-24k:sample_rate=48000,hop_length=480,n_fft=2048,win_length=2048"),
    **dict.fromkeys(("ltx2 2.0", "ltx2 2.3"), MEL_CONFIGS["audioldm-16k"]),
    **dict.fromkeys(("degvoc v1", "univnet c32", "univnet c16"), MEL_CONFIGS["bigvgan-24k"]),
    **dict.fromkeys((f"flow2gan {steps}-step" for steps in (4, 2, 1)), MEL_CONFIGS["vocos-24k"]),
}


class Size(NamedTuple):
    """A published size of a generator, with a fitting mel config."""

    name: str
    config: Config
    mel_config: MelConfig

    def checkpoint(self) -> Checkpoint:
        """Build the untrained model, always with the same weights."""
        torch.manual_seed(0)
        return Checkpoint(self.mel_config, build_generator(self.name, self.config, self.mel_config).eval())


def make_vocoder(checkpoint: Checkpoint) -> Vocoder:
    """Make the vocoder of a checkpoint in memory."""
    set_up_memory()
    return Vocoder(checkpoint)


@cache
def published() -> dict[str, Size]:
    """List the published sizes of all generators by label, such as "hifigan v1"."""
    return {
        f"{name} {version}": Size(name, config, _MADE_FOR.get(f"{name} {version}") or _fitting(name, config))
        for name, generator in GENERATORS.items()
        for version, config in generator.configs.items()
    }


def find_size(label: str) -> Size:
    """Return the published size of a label."""
    if label not in published():
        raise VocoderError(f"unknown size '{label}'; known: {', '.join(published())}")
    return published()[label]


def default_label(name: str) -> str:
    """Return the label of a generator's default size."""
    return f"{name} {next(iter(GENERATORS[name].configs))}"


def _fitting(name: str, config: Config) -> MelConfig:
    """Return the mel config, of those with the largest hop, whose ``config_for`` differs least from a size."""
    alike: dict[MelConfig, int] = {}
    for mel_config in _by_hop():
        try:
            build_on_meta(name, config, mel_config)
            designed = GENERATORS[name].config_for(mel_config).model_dump()
        except VocoderError:
            continue
        alike[mel_config] = sum(designed[key] == value for key, value in config.model_dump().items())
    if not alike:
        raise VocoderError(f"no mel config fits a published size of {name}: {config}")
    return max(alike, key=lambda mel_config: alike[mel_config])


@cache
def _by_hop() -> list[MelConfig]:
    """List the first mel config of each hop, preferred ones first, the largest hop first."""
    by_hop: dict[int, MelConfig] = {}
    for mel_config in (*(MEL_CONFIGS[name] for name in _PREFERRED), *MEL_CONFIGS.values()):
        by_hop.setdefault(mel_config.hop_length, mel_config)
    return [by_hop[hop] for hop in sorted(by_hop, reverse=True)]


def noise_mel(mel_config: MelConfig, seconds: float) -> np.ndarray:
    """Make a log-mel of noise, float32 (n_mels, frames)."""
    frames = round(seconds * mel_config.sample_rate / mel_config.hop_length)
    return np.random.default_rng(0).normal(-5, 1, (mel_config.n_mels, frames)).astype(np.float32)


def f0_for(vocoder: Any, frames: int) -> np.ndarray | None:
    """Return F0 (frames,) in Hz for a model that needs it and cannot estimate it, else None."""
    return vocoder.plain_inputs(1, frames).get("f0")


def peak_memory(device: torch.device | str) -> float:
    """Measure the peak memory of a GPU or of this process, in MiB."""
    return bench.peak_memory(str(device)) or 0.0


def reset_peak_memory(device: torch.device | str) -> float:
    """Free unused memory, reset the peak (on Linux), and return the rest in MiB."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory(device)


def row(*cells: object) -> None:
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def header(*titles: str) -> None:
    """Print the head of a Markdown table."""
    row(*titles)
    print("|---" * len(titles) + "|", flush=True)


def parser(name: str, description: str, runs: int, threads: int | None = 2) -> argparse.ArgumentParser:
    """Make the parser of ``python -m recipes.benchmarks.NAME``, with --runs and perhaps --threads."""
    options = argparse.ArgumentParser(prog=f"python -m recipes.benchmarks.{name}", description=description)
    options.add_argument("--runs", type=int, default=runs, help=f"runs for medians (default: {runs})")
    if threads:
        options.add_argument("--threads", type=int, default=threads, help=f"CPU threads (default: {threads})")
    return options


def add_precision(options: argparse.ArgumentParser) -> None:
    """Add --precision."""
    options.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="precision of our side"
    )


def status(name: str, benchmark: Callable[[], None]) -> int:
    """Run a benchmark; return its exit status: 0, or 2 with one sentence on standard error."""
    warnings.simplefilter("ignore", MelWarning)  # the mels are noise
    try:
        benchmark()
    except VocoderError as error:
        print(f"recipes.benchmarks.{name}: {error}", file=sys.stderr)
        return 2
    return 0
