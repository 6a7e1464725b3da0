"""One training step: update the model and the discriminators from a batch.

Nothing here reads a value from the device, so a GPU never waits; ``History.read`` reads the losses later.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import Dataset

from recipes.training.discriminators import Discriminators
from recipes.training.distributed import DistributedContext, Draws, microbatches
from recipes.training.schema import OptimizerRecipe, Recipe
from recipes.training.state import Optimizers
from recipes.training.tasks import Batch, Task
from vocoders.errors import VocoderError

Losses = dict[str, Tensor]
"""Scalars on the device: losses by name, their weighted "total", "discriminator", and the gradient norms before
clipping, "model_gradient_norm" and "discriminators_gradient_norm".
"""


def train_step(run: Run, batches: list[Batch]) -> Losses:
    """Update the model and, once they take part, the discriminators from the microbatches of a batch."""
    train, device = run.recipe.train, run.distributed.device
    draws = [Draws(train.seed, run.step, train.batch_size, items, device) for items in run.microbatches]
    moved = [{key: value.to(device, non_blocking=True) for key, value in batch.items()} for batch in batches]
    run.begin_step()
    losses = update_weights(run, moved, draws)
    run.advance()
    return losses


def update_weights(run: Run, batches: list[Batch], draws: list[Draws]) -> Losses:
    """Step each optimiser once, from microbatches on the device and their random numbers."""
    means: Losses = {}
    for number, (batch, numbers) in enumerate(zip(batches, draws, strict=True), 1):
        with contextlib.nullcontext() if number == len(batches) else run.no_sync():
            losses = add_gradients(run, batch, numbers, 1 / len(batches))
        for name, value in losses.items():
            means[name] = means.get(name, 0) + value / len(batches)
    for name in run.trained:
        means[f"{name}_gradient_norm"] = run.clip_and_step(name)
    return means


def add_gradients(run: Run, batch: Batch, draws: Draws, share: float) -> Losses:
    """Add the gradients of a microbatch, times its share of the batch."""
    with run.autocast(), parametrize.cached():
        losses, fake = run.parallel["model"](batch, draws)
        if run.adversarial:
            adversarial, discriminator_loss = run.parallel["discriminators"](fake, batch["audio"])
            losses |= adversarial
    weights = run.recipe.weights
    total = torch.stack([weights.get(name, 0.0) * loss for name, loss in losses.items()]).sum()
    # The generator first: its gradient passes through the unchanged discriminators.
    (total * share).backward(inputs=run.parameters("model"), retain_graph=run.adversarial)
    if run.adversarial:
        (discriminator_loss * share).backward(inputs=run.parameters("discriminators"))
        losses["discriminator"] = discriminator_loss
    losses["total"] = total
    return {name: loss.detach() for name, loss in losses.items()}


def learning_rate(settings: OptimizerRecipe, step: int, steps: int, epoch: int | None = None) -> float:
    """Compute the learning rate of a step, from 0: linear warm-up, then the schedule; ``epoch`` in steps."""
    warmup = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "cosine":
        return settings.lr * warmup * 0.5 * (1 + math.cos(math.pi * step / steps))
    every = epoch if settings.decay_every == "epoch" else settings.decay_every
    assert every is not None
    return settings.lr * warmup * settings.decay ** (step // every)


class WeightAverage(AveragedModel):
    """Exponential moving average of a model's weights; buffers are copied.

    The first update copies the weights. Then the decay rises from 2 / 11 to ``decay``, to forget the random start soon.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Average in the weights of ``model``, without AveragedModel's wait for the GPU."""
        count = int(self.n_averaged)  # on the CPU
        averages: list[Tensor] = list(self.module.parameters())
        weights: list[Tensor] = list(model.parameters())
        if count:
            torch._foreach_lerp_(averages, weights, 1 - min(self.decay, (1 + count) / (10 + count)))
        else:
            torch._foreach_copy_(averages, weights)
        if buffers := list(model.buffers()):
            torch._foreach_copy_(list(self.module.buffers()), buffers)
        self.n_averaged += 1


@dataclass
class Run:
    """Everything that changes during training, and the rank of this process.

    Attributes:
        ema: moving average of the weights, which is validated and saved.
        optimizers: by "model" and "discriminators".
        step: number of steps done.
        best: lowest ``selection_metric`` so far.
        epoch: steps that train on as many segments as there are recordings.
    """

    recipe: Recipe
    task: Task
    ema: WeightAverage
    discriminators: Discriminators | None
    optimizers: Optimizers
    distributed: DistributedContext
    step: int = 0
    best: float = math.inf
    epoch: int | None = None

    def __post_init__(self) -> None:
        # Called by train_step; DDP averages the gradients of the ranks.
        self.parallel: dict[str, nn.Module] = {"model": self.task}
        if self.discriminators is not None:
            self.parallel["discriminators"] = self.discriminators
        if self.distributed.world_size > 1:
            # Some weights of Parallel WaveGAN affect no loss.
            self.parallel = {
                name: DistributedDataParallel(module, find_unused_parameters=name == "model", broadcast_buffers=False)
                for name, module in self.parallel.items()
            }

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Modules of the resumable state, by name."""
        modules: dict[str, nn.Module] = {"model": self.task.model, "ema": self.ema}
        return modules | ({"discriminators": self.discriminators} if self.discriminators is not None else {})

    @property
    def adversarial(self) -> bool:
        """Whether the discriminators take part in the next step."""
        return self.discriminators is not None and self.step >= self.recipe.adversarial.first_step

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the optimisers that take the next step."""
        return ("model", "discriminators") if self.adversarial else ("model",)

    @property
    def microbatches(self) -> list[slice]:
        """Slices of each batch that this rank computes."""
        return microbatches(self.recipe.train.batch_size, self.recipe.train.accumulate, self.distributed)

    def no_sync(self) -> contextlib.AbstractContextManager[object]:
        """Return a context that accumulates gradients without averaging them over ranks."""
        stack = contextlib.ExitStack()
        for module in self.parallel.values():
            if isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        return stack

    def prepare(self, segments: Dataset[dict[str, Tensor]], recordings: int) -> None:
        """Take the statistics of the data before the first step; a resumed run has them."""
        if self.step:
            return
        if not recordings and any(settings.decay_every == "epoch" for settings in self.recipe.optimizers.values()):
            raise VocoderError(
                "the recordings in shards are not counted, so state the steps: --set optimizer.decay_every=1000"
            )
        self.epoch = max(1, recordings // self.recipe.train.batch_size)
        self.task.prepare(segments)
        self.ema.update_parameters(self.task.model)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context of the recipe's precision for the forward pass."""
        bfloat16 = self.recipe.train.precision == "bfloat16"
        return torch.autocast(self.distributed.device.type, torch.bfloat16) if bfloat16 else contextlib.nullcontext()

    def parameters(self, name: str) -> list[nn.Parameter]:
        """Weights that an optimiser trains."""
        return [parameter for group in self.optimizers[name].param_groups for parameter in group["params"]]

    def begin_step(self) -> None:
        """Set training mode and learning rates, and clear gradients."""
        self.task.train()
        for name, optimizer in self.optimizers.items():
            optimizer.zero_grad(set_to_none=True)
            first = self.recipe.adversarial.first_step if name == "discriminators" else 0
            step, steps = self.step - first, self.recipe.train.steps - first
            if step >= 0:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(self.recipe.optimizers[name], step, steps, self.epoch)

    def clip_and_step(self, name: str) -> Tensor:
        """Clip the gradients of "model" or "discriminators" and step; return their norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.parameters(name), self.recipe.optimizers[name].clip or math.inf)
        self.optimizers[name].step()
        return norm

    def advance(self) -> None:
        """Count the step and update the moving average."""
        self.step += 1
        self.ema.update_parameters(self.task.model)
