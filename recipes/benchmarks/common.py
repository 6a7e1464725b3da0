"""Functions that the benchmarks share: options, published sizes, mels of noise, memory, rows of tables."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import sys
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
from vocoders.errors import VocoderError
from vocoders.generators import GENERATORS, build_generator
from vocoders.inference.vocoder import Vocoder
from vocoders.nn.fast import set_up_memory

_PREFERRED = ("bigvgan-44k", "cosyvoice2-24k")  # of the mel configs of a hop, those that sizes were published for
# Sizes whose mel config their configuration does not tell
_MADE_FOR = {
    "wavehax fullband": MelConfig.parse("wavehax-24k:sample_rate=48000,hop_length=480,n_fft=2048,win_length=2048")
}


class Size(NamedTuple):
    """A published size of a generator.

    Attributes:
        name: name of the generator.
        config: its configuration.
        mel_config: a mel config that it fits.
    """

    name: str
    config: Config
    mel_config: MelConfig

    def checkpoint(self) -> Checkpoint:
        """Build the untrained model, with the same weights each time."""
        torch.manual_seed(0)
        return Checkpoint(self.mel_config, build_generator(self.name, self.config, self.mel_config).eval())

    def vocoder(self) -> Vocoder:
        """Build the untrained model, ready to use."""
        return make_vocoder(self.checkpoint())


def make_vocoder(checkpoint: Checkpoint) -> Vocoder:
    """Make a vocoder of a checkpoint that is in no file, as ``load`` does of one that is."""
    set_up_memory()
    return Vocoder(checkpoint)


@cache
def published() -> dict[str, Size]:
    """List the published sizes of all generators, by labels such as "hifigan v1"."""
    return {
        f"{name} {version}": Size(name, config, _MADE_FOR.get(f"{name} {version}") or _fitting(name, config))
        for name, generator in GENERATORS.items()
        for version, config in generator.configs.items()
    }


def default_label(name: str) -> str:
    """Return the label in ``published`` of the default size of a generator."""
    return f"{name} {next(iter(GENERATORS[name].configs))}"


def _fitting(name: str, config: Config) -> MelConfig:
    """Return the mel config that a size is for, the first one of its hop.

    Of those it allows, that for which ``config_for`` differs least from it; then that of the largest hop.
    """
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
    """List the first mel config of each hop, of the preferred and the named ones, the largest hop first."""
    by_hop: dict[int, MelConfig] = {}
    preferred = (MEL_CONFIGS[name] for name in _PREFERRED)
    for mel_config in (*preferred, *MEL_CONFIGS.values()):
        by_hop.setdefault(mel_config.hop_length, mel_config)
    return [by_hop[hop] for hop in sorted(by_hop, reverse=True)]


def noise_mel(mel_config: MelConfig, seconds: float) -> np.ndarray:
    """Make a log-mel of noise, float32 (n_mels, frames)."""
    frames = round(seconds * mel_config.sample_rate / mel_config.hop_length)
    return np.random.default_rng(0).normal(-5, 1, (mel_config.n_mels, frames)).astype(np.float32)


def f0_for(vocoder: Any, frames: int) -> np.ndarray | None:
    """Return F0 for a model that needs it and cannot estimate it, (frames,) in Hz; else None."""
    return np.full(frames, 150, np.float32) if vocoder.uses_f0 and not vocoder.estimates_f0 else None


def peak_memory(device: torch.device | str) -> float:
    """Measure the most memory that was allocated on a GPU, or that this process has had, in MiB."""
    return bench.peak_memory(str(device)) or 0.0


def reset_peak_memory(device: torch.device | str) -> float:
    """Forget the peak, return what was freed to the system, and measure what is left, in MiB; on Linux."""
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # of C libraries other than glibc
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


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """Make the parser of ``python -m recipes.benchmarks.NAME``."""
    return argparse.ArgumentParser(prog=f"python -m recipes.benchmarks.{name}", description=description)


def add_model(options: argparse.ArgumentParser) -> None:
    """Add the positional argument MODEL."""
    options.add_argument("model", nargs="?", help="as for vocode -m (default: the built-in model)")


def add_runs(options: argparse.ArgumentParser, default: int, more: str = "") -> None:
    """Add --runs, over which a median is taken."""
    options.add_argument("--runs", type=int, default=default, help=f"runs for medians{more} (default: {default})")


def add_threads(options: argparse.ArgumentParser, default: int = 2) -> None:
    """Add --threads."""
    options.add_argument("--threads", type=int, default=default, help=f"CPU threads (default: {default})")


def add_precision(options: argparse.ArgumentParser) -> None:
    """Add --precision."""
    options.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="precision of our side"
    )


def status(name: str, benchmark: Callable[[], None]) -> int:
    """Run a benchmark; returns the exit status: 0, or 2 with one sentence on standard error for a VocoderError."""
    try:
        benchmark()
    except VocoderError as error:
        print(f"recipes.benchmarks.{name}: {error}", file=sys.stderr)
        return 2
    return 0
