"""Save the files of a run."""

from __future__ import annotations

import math
from pathlib import Path

from recipes.training.state import save_state
from recipes.training.step import Run
from vocoders.checkpoint import save_checkpoint


class Saver:
    """Write the files of a run, on the main rank only.

    - state/: the state to resume from.
    - model.safetensors: the last model.
    - model-best.safetensors: the model of the best validation.
    - discriminators.safetensors: discriminators, to start another run from.
    """

    def __init__(self, run: Run, folder: Path) -> None:
        self.run, self.folder = run, folder

    @property
    def model_path(self) -> Path:
        return self.folder / "model.safetensors"

    def save_all(self) -> None:
        """Write the state, the model and the discriminators."""
        run = self.run
        if run.distributed.is_main:
            folder = self.folder / "state"
            save_state(folder, run.step, run.best, run.modules, run.optimizers, run.recipe, run.epoch)
            self.save_networks()

    def save_networks(self) -> None:
        """Write the model and the discriminators."""
        if self.run.distributed.is_main:
            save_model(self.run, self.model_path)
            if self.run.discriminators is not None:
                self.run.discriminators.save(self.folder / "discriminators.safetensors")

    def save_best(self, metrics: dict[str, float]) -> None:
        """Write model-best.safetensors if ``metrics`` are the best so far."""
        value = metrics.get(self.run.task.selection_metric, math.inf)
        if value < self.run.best:
            self.run.best = value
            save_model(self.run, self.folder / "model-best.safetensors")


def save_model(run: Run, path: Path) -> None:
    """Write a checkpoint of the averaged weights, with recipe and number of steps."""
    checkpoint = run.task.checkpoint(run.ema.module)
    checkpoint.training = {"recipe": run.recipe.model_dump(mode="json"), "steps": run.step}
    save_checkpoint(checkpoint, path)
