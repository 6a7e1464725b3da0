"""Training of an F0 estimator."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from recipes.data.clips import Clip, read_clip
from recipes.evaluation.metrics import f0_metrics
from recipes.training.distributed import Draws
from recipes.training.recipe import Recipe
from recipes.training.tasks import Batch, Task, TaskOutput, Validation
from vocoders.checkpoint import Checkpoint
from vocoders.f0_estimator import F0Estimator


class F0EstimatorTask(Task):
    """The task of an F0 estimator: cross-entropy against blurred F0 labels, binary cross-entropy for voicing."""

    selection_metric = "voicing_error"
    loss_names = ("f0", "voicing")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert recipe.f0_estimator is not None
        self.model: F0Estimator = F0Estimator(recipe.f0_estimator, recipe.mel)

    def forward(self, batch: Batch, draws: Draws) -> TaskOutput:
        """Compute the losses of a batch; see ``Task.forward``."""
        audio, f0 = batch["audio"], batch["f0"]
        # Rooms, microphones and over-smoothed mels differ most in tilt and noise, so both are varied.
        mel = self.log_mel(audio.squeeze(1))
        tilt = torch.linspace(-1, 1, mel.shape[1], device=mel.device)[:, None] * draws.randn(1, 1) * 0.7
        ripple = F.interpolate(draws.randn(1, 8), mel.shape[1], mode="linear").transpose(1, 2) * 0.4
        floor = self.recipe.mel.log_floor
        noise_floor = floor + (-5.0 - floor) * draws.rand(1, 1)
        mel = torch.logaddexp(mel + tilt + ripple, noise_floor + 0.3 * draws.randn(*mel.shape[1:]))
        logits, voicing = self.model(mel)
        voiced = f0 > 0
        octaves = self.model.frequencies.log2()[None, :, None] - f0.clamp_min(1.0).log2()
        target = torch.exp(-0.5 * (octaves * 12 / 0.35).square())  # a third of a semitone wide
        target = target / target.sum(1, keepdim=True).clamp_min(1e-6)
        cross_entropy = -(target * logits.log_softmax(1)).sum(1, keepdim=True)
        return TaskOutput(
            {
                "f0": (cross_entropy * voiced).sum() / voiced.sum().clamp_min(1),
                "voicing": F.binary_cross_entropy_with_logits(voicing, voiced.float()),
            }
        )

    def validate(self, clips: list[Clip], model: nn.Module) -> Validation:
        """Compare the estimates of ``model`` with the labels of whole recordings."""
        assert isinstance(model, F0Estimator)
        estimates, labels = [], []
        for clip in clips:
            audio = read_clip(clip, self.recipe.mel)
            mel = self.log_mel(audio.to(self.log_mel.filter_bank.device))
            estimates.append(model.estimate(mel)[0, 0].cpu().numpy())
            labels.append(self.label_frames(audio, mel.shape[-1]))
        return Validation(f0_metrics(np.concatenate(labels), np.concatenate(estimates)), [])

    def checkpoint(self, model: nn.Module) -> Checkpoint:
        """Build a checkpoint that holds the F0 estimator alone."""
        assert isinstance(model, F0Estimator)
        return Checkpoint(self.recipe.mel, f0_estimator=model)
