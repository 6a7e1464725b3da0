"""One training step: the gradients of one batch, then one step of each optimiser."""

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


def train_step(run: Run, batches: list[Batch]) -> dict[str, float]:
    """Update the model, and the discriminators once they take part, from one batch.

    Args:
        run: the run; its ``step`` is incremented.
        batches: the microbatches of this rank.

    Returns:
        The unweighted losses, their weighted "total", the loss "discriminator", and the norms of the gradients before
        clipping.

    Raises:
        VocoderError: when a loss or a gradient is not finite.
    """
    run.task.train()
    adversarial = run.adversarial
    for optimizer in run.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    log: dict[str, float] = {}
    for number, (batch, items) in enumerate(zip(batches, run.microbatches, strict=True), 1):
        with run.no_sync() if number < len(batches) else contextlib.nullcontext():
            losses = accumulate_gradients(run, batch, items, len(batches))
        for name, value in losses.items():
            log[name] = log.get(name, 0.0) + value / len(batches)
    for name in ("model", "discriminators") if adversarial else ("model",):
        log[f"{name}_gradient_norm"] = optimizer_step(run, name)
    run.step += 1
    run.ema.update_parameters(run.task.model)
    return log


def accumulate_gradients(run: Run, batch: Batch, items: slice, count: int) -> dict[str, float]:
    """Add the gradients of one microbatch to those of the weights.

    Args:
        run: the run.
        batch: the microbatch.
        items: items of the whole batch that it holds.
        count: number of microbatches, by which the gradients are divided.

    Returns:
        The losses of the microbatch, undivided.
    """
    recipe, device = run.recipe, run.distributed.device
    batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
    draws = Draws(recipe.train.seed, run.step, recipe.train.batch_size, items, device)
    autocast = torch.autocast(device.type, torch.bfloat16, recipe.train.precision == "bfloat16")
    discriminator_loss: Tensor | None = None
    with autocast, parametrize.cached():
        losses, fake = run.parallel_task(batch, draws)
        if run.adversarial:
            assert run.parallel_discriminators is not None
            adversarial_losses, discriminator_loss = run.parallel_discriminators(fake, batch["audio"])
            losses = losses | adversarial_losses
    total = torch.stack([recipe.weights.get(name, 0.0) * loss for name, loss in losses.items()]).sum()
    losses = losses | {"total": total}
    if discriminator_loss is not None:
        losses["discriminator"] = discriminator_loss
    # Read as one tensor, because each read from a GPU waits for it.
    values = dict(zip(losses, torch.stack([loss.detach() for loss in losses.values()]).tolist(), strict=True))
    check_finite(values, run.step)
    # The generator first: its gradient passes through the discriminators as they are.
    (total / count).backward(inputs=_weights(run.optimizers["model"]), retain_graph=discriminator_loss is not None)
    if discriminator_loss is not None:
        (discriminator_loss / count).backward(inputs=_weights(run.optimizers["discriminators"]))
    return values


def check_finite(losses: dict[str, float], step: int) -> None:
    """Check that all losses are finite.

    Raises:
        VocoderError: when they are not; the message names them.
    """
    broken = [name for name, value in losses.items() if not math.isfinite(value)]
    if broken:
        named = [name for name in broken if name != "total"] or broken
        raise VocoderError(f"step {step}: the loss is not finite in {', '.join(named)}; {STATE_KEPT}")


def optimizer_step(run: Run, name: str) -> float:
    """Clip the gradients of "model" or "discriminators", set the learning rate, and take one step.

    Args:
        run: the run.
        name: "model" or "discriminators".

    Returns:
        The norm of the gradients before clipping.

    Raises:
        VocoderError: when it is not finite.
    """
    recipe, optimizer = run.recipe, run.optimizers[name]
    settings = recipe.optimizers[name]
    first = recipe.adversarial.first_step if name == "discriminators" else 0
    norm = float(nn.utils.clip_grad_norm_(_weights(optimizer), settings.clip or math.inf))
    if not math.isfinite(norm):
        raise VocoderError(f"step {run.step}: the gradient of the {name} is not finite; {STATE_KEPT}")
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, run.step - first, recipe.train.steps - first)
    optimizer.step()
    return norm


def _weights(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
