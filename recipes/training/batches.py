"""Find the recordings of a run and load its batches."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recipes.data.clips import Clip, choose, list_clips, readable, split_clips
from recipes.data.config import DataRecipe
from recipes.data.f0_labels import F0Labels
from recipes.data.predicted_mels import PredictedMels
from recipes.data.segments import SegmentDataset
from recipes.data.shards import ShardDataset, expand_shards, read_valid
from recipes.training.schema import Recipe
from recipes.training.step import Run
from recipes.training.tasks import Batch
from vocoders.errors import VocoderError


class Recordings(NamedTuple):
    """Recordings to train and to validate on, and their predicted mels, if any."""

    train: list[Clip]
    valid: list[Clip]
    mels: PredictedMels | None


def find_recordings(recipe: Recipe) -> Recordings:
    """Find the recordings of a recipe, and their predicted mels where it names a folder."""
    if recipe.data.shards:
        return Recordings([], readable(_valid_of_shards(recipe.data), recipe.mel_config), None)
    train, valid = split_clips(recipe.data)
    mels = None
    if recipe.data.mels:
        mels = PredictedMels(Path(recipe.data.mels), Path(recipe.data.dir), [*train, *valid], recipe.mel_config)
        train = [clip for clip in train if clip in mels]
        if not train:
            raise VocoderError(f"{recipe.data.mels} holds mels of recordings to validate on alone, none to train on")
    return Recordings(train, readable(valid, recipe.mel_config), mels)


def _valid_of_shards(data: DataRecipe) -> list[Clip]:
    if data.valid:
        root = Path(data.dir)
        return choose(list_clips(root, root / data.valid), data.valid_clips)
    return read_valid(expand_shards(data)[1], data.valid_clips)


def build_dataset(run: Run, recordings: Recordings, cache: Path) -> Dataset[dict[str, Tensor]]:
    """Build the training segments; the main rank computes F0 labels once, into ``cache``."""
    recipe, distributed = run.recipe, run.distributed
    _note_lower_rates(run, recordings.train)
    if run.task.inputs is not None:
        run.task.inputs.check([*recordings.train, *recordings.valid])
    shards = _build_shards(run, cache) if recipe.data.shards else None
    labels = None
    if run.task.uses_f0:
        if not distributed.is_main:
            distributed.barrier()
        if shards is None:
            labels = F0Labels(recordings.train, cache, recipe.data.f0_range)
        elif distributed.is_main:
            shards.label()
        if distributed.is_main:
            distributed.barrier()
    if shards is not None:
        return shards
    return SegmentDataset(
        recordings.train,
        labels,
        recipe.data,
        run.task.audio_config,
        recipe.train.segment_frames,
        recipe.train.seed,
        recordings.mels,
        run.task.channels,
        run.task.inputs,
    )


def _note_lower_rates(run: Run, clips: list[Clip]) -> None:
    rate = run.task.audio_config.sample_rate
    lower = [clip for clip in clips if clip.sample_rate < rate]
    if lower:
        highest = max(clip.sample_rate for clip in lower) // 2
        run.distributed.note(
            f"note: {len(lower)} of {len(clips)} recordings have a lower rate than the audio's {rate} Hz: above "
            f"{highest} Hz they hold nothing to learn"
        )


def _build_shards(run: Run, cache: Path) -> ShardDataset:
    recipe = run.recipe
    at_once, size = recipe.data.shards_at_once, recipe.train.batch_size
    parts = run.distributed.world_size * recipe.train.accumulate
    if at_once % parts or size % at_once:
        raise VocoderError(
            f"data.shards_at_once = {at_once} must be a multiple of the {run.distributed.world_size} ranks times "
            f"train.accumulate = {recipe.train.accumulate}, and train.batch_size = {size} a multiple of it"
        )
    return ShardDataset(
        expand_shards(recipe.data)[0],
        recipe.data,
        run.task.audio_config,
        recipe.train.segment_frames,
        recipe.train.seed,
        size,
        cache if run.task.uses_f0 else None,
        run.task.channels,
    )


def loader_workers(data: DataRecipe) -> int:
    """Return the number of processes that load segments."""
    if data.workers is not None:
        return data.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def _ignore_interrupts(worker: int) -> None:
    """Ignore Ctrl-C in a worker: the training process still needs its batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def load_batches(run: Run, dataset: Dataset[dict[str, Tensor]]) -> Iterator[list[Batch]]:
    """Yield the microbatches of this rank for each remaining step; batch n is always the same."""
    recipe, items = run.recipe, run.microbatches
    size, steps = recipe.train.batch_size, range(run.step, recipe.train.steps)
    indices = (list(range(step * size + part.start, step * size + part.stop)) for step in steps for part in items)
    if isinstance(dataset, ShardDataset):
        dataset.close()  # workers open the files again
    # The workers' seeds have their own generator, so the global one only draws initial weights.
    loader = iter(
        DataLoader(
            dataset,
            batch_sampler=indices,
            num_workers=loader_workers(recipe.data),
            generator=torch.Generator(),
            pin_memory=run.distributed.device.type == "cuda",
            worker_init_fn=_ignore_interrupts,
        )
    )
    try:
        for _ in steps:
            yield [next(loader) for _ in items]
    except VocoderError as error:  # A worker adds its traceback, and VocoderError escapes the line ends.
        raise VocoderError(str(error).rpartition("VocoderError: ")[2].removesuffix(r"\n")) from None
    finally:
        if isinstance(dataset, ShardDataset):
            dataset.close()
