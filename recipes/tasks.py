"""What is trained: a generator, or a pitch estimator. A task knows its loss, its validation and its export."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import is_parametrized

from losses.energy_distance import energy_distance
from losses.spectral import MelLoss, MultiResolutionSTFTLoss, MultiScaleMelLoss, full_band
from recipes.data import Clip, SegmentDataset, aligned, f0_at, frame_times, label_f0, read_clip
from recipes.metrics import pitch_metrics
from recipes.recipe import Recipe
from vocoders.checkpoint import Checkpoint, load_checkpoint
from vocoders.errors import VocoderError
from vocoders.generators import build_generator, generator_name
from vocoders.generators.base import Generator
from vocoders.generators.hnmask import HNMask
from vocoders.mel import MelSpectrogram
from vocoders.pitch import PitchEstimator

Batch = dict[str, Tensor]
SpectralLoss = MelLoss | MultiScaleMelLoss | MultiResolutionSTFTLoss


class Example(NamedTuple):
    """One validation clip, for the ears and eyes of TensorBoard."""

    name: str
    fake: Tensor
    real: Tensor


class Step(NamedTuple):
    """What a batch gave."""

    terms: dict[str, Tensor]
    """Unweighted losses."""
    fake: Tensor | None = None
    """What a generator made of the batch's mel, (batch, 1, samples), for the discriminators to judge."""


class Task(nn.Module, ABC):
    """The model in training and all that is fixed around it."""

    model: nn.Module
    uses_f0 = True  # whether batches must hold F0 labels
    loss_names: tuple[str, ...]  # what ``losses`` returns, and a recipe can weigh

    def prepare(self, segments: SegmentDataset) -> None:
        """Called once, before the first step of a new run."""

    @abstractmethod
    def losses(self, batch: Batch) -> Step:
        """The losses of a batch of audio (batch, 1, samples) and f0 (batch, 1, frames)."""

    @abstractmethod
    def validate(self, clips: list[Clip], model: nn.Module) -> tuple[dict[str, float], list[Example]]:
        """Mean metrics of ``model`` (the running mean of the weights) over ``clips``, and examples."""

    @abstractmethod
    def checkpoint(self, model: nn.Module) -> Checkpoint:
        """What is exported."""


class PitchTask(Task):
    """Cross-entropy against blurred pitch labels, binary cross-entropy for voicing."""

    loss_names = ("pitch", "voicing")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        assert recipe.pitch is not None
        self.recipe = recipe
        self.mel = MelSpectrogram(aligned(recipe.mel))
        self.model: PitchEstimator = PitchEstimator(recipe.pitch, recipe.mel)

    def losses(self, batch: Batch) -> Step:
        audio, f0 = batch["audio"], batch["f0"]
        # Rooms, microphones and over-smoothed mels differ most in tilt and noise: blur both, a step at a time.
        mel = self.mel(audio.squeeze(1))
        tilt = torch.linspace(-1, 1, mel.shape[1])[:, None] * torch.randn(len(mel), 1, 1) * 0.7
        ripple = F.interpolate(torch.randn(len(mel), 1, 8), mel.shape[1], mode="linear").transpose(1, 2) * 0.4
        noise_floor = torch.empty(len(mel), 1, 1).uniform_(self.recipe.mel.log_floor, -5.0)
        mel = torch.logaddexp(mel + tilt + ripple, noise_floor + 0.3 * torch.randn_like(mel))
        pitch, voicing = self.model(mel)
        voiced = f0 > 0
        octaves = self.model.frequencies.log2()[None, :, None] - f0.clamp_min(1.0).log2()
        target = torch.exp(-0.5 * (octaves * 12 / 0.35).square())  # a third of a semitone wide
        target = target / target.sum(1, keepdim=True).clamp_min(1e-6)
        cross_entropy = -(target * pitch.log_softmax(1)).sum(1, keepdim=True)
        return Step(
            {
                "pitch": (cross_entropy * voiced).sum() / voiced.sum().clamp_min(1),
                "voicing": F.binary_cross_entropy_with_logits(voicing, voiced.float()),
            }
        )

    def validate(self, clips: list[Clip], model: nn.Module) -> tuple[dict[str, float], list[Example]]:
        assert isinstance(model, PitchEstimator)
        found, wanted = [], []
        for clip in clips:
            audio = read_clip(clip, self.recipe.mel)
            f0 = model.estimate(self.mel(audio))[0, 0].numpy()
            found.append(f0)
            wanted.append(f0_on_frames(audio, f0.shape[0], self.recipe))
        return pitch_metrics(np.concatenate(wanted), np.concatenate(found)), []

    def checkpoint(self, model: nn.Module) -> Checkpoint:
        assert isinstance(model, PitchEstimator)
        return Checkpoint(self.recipe.mel, pitch=model)


class GeneratorTask(Task):
    """Spectral losses on the generator's output; HNMask also on its output before the mel projection."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        assert recipe.generator is not None
        self.recipe = recipe
        self.mel = MelSpectrogram(aligned(recipe.mel))
        self.model: Generator = build_generator(recipe.generator.name, recipe.generator.config, recipe.mel)
        if recipe.generator.init:
            donor = load_checkpoint(Path(recipe.generator.init)).generator
            if donor is None or donor.config != self.model.config or donor.mel_spec != recipe.mel:
                raise VocoderError(
                    f"{recipe.generator.init} does not hold the generator and the mel convention of the recipe"
                )
            self.model.load_state_dict(donor.state_dict())
        self.uses_f0 = self.model.uses_f0
        if self.model.uses_weight_norm:
            for layer in list(self.model.modules()):
                if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d)):
                    weight_norm(layer)
        self.mel_loss = MelLoss(aligned(recipe.mel))
        self.stft_loss = MultiResolutionSTFTLoss(recipe.stft_resolutions)
        spectral: dict[tuple[str, ...], SpectralLoss] = {
            ("mel",): self.mel_loss,
            ("full_band_mel",): MelLoss(full_band(aligned(recipe.mel))),
            ("multi_scale_mel",): MultiScaleMelLoss(recipe.mel.sample_rate),
            ("spectral_convergence", "log_magnitude"): self.stft_loss,
        }
        self.loss_names = tuple(name for names in spectral for name in names)
        if isinstance(self.model, HNMask):
            self.loss_names += ("draft_mel",)
        # What has no weight is not computed.
        self.spectral = {names: loss for names, loss in spectral.items() if any(map(recipe.weights.get, names))}
        self.pitch: PitchEstimator | None = None
        if recipe.generator.pitch:
            source = load_checkpoint(Path(recipe.generator.pitch))
            if source.pitch is None or source.mel_spec != recipe.mel:
                raise VocoderError(
                    f"{recipe.generator.pitch} holds no pitch estimator for the mel convention of the recipe"
                )
            self.pitch = source.pitch

    def prepare(self, segments: SegmentDataset) -> None:
        assert self.recipe.generator is not None
        if not self.recipe.generator.init:
            audio = torch.stack([segments[i]["audio"][0] for i in range(64)])
            self.model.set_statistics(self.mel(audio))

    def losses(self, batch: Batch) -> Step:
        audio, f0 = batch["audio"], batch["f0"]
        with torch.no_grad():
            mel = self.mel(audio.squeeze(1))
            if self.pitch is not None and torch.rand(()) < self.recipe.train.estimated_f0:
                f0 = self.pitch.estimate(mel)
            phase = torch.rand(len(audio), 1, 1)
            draws = 2 if self.recipe.train.energy_distance else 1
            noises = [torch.randn_like(audio) for _ in range(draws)]
        terms: dict[str, Tensor] = {}
        if isinstance(self.model, HNMask):
            shaped = self.model.shape(mel, f0, phase)
            drafts = [self.model.mix(mel, *shaped, noise) for noise in noises]
            fakes = [self.model.project(draft, mel, self.model.config.projections) for draft in drafts]
            if self.recipe.weights.get("draft_mel"):
                terms["draft_mel"] = self._compare(self.mel_loss, drafts, audio)[0]
        else:
            fakes = [self.model(mel, f0=f0, noise=noise, phase=phase) for noise in noises]
        for names, loss in self.spectral.items():
            terms |= dict(zip(names, self._compare(loss, fakes, audio), strict=True))
        return Step(terms, fakes[0])

    @staticmethod
    def _compare(loss: SpectralLoss, fakes: list[Tensor], real: Tensor) -> list[Tensor]:
        """The terms of a loss for one draw, their energy distance for two."""
        if len(fakes) == 2:
            return energy_distance(loss, fakes[0].squeeze(1), fakes[1].squeeze(1), real.squeeze(1))
        value = loss(fakes[0].squeeze(1), real.squeeze(1))
        return list(value) if isinstance(value, tuple) else [value]

    def validate(self, clips: list[Clip], model: nn.Module) -> tuple[dict[str, float], list[Example]]:
        metrics: dict[str, list[float]] = {}
        examples: list[Example] = []
        for clip in clips:
            real = read_clip(clip, self.recipe.mel)[None]
            mel = self.mel(real.squeeze(1))
            f0 = None
            if self.pitch is not None:
                f0 = self.pitch.estimate(mel)
            elif self.uses_f0:
                f0 = torch.from_numpy(f0_on_frames(real[0], mel.shape[-1], self.recipe))[None, None]
            fake = model(mel, f0=f0)
            terms = {"mel": self.mel_loss(fake, real)} | self.stft_loss(fake, real)._asdict()
            for name, value in terms.items():
                metrics.setdefault(name, []).append(float(value))
            if len(examples) < 3:
                examples.append(Example(clip.path.stem, fake[0], real[0]))
        return {name: math.fsum(values) / len(values) for name, values in metrics.items()}, examples

    def checkpoint(self, model: nn.Module) -> Checkpoint:
        assert isinstance(model, Generator)
        # A fresh one with the weights as the layers use them; PyTorch's own removal breaks copies that share the class.
        weights = {key: value for key, value in model.state_dict().items() if "parametrizations" not in key}
        for name, layer in model.named_modules():
            if is_parametrized(layer):
                weights[f"{name}.weight"] = layer.weight
        with torch.device("meta"):  # laid out without drawing initial weights: the random state belongs to the training
            folded = build_generator(generator_name(model), model.config.model_dump(), self.recipe.mel)
        folded.load_state_dict(weights, assign=True)
        return Checkpoint(self.recipe.mel, generator=folded, pitch=self.pitch)


def f0_on_frames(audio: Tensor, frames: int, recipe: Recipe) -> np.ndarray:
    """The label of each mel frame of ``audio`` (1, samples), Hz, 0 = unvoiced."""
    return f0_at(label_f0(audio[0].numpy(), recipe.mel.sample_rate), frame_times(frames, aligned(recipe.mel)))
