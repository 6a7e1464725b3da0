"""Predict listeners' opinions with models whose weights come with their packages.

- DistillMOS (Stahl and Gamper 2025, arXiv 2502.05356), MIT: from a signal alone.
- DNSMOS P.835 (Reddy et al. 2022, arXiv 2110.01763), MIT: overall quality, from a signal alone.
- ViSQOL v3 (Chinen et al. 2020, arXiv 2004.09584), Apache 2.0, for speech, with its polynomial: similarity to the
  recording.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from recipes.data.audio import resample
from recipes.evaluation.metrics import NAN, Signal
from vocoders.errors import VocoderError

RATE = 16000  # Hz
SECONDS = 1.0  # shorter signals have too few frames for ViSQOL, and DNSMOS repeats them


def distillmos(reference: Signal, estimate: Signal) -> float:
    """Predict the mean opinion score of ``estimate``, 1 to 5."""
    with torch.inference_mode():
        return float(_load_distillmos()(torch.from_numpy(_at_rate(estimate))[None]))


def dnsmos(reference: Signal, estimate: Signal) -> float:
    """Predict the overall quality of ``estimate``, 1 to 5."""
    from speechmos import dnsmos

    return float(dnsmos.run(_at_rate(estimate).clip(-1, 1), RATE)["ovrl_mos"])


def visqol(reference: Signal, estimate: Signal) -> float:
    """Compare ``estimate`` with ``reference``, 1 to 5."""
    signals = [_at_rate(signal).astype(np.float64) for signal in (reference, estimate)]
    return float(_load_visqol().measure_from_arrays(*signals, sample_rate=RATE).moslqo)


JUDGES: dict[str, Callable[[Signal, Signal], float]] = {"distillmos": distillmos, "dnsmos": dnsmos, "visqol": visqol}


def judge(reference: Signal, estimate: Signal) -> dict[str, float]:
    """Ask all judges, by key of JUDGES; NaN for silent signals and those shorter than SECONDS.

    ViSQOL is skipped where ``estimate`` is ``reference``.
    """
    asked = [name for name in JUDGES if name != "visqol" or estimate is not reference]
    heard = all(len(x.audio) >= SECONDS * x.sample_rate and np.any(x.audio) for x in (reference, estimate))
    threads = torch.get_num_threads()
    try:
        return {name: JUDGES[name](reference, estimate) if heard else NAN for name in asked}
    finally:
        torch.set_num_threads(threads)  # the parallel loops of ViSQOL change it


def require_judges() -> None:
    """Load all judges; a missing package is a VocoderError."""
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 2 * RATE).astype(np.float32)
    try:
        judge(Signal(noise, RATE), Signal(noise.copy(), RATE))
    except ImportError as error:
        raise VocoderError(f'the judges need {error.name}: pip install -e ".[judges]"') from None


@functools.cache
def _load_distillmos() -> torch.nn.Module:
    from distillmos import ConvTransformerSQAModel

    with contextlib.redirect_stdout(io.StringIO()):  # it prints the path of its weights
        model: torch.nn.Module = ConvTransformerSQAModel()
    return model.eval()


@functools.cache
def _load_visqol() -> Any:
    from visqol import VisqolApi

    judge = VisqolApi()
    judge.create(mode="speech", use_lattice_model=False)
    return judge


def _at_rate(signal: Signal) -> np.ndarray:
    """Resample a signal to RATE."""
    return resample(signal.audio, signal.sample_rate, RATE)
