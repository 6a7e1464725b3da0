"""One training step: the gradients of one batch, then one step of each optimiser.

``update_weights`` reads no value from the device, so a GPU never waits for the processor. Losses stay there until
``History.read``.
"""

from __future__ import annotations

import contextlib
import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recipes.training.distributed import Draws
from recipes.training.optimization import learning_rate
from recipes.training.run import Run
from recipes.training.tasks import Batch
from vocoders.errors import VocoderError

STATE_KEPT = "the last saved state is kept"

Losses = dict[str, Tensor]
"""Scalars on the device of the run: the unweighted losses, their weighted "total", the loss "discriminator", and the
norms of the gradients before clipping, "model_gradient_norm" and "discriminators_gradient_norm"."""


class History:
    """Losses of the steps since they were last read. To read them is to wait for a GPU."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, list[str], Tensor]] = []

    def add(self, step: int, losses: Losses) -> None:
        """Add the losses of a step."""
        self._steps.append((step, list(losses), torch.stack([loss.detach() for loss in losses.values()])))

    def read(self) -> dict[str, float]:
        """Return the losses of the last step, after a check of those of all steps.

        Raises:
            VocoderError: when a loss or a gradient was not finite; the message names the first such step.
        """
        steps, self._steps = self._steps, []
        values = iter(torch.cat([stacked for _, _, stacked in steps]).tolist())
        losses: dict[str, float] = {}
        for step, names, _ in steps:
            losses = {name: next(values) for name in names}
            check_finite(losses, step)
        return losses


def train_step(run: Run, batches: list[Batch]) -> Losses:
    """Update the model, and the discriminators once they take part, from one batch.

    Args:
        run: the run; its ``step`` is incremented.
        batches: the microbatches of this rank.
    """
    train, device = run.recipe.train, run.distributed.device
    draws = [Draws(train.seed, run.step, train.batch_size, items, device) for items in run.microbatches]
    moved = [{key: value.to(device, non_blocking=True) for key, value in batch.items()} for batch in batches]
    begin_step(run)
    losses = update_weights(run, moved, draws)
    end_step(run)
    return losses


def begin_step(run: Run) -> None:
    """Set the learning rates of the next step."""
    run.task.train()
    for name, optimizer in run.optimizers.items():
        settings = run.recipe.optimizers[name]
        first = run.recipe.adversarial.first_step if name == "discriminators" else 0
        if run.step >= first:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, run.step - first, run.recipe.train.steps - first)


def end_step(run: Run) -> None:
    """Count the step and update the moving average of the weights."""
    run.step += 1
    run.ema.update_parameters(run.task.model)


def update_weights(run: Run, batches: list[Batch], draws: list[Draws]) -> Losses:
    """Compute the gradients of a batch and take one step of each optimiser.

    Args:
        run: the run.
        batches: the microbatches, on the device of the run.
        draws: the random numbers of each.
    """
    for optimizer in run.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    total: Losses = {}
    for number, (batch, numbers) in enumerate(zip(batches, draws, strict=True), 1):
        with run.no_sync() if number < len(batches) else contextlib.nullcontext():
            losses = accumulate_gradients(run, batch, numbers, len(batches))
        for name, value in losses.items():
            total[name] = total[name] + value / len(batches) if name in total else value / len(batches)
    for name in ("model", "discriminators") if run.adversarial else ("model",):
        total[f"{name}_gradient_norm"] = optimizer_step(run, name)
    return total


def accumulate_gradients(run: Run, batch: Batch, draws: Draws, count: int) -> Losses:
    """Add the gradients of one microbatch to those of the weights.

    Args:
        run: the run.
        batch: the microbatch.
        draws: its random numbers.
        count: number of microbatches, by which the gradients are divided.

    Returns:
        The losses of the microbatch, undivided.
    """
    recipe = run.recipe
    bfloat16 = recipe.train.precision == "bfloat16"
    autocast = torch.autocast(run.distributed.device.type, torch.bfloat16) if bfloat16 else contextlib.nullcontext()
    discriminator_loss: Tensor | None = None
    with autocast, parametrize.cached():
        losses, fake = run.parallel_task(batch, draws)
        if run.adversarial:
            assert run.parallel_discriminators is not None
            adversarial_losses, discriminator_loss = run.parallel_discriminators(fake, batch["audio"])
            losses = losses | adversarial_losses
    total = torch.stack([recipe.weights.get(name, 0.0) * loss for name, loss in losses.items()]).sum()
    losses = losses | {"total": total}
    # The generator first: its gradient passes through the discriminators as they are.
    (total / count).backward(inputs=_weights(run.optimizers["model"]), retain_graph=discriminator_loss is not None)
    if discriminator_loss is not None:
        losses["discriminator"] = discriminator_loss
        (discriminator_loss / count).backward(inputs=_weights(run.optimizers["discriminators"]))
    return {name: loss.detach() for name, loss in losses.items()}


def check_finite(losses: dict[str, float], step: int) -> None:
    """Check that all losses and norms of gradients are finite.

    Raises:
        VocoderError: when they are not; the message names them.
    """
    broken = [name for name, value in losses.items() if not math.isfinite(value)]
    norms = [name for name in broken if name.endswith("_gradient_norm")]
    if len(broken) > len(norms):
        named = [name for name in broken if name not in ("total", *norms)] or ["total"]
        raise VocoderError(f"step {step}: the loss is not finite in {', '.join(named)}; {STATE_KEPT}")
    if norms:
        name = norms[0].removesuffix("_gradient_norm")
        raise VocoderError(f"step {step}: the gradient of the {name} is not finite; {STATE_KEPT}")


def optimizer_step(run: Run, name: str) -> Tensor:
    """Clip the gradients of "model" or "discriminators", and take one step; returns their norm before clipping."""
    optimizer = run.optimizers[name]
    norm = nn.utils.clip_grad_norm_(_weights(optimizer), run.recipe.optimizers[name].clip or math.inf)
    optimizer.step()
    return norm


def _weights(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
