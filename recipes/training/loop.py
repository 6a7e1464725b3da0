"""The training loop: load, step, log, validate, save.

A run writes TensorBoard logs, the resumable state, model.safetensors and model-best.safetensors into its folder, and
resumes from there. Ctrl-C and SIGTERM save first. Under torchrun, several ranks compute the same.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from recipes.data.clips import Clip
from recipes.training.batches import build_dataset, find_recordings, load_batches
from recipes.training.distributed import DistributedContext
from recipes.training.history import History
from recipes.training.logger import Logger
from recipes.training.run import start_run
from recipes.training.saver import Saver
from recipes.training.schema import Recipe
from recipes.training.step import Run, train_step
from recipes.training.tasks import Batch, Validation
from vocoders.errors import VocoderError

WAIT = 10.0
"""Seconds to wait for a folder's lock, which data workers of a killed run may still hold."""


def run_training(
    recipe: Recipe, folder: Path, distributed: DistributedContext | None = None, minutes: float | None = None
) -> Path:
    """Train to the end of the recipe, or for ``minutes``, from the state in ``folder`` if there is one.

    Args:
        recipe: the recipe of the run.
        folder: folder of its files.
        distributed: rank and device of this process. Default: one process on the CPU.
        minutes: time limit. Default: none.

    Returns:
        The path of the last model.

    Raises:
        VocoderError: when recipe, data or state do not fit, another process trains in ``folder``, or training diverges.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, once the run is saved.
    """
    distributed = distributed or DistributedContext()
    distributed.note(f"looking for the recordings in {recipe.data.dir}")
    recordings = find_recordings(recipe)
    with lock(folder) if distributed.is_main else contextlib.nullcontext():
        valid = len(recordings.valid)
        distributed.note(f"{len(recordings.train) or 'shards of'} recordings to train on, {valid} to validate on")
        distributed.note("building the networks, which takes some seconds")
        run = start_run(recipe, folder, distributed, recordings.mels)
        if run.step:
            distributed.note(f"resuming {folder} from step {run.step} of {recipe.train.steps}")
        distributed.note("preparing the first batches")
        dataset = build_dataset(run, recordings, folder / "cache")
        run.prepare(dataset, len(recordings.train))
        logger, saver = Logger(run, folder / "log"), Saver(run, folder)
        with noted_signals(distributed) as signals:
            train(run, load_batches(run, dataset), recordings.valid, logger, saver, signals, minutes)
        logger.close()
        saver.save_networks()  # The run may have been killed after the state was saved and before its networks were.
        distributed.barrier()
        if signals and run.step < recipe.train.steps:
            raise KeyboardInterrupt(
                f"stopped and saved at step {run.step} of {recipe.train.steps}; the same command resumes"
            )
        return saver.model_path


def train(
    run: Run,
    batches: Iterator[list[Batch]],
    valid: list[Clip],
    logger: Logger,
    saver: Saver,
    signals: list[int],
    minutes: float | None,
) -> None:
    """Train until the last step, the time limit or a signal."""
    recipe, distributed = run.recipe, run.distributed
    history = History()
    end = math.inf if minutes is None else time.perf_counter() + 60 * minutes
    finished = run.step >= recipe.train.steps
    while not finished:
        with logger.measure("load"):
            batch = next(batches)
        with logger.measure("step"):
            history.add(run.step, train_step(run, batch))
            finished = run.step == recipe.train.steps
            if distributed.world_size == 1 or reads_losses(run):  # else ranks would wait for each other
                finished = distributed.any_rank(finished or bool(signals) or time.perf_counter() > end)
            losses = history.read() if finished or reads_losses(run) else None
        logger.log_step(losses)

        validates = run.step % recipe.train.validate_every == 0 or (finished and not signals)
        if distributed.is_main and validates:
            validation = validate(run, valid)
            logger.log_validation(validation)
            saver.save_best(validation.metrics)
        if finished or run.step % recipe.train.save_every == 0:
            saver.save_all()


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other processes from training in ``folder``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / "lock").acquire(timeout=WAIT)
    except Timeout:
        raise VocoderError(f"another process trains in {folder}; wait for its end, or choose another --out") from None
    except OSError as error:
        raise VocoderError(f"cannot write {folder}: {error.strerror or error}") from None
    with held:
        yield


@contextlib.contextmanager
def noted_signals(distributed: DistributedContext) -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list, so that the current step can end and be saved.

    On a single rank a second signal acts as usual; torchrun repeats Ctrl-C to ranks that had it already.
    """
    noted: list[int] = []
    usual: dict[int, Any] = {}

    def note(number: int, frame: object) -> None:
        noted.append(number)
        if distributed.world_size == 1:
            signal.signal(number, usual[number])
        if distributed.is_main and len(noted) == 1:
            with contextlib.suppress(OSError):  # The signal may have interrupted a print.
                os.write(2, b"\nstopping after this step, to save it; Ctrl-C again stops at once\n")

    if threading.current_thread() is threading.main_thread():  # Only the main thread may set handlers.
        for number in (signal.SIGINT, signal.SIGTERM):
            usual[number] = signal.signal(number, note)
    try:
        yield noted
    finally:
        for changed, handler in usual.items():
            signal.signal(changed, handler)


def reads_losses(run: Run) -> bool:
    """Whether losses are read after this step: to log them, or to check them before validating or saving."""
    train = run.recipe.train
    return any(run.step % every == 0 for every in (train.log_every, train.save_every, train.validate_every))


@torch.no_grad()
def validate(run: Run, clips: list[Clip]) -> Validation:
    """Measure the moving average of the weights on whole recordings."""
    run.task.eval()
    return run.task.validate(clips, run.ema.module)
