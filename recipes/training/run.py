"""A training run: everything that changes during training, new or resumed."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from recipes.data.predicted_mels import PredictedMels
from recipes.training.discriminators import Discriminators
from recipes.training.distributed import DistributedContext, microbatches
from recipes.training.f0_estimator_task import F0EstimatorTask
from recipes.training.generator_task import GeneratorTask
from recipes.training.optimization import WeightAverage, build_optimizer
from recipes.training.schema import Recipe
from recipes.training.state import Optimizers, load_state
from recipes.training.tasks import Task
from vocoders.errors import VocoderError


@dataclass
class Run:
    """Everything that changes during training, and the rank of this process.

    Attributes:
        recipe: the recipe of the run.
        task: the model and its losses.
        ema: moving average of the model's weights, which is validated and saved.
        discriminators: the discriminators of the recipe; None where it names none.
        optimizers: the optimisers, by "model" and "discriminators".
        distributed: rank and device of this process.
        step: number of steps done.
        best: lowest value so far of the task's ``selection_metric``.
    """

    recipe: Recipe
    task: Task
    ema: WeightAverage
    discriminators: Discriminators | None
    optimizers: Optimizers
    distributed: DistributedContext
    step: int = 0
    best: float = math.inf

    def __post_init__(self) -> None:
        # train_step calls these. Where there are several ranks, DDP averages their gradients.
        self.parallel_task: nn.Module = self.task
        self.parallel_discriminators: nn.Module | None = self.discriminators
        if self.distributed.world_size > 1:
            # Parallel WaveGAN has weights that no loss depends on.
            self.parallel_task = DistributedDataParallel(
                self.task, find_unused_parameters=True, broadcast_buffers=False
            )
            if self.discriminators is not None:
                self.parallel_discriminators = DistributedDataParallel(self.discriminators, broadcast_buffers=False)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules of the resumable state, by name."""
        modules: dict[str, nn.Module] = {"model": self.task.model, "ema": self.ema}
        return modules | ({"discriminators": self.discriminators} if self.discriminators is not None else {})

    @property
    def adversarial(self) -> bool:
        """Whether the discriminators take part in the next step."""
        return self.discriminators is not None and self.step >= self.recipe.adversarial.first_step

    @property
    def microbatches(self) -> list[slice]:
        """The items of each batch that this rank computes."""
        return microbatches(self.recipe.train.batch_size, self.recipe.train.accumulate, self.distributed)

    def no_sync(self) -> contextlib.AbstractContextManager[object]:
        """Return a context in which gradients are accumulated and not averaged over the ranks."""
        stack = contextlib.ExitStack()
        for module in (self.parallel_task, self.parallel_discriminators):
            if isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        return stack

    def prepare(self, segments: Dataset[dict[str, Tensor]]) -> None:
        """Take statistics of the data before the first step; a run that resumes has them."""
        if self.step == 0:
            self.task.prepare(segments)
            self.ema.update_parameters(self.task.model)


def start_run(
    recipe: Recipe,
    folder: Path,
    distributed: DistributedContext | None = None,
    mels: PredictedMels | None = None,
) -> Run:
    """Start a new run, or resume the one whose state lies in ``folder``.

    Args:
        recipe: the recipe of the run.
        folder: folder of the run.
        distributed: rank and device of this process. Default: a single process on the CPU.
        mels: predicted mels to train on instead of the recordings' own.

    Raises:
        VocoderError: when the recipe cannot be trained, or the state in ``folder`` is of another recipe or release.
    """
    distributed = distributed or DistributedContext()
    torch.manual_seed(recipe.train.seed)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    task = F0EstimatorTask(recipe) if recipe.f0_estimator is not None else GeneratorTask(recipe, mels)
    check_losses(recipe, task.loss_names)
    microbatches(
        recipe.train.batch_size, recipe.train.accumulate, distributed
    )  # refuses a batch size that does not fit
    discriminators = Discriminators(recipe).to(distributed.device) if recipe.discriminators else None
    task.to(distributed.device)
    ema = WeightAverage(task.model, recipe.train.ema)
    trained: dict[str, nn.Module | None] = {"model": task.model, "discriminators": discriminators}
    optimizers = {
        name: build_optimizer(module, recipe.optimizers[name]) for name, module in trained.items() if module is not None
    }
    run = Run(recipe, task, ema, discriminators, optimizers, distributed)
    run.step, run.best = load_state(folder / "state", run.modules, optimizers, recipe, distributed)
    distributed.check_same_step(run.step)
    return run


def check_losses(recipe: Recipe, task_losses: tuple[str, ...]) -> None:
    """Check the weights of the losses in a recipe.

    Raises:
        VocoderError: when a loss is unknown, or none has a weight at the first step.
    """
    adversarial = ("adversarial", "feature_matching")
    known = task_losses + (adversarial if recipe.discriminators else ())
    for name, weight in recipe.losses.items():
        if name in adversarial and name not in known:
            if not weight:  # such as one that takes away what a base recipe weighs
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
