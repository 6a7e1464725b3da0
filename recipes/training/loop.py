"""The training loop: load, step, log, validate, save.

A run writes into its folder: TensorBoard logs, the resumable state, and with each state what ``vocode -m`` takes:
model.safetensors, the last model, and model-best.safetensors, the one with the best validation. A run that is started
again resumes; when it is killed, at most the steps since the last state are lost. torchrun starts it on several GPUs or
machines, where it computes the same.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch

from recipes.data.clips import Clip
from recipes.training.batches import build_dataset, find_recordings, load_batches
from recipes.training.capture import make_step
from recipes.training.distributed import DistributedContext
from recipes.training.logger import Logger
from recipes.training.recipe import Recipe
from recipes.training.run import Run, start_run
from recipes.training.saver import Saver
from recipes.training.step import History
from recipes.training.tasks import Validation


def run_training(
    recipe: Recipe, folder: Path, distributed: DistributedContext | None = None, minutes: float | None = None
) -> Path:
    """Train to the end of the recipe or for some minutes, from the state in ``folder`` if there is one.

    Args:
        recipe: the recipe of the run.
        folder: folder of its files.
        distributed: rank and device of this process. Default: a single process on the CPU.
        minutes: time after which to stop. Default: none.

    Returns:
        The path of the last model.

    Raises:
        VocoderError: when the recipe, its data or an older state do not fit, or training diverges.
    """
    distributed = distributed or DistributedContext()
    recordings = find_recordings(recipe, distributed)
    run = start_run(recipe, folder, distributed, recordings.mels)
    dataset = build_dataset(run, recordings, folder / "cache")
    run.prepare(dataset)
    batches = load_batches(run, dataset)
    logger, saver = Logger(run, folder / "log"), Saver(run, folder)
    take_step, history = make_step(run), History()
    end = math.inf if minutes is None else time.perf_counter() + 60 * minutes

    finished = run.step >= recipe.train.steps
    while not finished:
        with logger.measure("load"):
            batch = next(batches)
        with logger.measure("step"):
            history.add(run.step, take_step(batch))
            finished = run.step == recipe.train.steps
            if minutes is not None:
                finished = distributed.broadcast(finished or time.perf_counter() > end)
            losses = history.read() if finished or reads_losses(run) else None
        logger.log_step(losses)

        if distributed.is_main and (finished or run.step % recipe.train.validate_every == 0):
            validation = validate(run, recordings.valid)
            logger.log_validation(validation)
            saver.save_best(validation.metrics)
        if finished or run.step % recipe.train.save_every == 0:
            saver.save_all()
    logger.close()
    saver.save_networks()  # again: the run may have been killed between a state and its networks
    distributed.barrier()
    return saver.model_path


def reads_losses(run: Run) -> bool:
    """Whether the losses are read after this step: to be logged, or checked before something is made of the weights."""
    train = run.recipe.train
    return any(run.step % every == 0 for every in (train.log_every, train.save_every, train.validate_every))


@torch.no_grad()
def validate(run: Run, clips: list[Clip]) -> Validation:
    """Measure the moving average of the weights on whole recordings."""
    run.task.eval()
    return run.task.validate(clips, run.ema.module)
