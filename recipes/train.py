"""The training loop: python -m recipes.train RECIPE.yaml [--set KEY=VALUE ...]

Writes into runs/NAME: TensorBoard logs, the resumable state, and at the end model.safetensors, which ``vocode -m``
takes. Started again, it goes on where it was; killed at any moment, it loses at most the steps since the last state.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from recipes.adversary import Adversary
from recipes.data import Clip, F0Labels, SegmentDataset, aligned, list_clips
from recipes.recipe import OptimizerRecipe, Recipe, load_recipe
from recipes.state import load_state, save_state
from recipes.tasks import GeneratorTask, PitchTask, Task
from vocoders.checkpoint import save_checkpoint
from vocoders.errors import VocoderError
from vocoders.stft import STFT


@dataclass
class Run:
    """All that changes while training."""

    task: Task
    ema: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    adversary: Adversary | None
    step: int = 0

    def modules(self) -> dict[str, nn.Module]:
        changing: dict[str, nn.Module] = {"model": self.task.model, "ema": self.ema}
        return changing | ({"adversary": self.adversary} if self.adversary is not None else {})


def start(recipe: Recipe, folder: Path) -> Run:
    """A new run, or the one whose state lies in ``folder``."""
    torch.manual_seed(recipe.train.seed)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    task: Task = PitchTask(recipe) if recipe.pitch is not None else GeneratorTask(recipe)
    known = task.loss_names + (("adversarial", "feature_matching") if recipe.discriminators else ())
    for name in recipe.losses:
        if name in ("adversarial", "feature_matching") and name not in known:
            raise VocoderError(f"loss '{name}' needs discriminators; name some in the recipe")
        if name not in known:
            raise VocoderError(f"unknown loss '{name}'; this model can be trained with: {', '.join(known)}")
    if not any(recipe.weights.values()):
        raise VocoderError(f"the recipe weighs no loss; known: {', '.join(known)}")
    ema = copy.deepcopy(task.model).eval().requires_grad_(False)
    optimizers = {"model": build_optimizer(task.model, recipe.optimizer)}
    adversary = Adversary(recipe) if recipe.discriminators else None
    if adversary is not None:
        optimizers["adversary"] = build_optimizer(adversary, recipe.adversarial.optimizer or recipe.optimizer)
    run = Run(task, ema, optimizers, adversary)
    run.step = load_state(folder / "state", run.modules(), optimizers, recipe)
    return run


def build_optimizer(module: nn.Module, settings: OptimizerRecipe) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        module.parameters(), lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay
    )


def learning_rate(settings: OptimizerRecipe, step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine down to zero."""
    warmup = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    return settings.lr * warmup * 0.5 * (1 + math.cos(math.pi * step / steps))


def train_step(run: Run, batch: dict[str, Tensor], recipe: Recipe) -> dict[str, float]:
    """One update. Returns the loss terms, the totals and the norms of the gradients before clipping."""
    run.task.train()
    own = None  # what the discriminators minimise
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.train.precision == "bfloat16"), parametrize.cached():
        terms, fake = run.task.losses(batch)
        if run.adversary is not None and run.step >= recipe.adversarial.start:
            assert fake is not None
            judged, own = run.adversary(fake, batch["audio"])
            terms = terms | judged
    total = torch.stack([recipe.weights.get(name, 0.0) * term for name, term in terms.items()]).sum()
    log = {name: float(term.detach()) for name, term in terms.items()} | {"total": float(total.detach())}
    if own is not None:
        log["discriminator"] = float(own.detach())
    broken = [name for name, value in log.items() if not math.isfinite(value)]
    if broken:
        named = [name for name in broken if name != "total"] or broken
        raise VocoderError(
            f"step {run.step}: the loss is not finite in {', '.join(named)}; the last saved state is kept"
        )
    log["gradient_norm"] = descend(run, "model", total, recipe.optimizer, recipe.train.steps, more=own is not None)
    if own is not None:
        settings = recipe.adversarial.optimizer or recipe.optimizer
        log["discriminator_gradient_norm"] = descend(run, "adversary", own, settings, recipe.train.steps)
    run.step += 1
    with torch.no_grad():
        # A short memory at first, so that the random start is soon forgotten.
        decay = min(recipe.train.ema, (1 + run.step) / (10 + run.step))
        for mean, value in zip(run.ema.parameters(), run.task.model.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        for copy_of, buffer in zip(run.ema.buffers(), run.task.model.buffers(), strict=True):
            copy_of.copy_(buffer)
    return log


def descend(run: Run, which: str, loss: Tensor, settings: OptimizerRecipe, steps: int, more: bool = False) -> float:
    """One step of one optimiser; returns the norm of the gradient. ``more``: another backward pass follows."""
    optimizer = run.optimizers[which]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.zero_grad(set_to_none=True)
    loss.backward(inputs=parameters, retain_graph=more)
    norm = float(nn.utils.clip_grad_norm_(parameters, settings.clip))
    if not math.isfinite(norm):
        raise VocoderError(f"step {run.step}: the gradient of the {which} is not finite; the last saved state is kept")
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(settings, run.step, steps)
    optimizer.step()
    return norm


def batches(recipe: Recipe, dataset: SegmentDataset, first_step: int) -> Iterator[dict[str, Tensor]]:
    """Batches of the steps from ``first_step`` on; batch n is the same in every run."""
    size = recipe.train.batch_size
    order = (list(range(step * size, (step + 1) * size)) for step in range(first_step, recipe.train.steps))
    # The loader's own generator keeps its worker seeds off the global one, which belongs to the resumable state.
    loader = DataLoader(dataset, batch_sampler=order, num_workers=recipe.data.workers, generator=torch.Generator())
    return iter(loader)


def validate(run: Run, clips: list[Clip], writer: SummaryWriter, sample_rate: int) -> dict[str, float]:
    """Metrics, audio and spectrograms of the running mean of the weights, into TensorBoard."""
    run.task.eval()
    with torch.no_grad():
        metrics, examples = run.task.validate(clips, run.ema)
    for name, value in metrics.items():
        writer.add_scalar(f"valid/{name}", value, run.step)
    for example in examples:
        for kind, audio in (("fake", example.fake), ("real", example.real)):
            writer.add_audio(f"{example.name}/{kind}", audio.clamp(-1, 1), run.step, sample_rate)
            writer.add_image(f"{example.name}/{kind}", spectrogram_image(audio), run.step)
    return metrics


def spectrogram_image(audio: Tensor) -> Tensor:
    """Audio (1, samples) -> grey image (1, bins, frames) in [0, 1], low frequencies below, 80 dB of range."""
    decibels = 20 * STFT(1024, 256)(audio).abs().clamp_min(1e-5).log10()
    return ((decibels - decibels.max()) / 80 + 1).clamp(0, 1).flip(1)


def run_training(recipe: Recipe, folder: Path) -> Path:
    """Train to the end of the recipe; returns the path of the exported checkpoint."""
    root = Path(recipe.data.root)
    train_clips, valid_clips = (list_clips(root, root / name) for name in (recipe.data.train, recipe.data.valid))
    run = start(recipe, folder)
    labels = F0Labels(train_clips, folder / "cache") if run.task.uses_f0 else None
    frames, seed = recipe.train.segment_frames, recipe.train.seed
    dataset = SegmentDataset(train_clips, labels, recipe.data, aligned(recipe.mel), frames, seed)
    if run.step == 0:
        run.task.prepare(dataset)
    writer = SummaryWriter(folder / "log", purge_step=run.step + 1 if run.step else None)
    loader = batches(recipe, dataset, run.step)
    progress = tqdm(total=recipe.train.steps, initial=run.step, desc=recipe.name, unit="step", disable=None)
    while run.step < recipe.train.steps:
        terms = train_step(run, next(loader), recipe)
        progress.update()
        last = run.step == recipe.train.steps
        if run.step % recipe.train.log_every == 0:
            for name, value in terms.items():
                writer.add_scalar(f"train/{name}", value, run.step)
            writer.add_scalar("train/learning_rate", run.optimizers["model"].param_groups[0]["lr"], run.step)
            progress.set_postfix(loss=f"{terms['total']:.3f}", refresh=False)
        if run.step % recipe.train.validate_every == 0 or last:
            metrics = validate(run, valid_clips, writer, recipe.mel.sample_rate)
            listed = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            progress.write(f"step {run.step}: {listed}", file=sys.stderr)
        if run.step % recipe.train.save_every == 0 or last:
            save_state(folder / "state", run.step, run.modules(), run.optimizers, recipe)
            export(run, recipe, folder / "model.safetensors")
    progress.close()
    writer.close()
    export(run, recipe, folder / "model.safetensors")  # again: a kill may have come between state and export
    return folder / "model.safetensors"


def export(run: Run, recipe: Recipe, path: Path) -> None:
    checkpoint = run.task.checkpoint(run.ema)
    checkpoint.training = {"recipe": recipe.model_dump(mode="json"), "steps": run.step}
    save_checkpoint(checkpoint, path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.train", description="Train what a recipe describes; resumes by itself."
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override, such as train.batch_size=8"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/NAME")
    options = parser.parse_args(arguments)
    try:
        recipe = load_recipe(options.recipe, options.set)
        path = run_training(recipe, options.out or Path("runs") / recipe.name)
    except VocoderError as error:
        print(f"recipes.train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; start again to go on from the last saved state", file=sys.stderr)
        return 130
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
