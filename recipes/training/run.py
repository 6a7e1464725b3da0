"""Start or resume a training run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from recipes.data.predicted_mels import PredictedMels
from recipes.training.discriminators import Discriminators
from recipes.training.distributed import DistributedContext, microbatches
from recipes.training.f0_estimator_task import F0EstimatorTask
from recipes.training.generator_task import GeneratorTask
from recipes.training.schema import OptimizerRecipe, Recipe
from recipes.training.state import load_state
from recipes.training.step import Run, WeightAverage


def build_optimizer(module: nn.Module, settings: OptimizerRecipe) -> torch.optim.Optimizer:
    """Build the optimiser of a module that is already on its device."""
    kind = {"adamw": torch.optim.AdamW, "radam": torch.optim.RAdam}[settings.kind]
    return kind(
        module.parameters(),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )


def start_run(
    recipe: Recipe,
    folder: Path,
    distributed: DistributedContext | None = None,
    mels: PredictedMels | None = None,
) -> Run:
    """Start a new run, or resume the one saved in ``folder``; ``mels`` replace the recordings' mels."""
    distributed = distributed or DistributedContext()
    torch.manual_seed(recipe.train.seed)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    task = F0EstimatorTask(recipe) if recipe.f0_estimator is not None else GeneratorTask(recipe, mels)
    microbatches(recipe.train.batch_size, recipe.train.accumulate, distributed)
    discriminators = Discriminators(recipe, task.audio_config).to(distributed.device) if recipe.discriminators else None
    task.to(distributed.device)
    ema = WeightAverage(task.model, recipe.train.ema)
    trained: dict[str, nn.Module | None] = {"model": task.model, "discriminators": discriminators}
    optimizers = {
        name: build_optimizer(module, recipe.optimizers[name]) for name, module in trained.items() if module is not None
    }
    run = Run(recipe, task, ema, discriminators, optimizers, distributed)
    run.step, run.best, run.epoch = load_state(folder / "state", run.modules, optimizers, recipe, distributed)
    distributed.check_same_step(run.step)
    return run
