"""Copy synthesis of recordings, measured: python -m recipes.evaluate [[NAME=]MODEL ...] --data DIR [--report DIR]

Each recording is analysed, synthesised again from its mel alone, and compared with itself; Griffin-Lim (60
iterations) on the mels of the first model stands beside the models. A model that needs F0 and has no estimator of its
own is given the recording's, and its name in the table says so.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from recipes.data.clips import Clip, choose, find_clips, list_clips, read_clip
from recipes.data.f0_labels import f0_at, label_f0
from recipes.data.segments import frame_times
from recipes.evaluation.artifacts import clicks, stationary_lines
from recipes.evaluation.griffin_lim import griffin_lim
from recipes.evaluation.metrics import Signal, compare, f0_metrics, silence_level
from recipes.evaluation.nisqa import nisqa, require_nisqa
from recipes.evaluation.report import (
    RECORDING,
    Metrics,
    Outcome,
    picture,
    summarize,
    write_page,
    write_sounds,
)
from vocoders.errors import VocoderError
from vocoders.files import atomic_folder, atomic_write
from vocoders.inference.vocoder import Vocoder
from vocoders.pretrained import load

Models = tuple[str | None, ...]


@dataclass(frozen=True)
class System:
    """A model, or Griffin-Lim on the mels of one."""

    voc: Vocoder
    griffin_lim: bool = False

    @property
    def given_f0(self) -> bool:
        return self.voc.generator.uses_f0 and self.voc.f0_estimator is None and not self.griffin_lim

    @property
    def name(self) -> str:
        return "griffin-lim" if self.griffin_lim else f"{self.voc.name}, F0 given" if self.given_f0 else self.voc.name

    def copy(self, audio: np.ndarray) -> tuple[np.ndarray, float]:
        """Copy synthesis of ``audio``, as long as it, and the seconds it took from the mel on."""
        mel_config = self.voc.mel_config
        mel = self.voc.analyze(audio)
        f0 = wanted_f0(audio, self.voc, mel.shape[1]) if self.given_f0 else None
        begin = time.perf_counter()
        fake = griffin_lim(torch.from_numpy(mel), mel_config).numpy() if self.griffin_lim else self.voc(mel, f0)
        seconds = time.perf_counter() - begin
        # Generators place frame t in the middle of hop t: with a "center" mel config they are half a hop late.
        late = mel_config.hop_length // 2 if mel_config.padding == "center" and not self.griffin_lim else 0
        return fake[late : late + len(audio)], seconds


def load_checkpointed(model: str | Path | None) -> Vocoder:
    """A model that is a checkpoint. Raises VocoderError for an exported one, whose parts cannot be asked one by one."""
    voc = load(model)
    if not isinstance(voc, Vocoder):
        raise VocoderError(f"{voc.name} is an exported model; name the checkpoint it was made of")
    return voc


def load_named(model: str | None) -> Vocoder:
    """MODEL, or NAME=MODEL, which names its row of the table."""
    name, _, rest = (model or "").partition("=")
    if not (name and rest) or "/" in name or Path(model or "").exists():  # "=" may be part of a path
        return load_checkpointed(model)
    voc = load_checkpointed(rest)
    voc.name = name
    return voc


@cache
def load_systems(models: Models) -> tuple[System, ...]:
    """The models, and Griffin-Lim on the mels of the first; loaded once in each process."""
    systems = tuple(System(load_named(model)) for model in dict.fromkeys(models))
    systems = (*systems, System(systems[0].voc, griffin_lim=True))
    names = [RECORDING, *(system.name for system in systems)]
    for name in names:
        if names.count(name) > 1:
            raise VocoderError(f"two rows of the table would be called '{name}'; name a model otherwise: NAME=MODEL")
    noise = np.geomspace(1e-5, 0.1, 20000) * np.random.default_rng(0).standard_normal(20000)
    for system in systems:  # the first synthesis of a process takes longer than all that follow
        system.copy(noise.astype(np.float32))
    return systems


def wanted_f0(audio: np.ndarray, voc: Vocoder, frames: int) -> np.ndarray:
    """The label of each mel frame, Hz, 0 = unvoiced."""
    return f0_at(label_f0(audio, voc.sample_rate), frame_times(frames, voc.mel_config))


def estimator_metrics(audio: np.ndarray, voc: Vocoder) -> Metrics:
    """Of the F0 that the model reads from the mel."""
    assert voc.f0_estimator is not None
    found = voc.f0_estimator.estimate(torch.from_numpy(voc.analyze(audio))[None])[0, 0].numpy()
    return f0_metrics(wanted_f0(audio, voc, len(found)), found)


def synthesize(clip: Clip, systems: Iterable[System]) -> Iterator[tuple[System, Signal, Signal, float]]:
    """Each system with the recording at its sample rate, its copy of it, and the seconds that took."""
    recordings: dict[tuple[int, int], Signal] = {}
    for system in systems:
        mel_config = system.voc.mel_config
        kind = mel_config.sample_rate, mel_config.hop_length
        if kind not in recordings:
            recordings[kind] = Signal(read_clip(clip, mel_config)[0].numpy(), mel_config.sample_rate)
        real = recordings[kind]
        audio, seconds = system.copy(real.audio)
        yield system, real, Signal(audio, real.sample_rate), seconds


def measure(
    numbered: tuple[int, Clip], models: Models, root: Path, folder: Path | None, with_nisqa: bool
) -> Outcome | str:
    """All systems on one clip; sound and spectrograms go into ``folder``. Returns a sentence for a clip that fails."""
    number, clip = numbered
    outcome = Outcome(os.path.relpath(clip.path, root), clip.samples / clip.sample_rate, {}, {}, {})

    def quality(signal: Signal) -> Metrics:
        return {"nisqa": nisqa(signal)} if with_nisqa else {}

    signals: dict[str, Signal] = {}
    estimators: dict[str, Metrics] = {}
    try:
        for system, real, fake, seconds in synthesize(clip, load_systems(models)):
            if not signals:
                signals[RECORDING] = real
                outcome.metrics[RECORDING] = quality(real) | {"silence_dbfs": silence_level(real, real)}
                outcome.lines[RECORDING], outcome.clicks[RECORDING] = [], []
            signals[system.name] = fake
            outcome.lines[system.name] = stationary_lines(real, fake)
            outcome.clicks[system.name] = clicks(real, fake)
            outcome.metrics[system.name] = (
                quality(fake)
                | compare(real, fake, system.voc.mel_config)
                | {
                    "lines": float(len(outcome.lines[system.name])),
                    "clicks": float(len(outcome.clicks[system.name])),
                    "speed": len(real.audio) / real.sample_rate / seconds,
                }
            )
            if system.voc.f0_estimator is not None and not system.griffin_lim:
                estimators[f"{system.name}: F0 from the mel"] = estimator_metrics(real.audio, system.voc)
        if folder:
            write_sounds(folder, number, signals)
    except (VocoderError, soundfile.LibsndfileError) as error:
        return str(error) if str(clip.path) in str(error) else f"{clip.path}: {error}"
    outcome.metrics.update(estimators)
    return outcome


def run(task: Callable[[Any], Outcome | str], items: Sequence[Any], workers: int) -> Iterator[Outcome | str]:
    """``task`` on each item, in order, in as many processes."""
    if workers == 1:
        yield from map(task, items)
        return
    threads = max(1, torch.get_num_threads() // workers)
    context = multiprocessing.get_context("spawn")  # a fork would share the threads of torch
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (threads,)) as pool:
        yield from pool.map(task, items)


def as_json(outcomes: list[Outcome]) -> str:
    """Means, intervals and the figures of each clip, system by system; what is not defined is null."""

    def null(metrics: Metrics) -> dict[str, float | None]:
        return {name: value if np.isfinite(value) else None for name, value in metrics.items()}

    summary = summarize(outcomes)
    content = {
        "clips": [outcome.name for outcome in outcomes],
        "mean": {system: null({k: v.mean for k, v in values.items()}) for system, values in summary.items()},
        "interval": {system: null({k: v.half_width for k, v in values.items()}) for system, values in summary.items()},
        "per_clip": {system: [null(outcome.metrics[system]) for outcome in outcomes] for system in summary},
        "lines": {system: [outcome.lines[system] for outcome in outcomes] for system in outcomes[0].lines},
        "clicks": {system: [outcome.clicks[system] for outcome in outcomes] for system in outcomes[0].clicks},
    }
    return json.dumps(content, indent=1, allow_nan=False)


def evaluate(options: argparse.Namespace) -> tuple[list[Outcome], list[str]]:
    """What the command does, but for its table: what was measured, and a sentence for each clip that failed."""
    for name, count in (("--clips", options.clips), ("--workers", options.workers)):
        if count is not None and count < 1:
            raise VocoderError(f"{name} must be at least 1, got {count}")
    for path in (options.json, options.picture):  # known before the work, not after it
        if path and not path.resolve().parent.is_dir():
            raise VocoderError(f"cannot write {path}: there is no folder {path.parent}")
    clips = list_clips(options.data, options.data / options.list) if options.list else find_clips(options.data)
    clips = choose(clips, options.clips)
    models = tuple(options.models) or (None,)
    systems = load_systems(models)
    if options.nisqa:
        require_nisqa()
    if options.picture:
        _, reals, fakes, _ = zip(*synthesize(clips[0], systems), strict=True)
        names = [f"{RECORDING} {clips[0].path.stem}", *(system.name for system in systems)]
        picture(dict(zip(names, (reals[0], *fakes), strict=True)), options.picture)
    with atomic_folder(options.report) if options.report else nullcontext() as folder:
        task = partial(measure, models=models, root=options.data, folder=folder, with_nisqa=options.nisqa)
        found = run(task, list(enumerate(clips)), options.workers)
        done = list(tqdm(found, total=len(clips), unit="clip", disable=None))
        outcomes = [outcome for outcome in done if isinstance(outcome, Outcome)]
        failed = [reason for reason in done if isinstance(reason, str)]
        if not outcomes:
            raise VocoderError(f"none of the {len(failed)} recordings could be measured, such as {failed[0]}")
        if folder:
            write_page(folder, " ".join(filter(None, (options.data.resolve().name, options.list))), outcomes)
    if options.json:
        with atomic_write(options.json) as partial_file:
            partial_file.write_text(as_json(outcomes))
    return outcomes, failed
