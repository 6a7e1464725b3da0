"""A training run that dies at a step, as if killed."""

from pathlib import Path

import pytest

from recipes.training.loop import run_training
from recipes.training.schema import Recipe
from recipes.training.step import Losses, Run, train_step
from recipes.training.tasks import Batch


def run_and_die(recipe: Recipe, folder: Path, step: int) -> None:
    """Train until ``step``, and die before taking it."""

    class Killed(Exception):
        pass

    def dies(run: Run, batches: list[Batch]) -> Losses:
        if run.step == step:
            raise Killed
        return train_step(run, batches)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recipes.training.loop.train_step", dies)
        with pytest.raises(Killed):
            run_training(recipe, folder)
