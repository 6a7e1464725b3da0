"""Measurement of the copy synthesis of recordings.

Each recording is analysed and synthesised again from its mel alone, and the copy is compared with it. Griffin-Lim (60
iterations) on the mels of the first model is measured too. A model that needs F0 and has no F0 estimator is given the
recording's, and its name in the table says so.
"""

from __future__ import annotations

import multiprocessing
import os
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
from recipes.evaluation.metrics import Signal, compare, f0_metrics, silence_level
from recipes.evaluation.nisqa import nisqa
from recipes.evaluation.report import write_page, write_sounds
from recipes.evaluation.spectrograms import draw_comparison
from recipes.evaluation.summary import RECORDING, Metrics, Outcome
from recipes.evaluation.systems import Models, System, load_systems, reference_f0
from vocoders.errors import VocoderError
from vocoders.files import atomic_folder


@dataclass(frozen=True)
class Page:
    """Settings of the listening page of an evaluation.

    Attributes:
        folder: folder of the page, which does not exist yet.
        title: name of the recordings, for the title.
        sound_format: ending of its sound files.
        credits: a sentence about the origin of the recordings.
    """

    folder: Path
    title: str
    sound_format: str = "flac"
    credits: str = ""


def evaluate(
    clips: Sequence[Clip],
    models: Models,
    root: Path,
    *,
    page: Page | None = None,
    with_nisqa: bool = False,
    workers: int = 1,
    ray: str | None = None,
) -> tuple[list[Outcome], list[str]]:
    """Measure the copy synthesis of recordings.

    Args:
        clips: recordings below ``root``.
        models: as for ``load_systems``.
        root: folder that the names of the clips are relative to.
        page: the listening page to write; None for none.
        with_nisqa: whether NISQA is measured too.
        workers: number of processes.
        ray: address of the Ray cluster whose workers measure, as for ``connected``; None for these processes.

    Returns:
        The outcome of each clip, and a sentence for each clip that failed.

    Raises:
        VocoderError: when all clips failed, or the page cannot be written.
    """
    with atomic_folder(page.folder) if page else nullcontext() as folder:
        save = partial(write_sounds, folder, sound_format=page.sound_format) if page and folder else None
        task = partial(measure, models=models, root=root, save=save, with_nisqa=with_nisqa)
        results = list(
            tqdm(_run(task, list(enumerate(clips)), workers, ray), total=len(clips), unit="clip", disable=None)
        )
        outcomes = [result for result in results if isinstance(result, Outcome)]
        failed = [result for result in results if isinstance(result, str)]
        if not outcomes:
            raise VocoderError(f"none of the {len(failed)} recordings could be measured, such as {failed[0]}")
        if page and folder:
            write_page(folder, page.title, outcomes, page.sound_format, page.credits)
    return outcomes, failed


def measure(
    numbered: tuple[int, Clip],
    models: Models,
    root: Path,
    save: Callable[[int, dict[str, Signal]], None] | None,
    with_nisqa: bool,
) -> Outcome | str:
    """Measure all systems on one clip.

    Args:
        numbered: number and clip.
        models: as for ``load_systems``.
        root: folder that the name of the clip is relative to.
        save: function that writes the recording and its copies, given the number of the clip and the signals by system.
        with_nisqa: whether NISQA is measured too.

    Returns:
        The outcome; a sentence for a clip that failed.
    """
    number, clip = numbered
    outcome = Outcome(Path(os.path.relpath(clip.path, root)).as_posix(), clip.samples / clip.sample_rate, {}, {}, {})
    signals: dict[str, Signal] = {}
    estimators: dict[str, Metrics] = {}
    try:
        for system, reference, estimate, seconds in synthesize(clip, load_systems(models)):
            if not signals:
                signals[RECORDING] = reference
                outcome.metrics[RECORDING] = {"silence_dbfs": silence_level(reference, reference)}
                outcome.lines[RECORDING], outcome.clicks[RECORDING] = [], []
            signals[system.name] = estimate
            outcome.lines[system.name] = stationary_lines(reference, estimate)
            outcome.clicks[system.name] = clicks(reference, estimate)
            outcome.metrics[system.name] = compare(reference, estimate, system.voc.mel_config) | {
                "lines": float(len(outcome.lines[system.name])),
                "clicks": float(len(outcome.clicks[system.name])),
                "speed": len(reference.audio) / reference.sample_rate / seconds,
            }
            f0 = system.estimated_f0(reference.audio)
            if f0 is not None:
                labels = reference_f0(reference.audio, system.voc, len(f0))
                estimators[f"{system.name}: F0 from the mel"] = f0_metrics(labels, f0)
        if with_nisqa:
            for name, signal in signals.items():
                outcome.metrics[name]["nisqa"] = nisqa(signal)
        if save:
            save(number, signals)
    except (VocoderError, soundfile.LibsndfileError) as error:
        return str(error) if str(clip.path) in str(error) else f"{clip.path}: {error}"
    outcome.metrics.update(estimators)
    return outcome


def synthesize(clip: Clip, systems: Iterable[System]) -> Iterator[tuple[System, Signal, Signal, float]]:
    """Copy a recording with each system.

    Yields:
        The system, the recording at its rate, its copy of the recording, and the seconds that the synthesis took.
    """
    recordings: dict[tuple[int, int], Signal] = {}
    for system in systems:
        mel_config = system.voc.mel_config
        kind = mel_config.sample_rate, mel_config.hop_length
        if kind not in recordings:
            recordings[kind] = Signal(read_clip(clip, mel_config)[0].numpy(), mel_config.sample_rate)
        reference = recordings[kind]
        audio, seconds = system.copy(reference.audio)
        yield system, reference, Signal(audio, reference.sample_rate), seconds


def draw_clip(clip: Clip, models: Models, path: Path) -> None:
    """Draw the spectrograms of a recording and of its copies into a picture (.png)."""
    systems, references, estimates, _ = zip(*synthesize(clip, load_systems(models)), strict=True)
    names = [f"{RECORDING} {clip.path.stem}", *(system.name for system in systems)]
    draw_comparison(dict(zip(names, (references[0], *estimates), strict=True)), path)


def _run(
    task: Callable[[Any], Outcome | str], items: Sequence[Any], workers: int, ray: str | None
) -> Iterator[Outcome | str]:
    """Run ``task`` on each item, in order, in ``workers`` processes or on a cluster."""
    if ray is not None:
        yield from run_on_cluster(task, items, ray)
        return
    if workers == 1:
        yield from map(task, items)
        return
    threads = max(1, torch.get_num_threads() // workers)
    context = multiprocessing.get_context("spawn")  # a fork would share the threads of torch
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (threads,)) as pool:
        yield from pool.map(task, items)
