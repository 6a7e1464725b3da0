"""The training loop: python -m recipes.train RECIPE.yaml [--set KEY=VALUE ...]

Writes into runs/NAME: TensorBoard logs, the resumable state, and at each saved state what ``vocode -m`` takes:
model.safetensors, the last one, and model-best.safetensors, the one with the best validation. Started again, it goes on
where it was; killed at any moment, it loses at most the steps since the last state. On several GPUs or machines it is
started by torchrun, and computes the same.
"""

from __future__ import annotations

import contextlib
import copy
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from recipes.data.clips import Clip, readable, split_clips
from recipes.data.f0_labels import F0Labels
from recipes.data.predicted_mels import PredictedMels
from recipes.data.segments import SegmentDataset, centered_on_hops
from recipes.training.discriminators import Adversary
from recipes.training.distributed import Draws, Ranks, parts
from recipes.training.optimization import build_optimizer, learning_rate
from recipes.training.recipe import OptimizerRecipe, Recipe
from recipes.training.state import load_state, save_discriminators, save_state
from recipes.training.tasks import Batch, F0EstimatorTask, GeneratorTask, Task
from vocoders.checkpoint import save_checkpoint
from vocoders.dsp.stft import STFT
from vocoders.errors import VocoderError


@dataclass
class Run:
    """All that changes while training, and this process's place in it."""

    task: Task
    ema: nn.Module
    optimizers: dict[str, torch.optim.Optimizer]
    adversary: Adversary | None
    ranks: Ranks
    step: int = 0
    best: float = math.inf  # the lowest value so far of the task's ``judged_by``

    def __post_init__(self) -> None:
        # What train_step calls; through DDP, which averages the gradients of all ranks, where there are several.
        self.compute: nn.Module = self.task
        self.judge: nn.Module | None = self.adversary
        if self.ranks.world > 1:
            # Parallel WaveGAN has weights that no loss reaches.
            self.compute = DistributedDataParallel(self.task, find_unused_parameters=True, broadcast_buffers=False)
            if self.adversary is not None:
                self.judge = DistributedDataParallel(self.adversary, broadcast_buffers=False)

    def modules(self) -> dict[str, nn.Module]:
        changing: dict[str, nn.Module] = {"model": self.task.model, "ema": self.ema}
        return changing | ({"adversary": self.adversary} if self.adversary is not None else {})

    def waiting(self) -> contextlib.AbstractContextManager[object]:
        """Inside, gradients add up here and are not yet averaged over the ranks."""
        stack = contextlib.ExitStack()
        for module in (self.compute, self.judge):
            if isinstance(module, DistributedDataParallel):
                stack.enter_context(module.no_sync())
        return stack


def start(recipe: Recipe, folder: Path, ranks: Ranks | None = None, mels: PredictedMels | None = None) -> Run:
    """A new run, or the one whose state lies in ``folder``."""
    ranks = ranks or Ranks()
    torch.manual_seed(recipe.train.seed)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    task: Task = F0EstimatorTask(recipe) if recipe.f0_estimator is not None else GeneratorTask(recipe, mels)
    known = task.loss_names + (("adversarial", "feature_matching") if recipe.discriminators else ())
    for name in recipe.losses:
        if name in ("adversarial", "feature_matching") and name not in known:
            raise VocoderError(f"loss '{name}' needs discriminators; name some in the recipe")
        if name not in known:
            raise VocoderError(f"unknown loss '{name}'; this model can be trained with: {', '.join(known)}")
    weighed = [name for name, weight in recipe.weights.items() if weight]
    if not weighed:
        raise VocoderError(f"the recipe weighs no loss; known: {', '.join(known)}")
    if recipe.adversarial.first_step and not set(weighed) & set(task.loss_names):
        raise VocoderError(
            f"nothing is weighed before step {recipe.adversarial.first_step}, when the discriminators begin; known: "
            f"{', '.join(task.loss_names)}"
        )
    parts(recipe, ranks)
    adversary = Adversary(recipe).to(ranks.device) if recipe.discriminators else None
    task.to(ranks.device)
    ema = copy.deepcopy(task.model).eval().requires_grad_(False)
    optimizers = {"model": build_optimizer(task.model, recipe.optimizer)}
    if adversary is not None:
        optimizers["adversary"] = build_optimizer(adversary, recipe.adversarial.optimizer or recipe.optimizer)
    run = Run(task, ema, optimizers, adversary, ranks)
    run.step, run.best = load_state(folder / "state", run.modules(), optimizers, recipe)
    ranks.same(run.step)
    return run


def train_step(run: Run, batches: list[Batch], recipe: Recipe) -> dict[str, float]:
    """One update from one batch, given in the parts that this rank computes.

    Returns the loss terms, their totals and the norms of the gradients before clipping.
    """
    run.task.train()
    settings = {"model": recipe.optimizer, "adversary": recipe.adversarial.optimizer or recipe.optimizer}
    weights = {name: [p for g in o.param_groups for p in g["params"]] for name, o in run.optimizers.items()}
    for optimizer in run.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    adversarial = run.judge is not None and run.step >= recipe.adversarial.first_step
    log: dict[str, float] = {}
    for number, (batch, part) in enumerate(zip(batches, parts(recipe, run.ranks), strict=True), 1):
        batch = {key: value.to(run.ranks.device, non_blocking=True) for key, value in batch.items()}
        draws = Draws(recipe.train.seed, run.step, recipe.train.batch_size, part, run.ranks.device)
        autocast = torch.autocast(run.ranks.device.type, torch.bfloat16, recipe.train.precision == "bfloat16")
        with run.waiting() if number < len(batches) else contextlib.nullcontext():
            with autocast, parametrize.cached():
                terms, fake = run.compute(batch, draws)
                losses = {}
                if adversarial:
                    assert run.judge is not None
                    judged, losses["adversary"] = run.judge(fake, batch["audio"])
                    terms = terms | judged
            losses["model"] = torch.stack([recipe.weights.get(k, 0.0) * term for k, term in terms.items()]).sum()
            values = terms | {_TOTALS[name]: loss for name, loss in losses.items()}
            # As one tensor, because a GPU is waited for at each number that is read from it.
            found = dict(zip(values, torch.stack([value.detach() for value in values.values()]).tolist(), strict=True))
            broken = [name for name, value in found.items() if not math.isfinite(value)]
            if broken:
                named = [name for name in broken if name != "total"] or broken
                raise VocoderError(f"step {run.step}: the loss is not finite in {', '.join(named)}; {KEPT}")
            # The generator first: its gradient passes through the discriminators as they are.
            (losses["model"] / len(batches)).backward(inputs=weights["model"], retain_graph=adversarial)
            if adversarial:
                (losses["adversary"] / len(batches)).backward(inputs=weights["adversary"])
        for name, value in found.items():
            log[name] = log.get(name, 0.0) + value / len(batches)
    for name in ("model", "adversary") if adversarial else ("model",):
        begun = recipe.adversarial.first_step if name == "adversary" else 0
        log[f"{name}_gradient_norm"] = descend(run, name, weights[name], settings[name], recipe.train.steps, begun)
    run.step += 1
    with torch.no_grad():
        # A short memory at first, so that the random start is soon forgotten.
        decay = min(recipe.train.ema, (1 + run.step) / (10 + run.step))
        means, now = list(run.ema.parameters()), list(run.task.model.parameters())
        get_ema_multi_avg_fn(decay)(means, now, None)
        for copy_of, buffer in zip(run.ema.buffers(), run.task.model.buffers(), strict=True):
            copy_of.copy_(buffer)
    return log


_TOTALS = {"model": "total", "adversary": "discriminator"}
KEPT = "the last saved state is kept"


def descend(
    run: Run, which: str, weights: list[nn.Parameter], settings: OptimizerRecipe, steps: int, begun: int = 0
) -> float:
    """One step of one optimiser, which began at step ``begun``, along the gradients there are; returns their norm."""
    norm = float(nn.utils.clip_grad_norm_(weights, settings.clip or math.inf))
    if not math.isfinite(norm):
        raise VocoderError(f"step {run.step}: the gradient of the {which} is not finite; {KEPT}")
    for group in run.optimizers[which].param_groups:
        group["lr"] = learning_rate(settings, run.step - begun, steps - begun)
    run.optimizers[which].step()
    return norm


def load_batches(recipe: Recipe, dataset: SegmentDataset, first_step: int, ranks: Ranks) -> Iterator[list[Batch]]:
    """The batches of the steps from ``first_step`` on, each in this rank's parts; batch n is the same in every run."""
    size, mine = recipe.train.batch_size, parts(recipe, ranks)
    order = (
        list(range(step * size + part.start, step * size + part.stop))
        for step in range(first_step, recipe.train.steps)
        for part in mine
    )
    # The loader's own generator keeps its worker seeds off the global one, which belongs to the initial weights.
    loader = iter(
        DataLoader(
            dataset,
            batch_sampler=order,
            num_workers=recipe.data.workers,
            generator=torch.Generator(),
            pin_memory=ranks.device.type == "cuda",
        )
    )
    for _ in range(first_step, recipe.train.steps):
        yield [next(loader) for _ in mine]


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


def run_training(recipe: Recipe, folder: Path, ranks: Ranks | None = None, minutes: float | None = None) -> Path:
    """Train to the end of the recipe, or for so many minutes; returns the path of the exported checkpoint."""
    ranks = ranks or Ranks()
    train_clips, valid_clips = split_clips(recipe.data)
    rate = recipe.mel.sample_rate
    lower = [clip for clip in train_clips if clip.sample_rate < rate]
    if lower and ranks.first:
        highest = max(clip.sample_rate for clip in lower) // 2
        print(
            f"note: {len(lower)} of {len(train_clips)} recordings have a lower rate than the recipe's {rate} Hz: above "
            f"{highest} Hz they hold nothing to learn",
            file=sys.stderr,
        )
    mels = None
    if recipe.data.mels:
        mels = PredictedMels(Path(recipe.data.mels), Path(recipe.data.dir), [*train_clips, *valid_clips], recipe.mel)
        train_clips = [clip for clip in train_clips if clip in mels]
        if not train_clips:
            raise VocoderError(f"{recipe.data.mels} holds mels of recordings to validate on alone, none to train on")
    valid_clips = readable(valid_clips, recipe.mel)
    run = start(recipe, folder, ranks, mels)
    labels = None
    if run.task.uses_f0:
        if not ranks.first:
            ranks.wait()
        labels = F0Labels(train_clips, folder / "cache", recipe.data.f0_range)
        if ranks.first:
            ranks.wait()
    frames, seed = recipe.train.segment_frames, recipe.train.seed
    dataset = SegmentDataset(train_clips, labels, recipe.data, centered_on_hops(recipe.mel), frames, seed, mels)
    if run.step == 0:
        run.task.prepare(dataset)
        run.ema.load_state_dict(run.task.model.state_dict())
    writer = SummaryWriter(folder / "log", purge_step=run.step + 1 if run.step else None) if ranks.first else None
    loader = load_batches(recipe, dataset, run.step, ranks)
    shown = None if ranks.first else True
    progress = tqdm(total=recipe.train.steps, initial=run.step, desc=recipe.name, unit="step", disable=shown)
    counted, waited, since = run.step, 0.0, time.perf_counter()
    end = math.inf if minutes is None else since + 60 * minutes
    last = run.step >= recipe.train.steps
    while not last:
        begin = time.perf_counter()
        batches = next(loader)
        waited += time.perf_counter() - begin
        terms = train_step(run, batches, recipe)
        progress.update()
        last = run.step == recipe.train.steps
        if minutes is not None:
            last = ranks.agree(last or time.perf_counter() > end)
        if writer is None:
            continue
        if run.step % recipe.train.log_every == 0:
            for name, value in terms.items():
                writer.add_scalar(f"train/{name}", value, run.step)
            writer.add_scalar("train/learning_rate", run.optimizers["model"].param_groups[0]["lr"], run.step)
            seconds = time.perf_counter() - since
            writer.add_scalar("speed/steps_per_second", (run.step - counted) / seconds, run.step)
            writer.add_scalar("speed/share_waiting_for_data", waited / seconds, run.step)
            progress.set_postfix(loss=f"{terms['total']:.3f}", refresh=False)
        if run.step % recipe.train.validate_every == 0 or last:
            metrics = validate(run, valid_clips, writer, recipe.mel.sample_rate)
            listed = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            progress.write(f"step {run.step}: {listed}", file=sys.stderr)
            if metrics.get(run.task.judged_by, math.inf) < run.best:
                run.best = metrics[run.task.judged_by]
                export(run, recipe, folder / "model-best.safetensors")
        if run.step % recipe.train.save_every == 0 or last:
            save_state(folder / "state", run.step, run.best, run.modules(), run.optimizers, recipe)
            export(run, recipe, folder / "model.safetensors")
            if run.adversary is not None:
                save_discriminators(run.adversary, recipe, folder / "discriminators.safetensors")
        if run.step % recipe.train.log_every == 0:
            counted, waited, since = run.step, 0.0, time.perf_counter()
    progress.close()
    if writer is not None:
        writer.close()
        export(run, recipe, folder / "model.safetensors")  # again: a kill may have come between state and export
        if run.adversary is not None:
            save_discriminators(run.adversary, recipe, folder / "discriminators.safetensors")
    ranks.wait()
    return folder / "model.safetensors"


def export(run: Run, recipe: Recipe, path: Path) -> None:
    checkpoint = run.task.checkpoint(run.ema)
    checkpoint.training = {"recipe": recipe.model_dump(mode="json"), "steps": run.step}
    save_checkpoint(checkpoint, path)
