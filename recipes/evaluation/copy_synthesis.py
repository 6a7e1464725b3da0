"""Measure copy synthesis: analyse recordings, synthesise them from their mels, and compare.

Griffin-Lim (60 iterations) on the first model's mels is the baseline. A model that needs F0 and has no F0 estimator
gets the recording's F0, and its name in the table says so.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
import torch
from tqdm import tqdm

from recipes.data.clips import Clip, read_clip
from recipes.evaluation.artifacts import clicks, stationary_lines
from recipes.evaluation.cluster import run_on_cluster
from recipes.evaluation.judges import judge
from recipes.evaluation.metrics import Signal, band_periodicity, compare, f0_metrics, silence_level
from recipes.evaluation.nisqa import nisqa
from recipes.evaluation.report import write_page, write_sounds
from recipes.evaluation.spectrograms import draw_comparison
from recipes.evaluation.summary import RECORDING, Metrics, Outcome, average
from recipes.evaluation.systems import Comparison, System, load_systems, reference_f0
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.files import atomic_folder

MANY = 10
"""Number of recordings from which the command warns about the duration."""

Opinion = Callable[[Signal, Signal], Metrics]
"""Predicts the listeners' opinion of the second signal, a copy of the first or the first itself."""


@dataclass(frozen=True)
class Page:
    """Settings of the listening page: its new folder, the recordings' name and their source in a sentence."""

    folder: Path
    title: str
    sound_format: str = "flac"
    credits: str = ""


def evaluate(
    clips: Sequence[Clip],
    comparison: Comparison,
    root: Path,
    *,
    page: Page | None = None,
    with_nisqa: bool = False,
    with_judges: bool = False,
    workers: int = 1,
    ray: str | None = None,
) -> tuple[list[Outcome], list[str]]:
    """Measure the copy synthesis of recordings below ``root``, in ``workers`` processes or on a Ray cluster.

    Returns the outcome of each clip, and a sentence for each failed clip. Raises VocoderError when all clips failed, or
    the page cannot be written.
    """
    with atomic_folder(page.folder) if page else nullcontext() as folder:
        save = partial(write_sounds, folder, sound_format=page.sound_format) if page and folder else None
        opinions = ((nisqa_opinion,) if with_nisqa else ()) + ((judge,) if with_judges else ())
        task = partial(measure, comparison=comparison, root=root, save=save, opinions=opinions)
        results = list(_shown(_run(task, list(enumerate(clips)), workers, ray), len(clips)))
        outcomes = [result for result in results if isinstance(result, Outcome)]
        failed = [result for result in results if isinstance(result, str)]
        if not outcomes:
            raise VocoderError(f"none of the {len(failed)} recordings could be measured, such as {failed[0]}")
        if page and folder:
            others = [other.name for other in comparison.others]
            write_page(folder, page.title, outcomes, page.sound_format, page.credits, others)
    return outcomes, failed


def measure(
    numbered: tuple[int, Clip],
    comparison: Comparison,
    root: Path,
    save: Callable[[int, dict[str, Signal]], None] | None,
    opinions: Sequence[Opinion],
) -> Outcome | str:
    """Measure all systems on a numbered clip; return the outcome, or a sentence if the clip failed.

    ``save`` writes the signals of a clip number, by system, recording included.
    """
    number, clip = numbered
    name = Path(os.path.relpath(clip.path, root))
    outcome = Outcome(name.as_posix(), clip.samples / clip.sample_rate, {}, {}, {})
    signals: dict[str, Signal] = {}
    estimators: dict[str, Metrics] = {}
    try:
        systems = load_systems(comparison)
        for system, reference, estimates, seconds in synthesize(clip, systems, comparison.draws):
            if not signals:
                signals[RECORDING] = reference
                outcome.metrics[RECORDING] = recording_metrics(reference, opinions)
                outcome.lines[RECORDING], outcome.clicks[RECORDING] = [], []
            signals[system.name] = estimates[0]
            _record(outcome, system.name, reference, estimates, system.audio_config, opinions)
            outcome.metrics[system.name]["speed"] = len(reference.audio) / reference.sample_rate / seconds
            f0 = system.estimated_f0(reference.audio)
            if f0 is not None:
                labels = reference_f0(reference.audio, system.voc, len(f0))
                estimators[f"{system.name}: F0 from the mel"] = f0_metrics(labels, f0)
        mel_config = systems[0].audio_config
        for other in comparison.others:
            outcome.metrics[other.name] = {}  # keeps the system's row, also without a file for this clip
            estimate = other.read(name, signals[RECORDING], mel_config)
            if estimate is not None:
                signals[other.name] = estimate
                _record(outcome, other.name, signals[RECORDING], [estimate], mel_config, opinions)
    except (VocoderError, soundfile.LibsndfileError) as error:
        return str(error) if str(clip.path) in str(error) else f"{clip.path}: {error}"
    if save:  # after the metrics: a write error is not the clip's fault
        save(number, signals)
    outcome.metrics.update(estimators)
    return outcome


def _record(
    outcome: Outcome,
    system: str,
    reference: Signal,
    estimates: Sequence[Signal],
    mel_config: MelConfig,
    opinions: Sequence[Opinion],
) -> None:
    """Add the means over a system's estimates, and the artifacts of the first, to an outcome."""
    outcome.lines[system] = stationary_lines(reference, estimates[0])
    outcome.clicks[system] = clicks(reference, estimates[0])
    outcome.metrics[system] = average([copy_metrics(reference, x, mel_config, opinions) for x in estimates]) | {
        "lines": float(len(outcome.lines[system])),
        "clicks": float(len(outcome.clicks[system])),
    }


def recording_metrics(reference: Signal, opinions: Sequence[Opinion]) -> Metrics:
    """Measure the recording's own metrics, the targets of a synthesis."""
    metrics = {"silence_dbfs": silence_level(reference, reference), **band_periodicity(reference, reference)}
    return _ask(opinions, reference, reference) | metrics


def copy_metrics(reference: Signal, estimate: Signal, mel_config: MelConfig, opinions: Sequence[Opinion]) -> Metrics:
    """Compare a synthesis with its recording, and predict the listeners' opinion."""
    return compare(reference, estimate, mel_config) | _ask(opinions, reference, estimate)


def nisqa_opinion(reference: Signal, estimate: Signal) -> Metrics:
    """Return NISQA of ``estimate``."""
    return {"nisqa": nisqa(estimate)}


def _ask(opinions: Sequence[Opinion], reference: Signal, estimate: Signal) -> Metrics:
    """Merge the results of all opinions."""
    return {name: value for opinion in opinions for name, value in opinion(reference, estimate).items()}


def synthesize(
    clip: Clip, systems: Iterable[System], draws: int = 1
) -> Iterator[tuple[System, Signal, list[Signal], float]]:
    """Copy a recording with each system.

    Yields system, recording at its rate, copies with seeds 0 to ``draws`` - 1 (one of Griffin-Lim), and seconds per
    synthesis.
    """
    recordings: dict[tuple[int, int], Signal] = {}
    for system in systems:
        mel_config = system.audio_config
        kind = mel_config.sample_rate, mel_config.hop_length
        if kind not in recordings:
            recordings[kind] = Signal(read_clip(clip, mel_config)[0].numpy(), mel_config.sample_rate)
        reference = recordings[kind]
        seeds = range(1 if system.griffin_lim else draws)
        copies, seconds = zip(*(system.copy(reference.audio, seed) for seed in seeds), strict=True)
        yield system, reference, [Signal(copy, reference.sample_rate) for copy in copies], sum(seconds) / len(seeds)


def draw_clip(clip: Clip, comparison: Comparison, path: Path) -> None:
    """Draw the spectrograms of a recording and its copies into a .png."""
    copies = list(synthesize(clip, load_systems(comparison)))
    signals = {f"{RECORDING} {clip.path.stem}": copies[0][1]}
    draw_comparison(signals | {system.name: estimates[0] for system, _, estimates, _ in copies}, path)


def _shown(results: Iterable[Outcome | str], total: int) -> Iterator[Outcome | str]:
    """Show progress: a bar in a terminal; else, from MANY clips on, a line for each tenth."""
    bar = tqdm(results, total=total, unit="clip", disable=None)
    for number, result in enumerate(bar, 1):
        yield result
        if bar.disable and total >= MANY and 10 * number // total > 10 * (number - 1) // total:
            print(f"measured {number} of {total} recordings", file=sys.stderr, flush=True)


def _run(
    task: Callable[[Any], Outcome | str], items: Sequence[Any], workers: int, ray: str | None
) -> Iterator[Outcome | str]:
    """Run ``task`` on each item, in order, in processes or on a cluster."""
    if ray is not None:
        yield from run_on_cluster(task, items, ray)
        return
    if workers == 1:
        yield from map(task, items)
        return
    threads = max(1, torch.get_num_threads() // workers)
    context = multiprocessing.get_context("spawn")  # a fork would share torch's threads
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (threads,)) as pool:
        yield from pool.map(task, items)
