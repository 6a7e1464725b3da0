"""Training of an F0 estimator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recipes.data.clips import Clip, read_clip
from recipes.data.smoothing import smooth_share
from recipes.evaluation.metrics import f0_metrics
from recipes.training.distributed import Draws
from recipes.training.schema import Recipe
from recipes.training.tasks import Batch, Task, TaskOutput, Validation, load_f0_estimator
from vocoders.checkpoint import Checkpoint
from vocoders.errors import VocoderError
from vocoders.f0_estimator import F0Estimator

_BINS = {"bins", "bins_per_octave", "fmin", "voicing_threshold"}  # may differ from the initial model


class F0EstimatorTask(Task):
    """Train an F0 estimator: cross-entropy against blurred F0 labels, binary cross-entropy for voicing."""

    selection_metric = "voicing_error"

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        assert recipe.f0_estimator is not None
        self.model: F0Estimator = F0Estimator(recipe.f0_estimator.config, recipe.mel_config)
        if recipe.f0_estimator.init:
            start_from(self.model, recipe.f0_estimator.init)

    def forward(self, batch: Batch, draws: Draws) -> TaskOutput:
        f0 = batch["f0"]
        share = self.recipe.data.augmentation.adapt
        adapted = share and draws.chance(share)
        mel = self.degrade(self.adapt(batch, draws) if adapted else self.mel(batch), draws)
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

    def degrade(self, mel: Tensor, draws: Draws) -> Tensor:
        """Vary mels (batch, n_mels, frames): tilt, ripple, noise floor and, for a share, smoothing."""
        # Rooms, microphones and acoustic models differ most in tilt and noise.
        tilt = torch.linspace(-1, 1, mel.shape[1], device=mel.device)[:, None] * draws.randn(1, 1) * 0.7
        ripple = F.interpolate(draws.randn(1, 8), mel.shape[1], mode="linear").transpose(1, 2) * 0.4
        floor = self.recipe.mel_config.log_floor
        noise_floor = floor + (-5.0 - floor) * draws.rand(1, 1)
        mel = torch.logaddexp(mel + tilt + ripple, noise_floor + 0.3 * draws.randn(*mel.shape[1:]))
        shares = self.recipe.data.augmentation
        return smooth_share(mel, shares, draws.rand(3)) if shares.smooth else mel

    def validate(self, clips: list[Clip], model: nn.Module) -> Validation:
        """Compare the F0 of ``model`` with the labels, on whole recordings."""
        assert isinstance(model, F0Estimator)
        estimates, labels = [], []
        for clip in clips:
            audio = read_clip(clip, self.recipe.mel_config)
            mel = self.log_mel(audio.to(self.log_mel.filter_bank.device))
            estimates.append(model.estimate(mel)[0, 0].cpu().numpy())
            labels.append(self.label_frames(audio, mel.shape[-1]))
        return Validation(f0_metrics(np.concatenate(labels), np.concatenate(estimates)), [])

    def checkpoint(self, model: nn.Module) -> Checkpoint:
        """Build a checkpoint of the F0 estimator only."""
        assert isinstance(model, F0Estimator)
        return Checkpoint(self.recipe.mel_config, f0_estimator=model)


def start_from(estimator: F0Estimator, init: str) -> None:
    """Load the F0 estimator of the model ``init``; bins of new frequencies keep their initial weights."""
    source = load_f0_estimator(init, estimator.mel_config)
    own, weights = estimator.state_dict(), source.state_dict()
    if not isinstance(source, F0Estimator) or source.config.model_dump(exclude=_BINS) != estimator.config.model_dump(
        exclude=_BINS
    ):
        raise VocoderError(f"the F0 estimator of {init} has another kind or size than the recipe's")
    octaves = (estimator.frequencies[:, None] / source.frequencies).log2().abs()
    distance, nearest = octaves.min(1)
    known = distance < 0.5 / source.config.bins_per_octave
    for name in ("output.weight", "output.bias"):  # the bins and voicing
        bins = torch.where(known.view(-1, *[1] * (own[name].ndim - 1)), weights[name][nearest], own[name][:-1])
        weights[name] = torch.cat([bins, weights[name][-1:]])
    estimator.load_state_dict(weights)
