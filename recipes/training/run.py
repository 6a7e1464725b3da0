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
from vocoders.errors import VocoderError


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
    check_losses(recipe, task.loss_names)
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


def check_losses(recipe: Recipe, task_losses: tuple[str, ...]) -> None:
    """Check that all losses of a recipe are known and one has a weight at the first step."""
    adversarial = ("adversarial", "feature_matching")
    known = task_losses + (adversarial if recipe.discriminators else ())
    for name, weight in recipe.losses.items():
        if name in adversarial and name not in known:
            if not weight:  # such as a base recipe's loss that is switched off
                continue
            raise VocoderError(
                f"loss '{name}' needs discriminators; name some in the recipe, or set losses.{name} to 0"
            )
        if name not in known:
            raise VocoderError(f"unknown loss '{name}'; this model can be trained with: {', '.join(known)}")
    weighted = [name for name, weight in recipe.weights.items() if weight]
    if not weighted:
        raise VocoderError(f"no loss of the recipe has a weight; known: {', '.join(known)}")
    if recipe.adversarial.first_step and not set(weighted) & set(task_losses):
        raise VocoderError(
            f"no loss has a weight before step {recipe.adversarial.first_step}, when the discriminators begin; known: "
            f"{', '.join(task_losses)}"
        )
