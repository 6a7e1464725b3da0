"""Log a run: TensorBoard and a progress bar."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from recipes.evaluation.metrics.signal import Signal
from recipes.evaluation.spectrograms import spectrogram_image
from recipes.training.step import Run
from recipes.training.tasks import Validation


class Logger:
    """Log to TensorBoard in ``folder`` and to a progress bar, on the main rank only."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.run = run
        recipe, main = run.recipe, run.distributed.is_main
        self.writer = SummaryWriter(folder, purge_step=run.step + 1 if run.step else None) if main else None
        if self.writer is not None:
            text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
            self.writer.add_text("recipe", f"```yaml\n{text}```", run.step)
        self.progress = tqdm(
            total=recipe.train.steps,
            initial=run.step,
            desc=recipe.name,
            unit="step",
            disable=None if main else True,
        )
        self.logged_step = run.step
        self.seconds = {"load": 0.0, "step": 0.0}  # since ``logged_step``

    @contextlib.contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Add the time of the block to ``part``, "load" or "step"."""
        begin = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - begin

    def log_step(self, losses: dict[str, float] | None) -> None:
        """Advance the bar; write losses (None: not read), learning rate and speed every ``log_every`` steps."""
        self.progress.update()
        if losses is None or self.writer is None or self.run.step % self.run.recipe.train.log_every:
            return
        step, seconds = self.run.step, sum(self.seconds.values())
        learning_rate = float(self.run.optimizers["model"].param_groups[0]["lr"])
        scalars = {f"train/{name}": value for name, value in losses.items()} | {
            "train/learning_rate": learning_rate,
            "speed/steps_per_second": (step - self.logged_step) / seconds,
            "speed/share_waiting_for_data": self.seconds["load"] / seconds,
        }
        for name, value in scalars.items():
            self.writer.add_scalar(name, value, step)
        self.progress.set_postfix(loss=f"{losses['total']:.3f}", refresh=False)
        self.logged_step, self.seconds = step, dict.fromkeys(self.seconds, 0.0)

    def log_validation(self, validation: Validation) -> None:
        """Write metrics, audio and spectrograms."""
        if self.writer is None:
            return
        step, sample_rate = self.run.step, self.run.task.audio_config.sample_rate
        for name, value in validation.metrics.items():
            self.writer.add_scalar(f"valid/{name}", value, step)
        for number, example in enumerate(validation.examples, 1):  # recordings of two folders may share a name
            name = f"{number} {example.name}"
            sounds = {"recording": example.real, "copy": example.fake}
            for kind, audio in sounds.items():  # TensorBoard shows one kind of data per tag
                self.writer.add_audio(f"sound/{name}/{kind}", audio.clamp(-1, 1), step, sample_rate)
            signals = {kind: Signal(audio[0].numpy(), sample_rate) for kind, audio in sounds.items()}
            picture = spectrogram_image(signals)
            self.writer.add_image(f"spectrogram/{name}", picture, step, dataformats="HWC")
        listed = ", ".join(f"{name} {value:.4f}" for name, value in validation.metrics.items())
        self.progress.write(f"step {step}: {listed}", file=sys.stderr)

    def close(self) -> None:
        """Close the progress bar and flush the logs."""
        self.progress.close()
        if self.writer is not None:
            self.writer.close()
