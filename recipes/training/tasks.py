"""What is trained: a generator, or an F0 estimator. A task knows its loss, its validation and its export."""

from __future__ import annotations

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
from recipes.data.clips import Clip, read_clip
from recipes.data.f0_labels import f0_at, label_f0
from recipes.data.predicted_mels import PredictedMels
from recipes.data.segments import SegmentDataset, centered_on_hops, frame_times
from recipes.evaluation.metrics import Signal, f0_metrics, pesq_wide_band
from recipes.training.distributed import Draws
from recipes.training.recipe import GeneratorRecipe, Recipe
from vocoders.checkpoint import Checkpoint, load_checkpoint
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.f0_estimator import F0Estimator
from vocoders.generators import build_generator, generator_name
from vocoders.generators.base import Generator
from vocoders.generators.hnmask import HNMask

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
    mel: LogMelSpectrogram
    uses_f0 = True  # whether batches must hold F0 labels
    judged_by: str  # the metric of validation, less is better, that the best checkpoint is chosen by
    loss_names: tuple[str, ...]  # what ``losses`` returns, and a recipe can weigh

    @property
    def device(self) -> torch.device:
        return self.mel.filter_bank.device

    def prepare(self, segments: SegmentDataset) -> None:
        """Called once, before the first step of a new run."""

    @abstractmethod
    def forward(self, batch: Batch, draws: Draws) -> Step:
        """The losses of a batch.

        Args:
            batch: audio (batch, 1, samples), f0 (batch, 1, frames) and, where predicted mels are trained on, mel
                (batch, n_mels, frames).
            draws: all random numbers needed.
        """

    @abstractmethod
    def validate(self, clips: list[Clip], model: nn.Module) -> tuple[dict[str, float], list[Example]]:
        """Mean metrics of ``model`` (the running mean of the weights) over ``clips``, and examples."""

    @abstractmethod
    def checkpoint(self, model: nn.Module) -> Checkpoint:
        """What is exported."""


class F0EstimatorTask(Task):
    """Cross-entropy against blurred F0 labels, binary cross-entropy for voicing."""

    judged_by = "voicing_error"
    loss_names = ("f0", "voicing")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        assert recipe.f0_estimator is not None
        self.recipe = recipe
        self.mel = LogMelSpectrogram(centered_on_hops(recipe.mel))
        self.model: F0Estimator = F0Estimator(recipe.f0_estimator, recipe.mel)

    def forward(self, batch: Batch, draws: Draws) -> Step:
        audio, f0 = batch["audio"], batch["f0"]
        # Rooms, microphones and over-smoothed mels differ most in tilt and noise: blur both, a step at a time.
        mel = self.mel(audio.squeeze(1))
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
        return Step(
            {
                "f0": (cross_entropy * voiced).sum() / voiced.sum().clamp_min(1),
                "voicing": F.binary_cross_entropy_with_logits(voicing, voiced.float()),
            }
        )

    def validate(self, clips: list[Clip], model: nn.Module) -> tuple[dict[str, float], list[Example]]:
        assert isinstance(model, F0Estimator)
        found, wanted = [], []
        for clip in clips:
            audio = read_clip(clip, self.recipe.mel)
            f0 = model.estimate(self.mel(audio.to(self.device)))[0, 0].cpu().numpy()
            found.append(f0)
            wanted.append(f0_on_frames(audio, f0.shape[0], self.recipe))
        return f0_metrics(np.concatenate(wanted), np.concatenate(found)), []

    def checkpoint(self, model: nn.Module) -> Checkpoint:
        assert isinstance(model, F0Estimator)
        return Checkpoint(self.recipe.mel, f0_estimator=model)


class GeneratorTask(Task):
    """Spectral losses on the generator's output; HNMask also on its output before the mel projection."""

    judged_by = "mel"

    def __init__(self, recipe: Recipe, mels: PredictedMels | None = None) -> None:
        super().__init__()
        assert recipe.generator is not None
        self.recipe, self.mels = recipe, mels
        self.mel = LogMelSpectrogram(centered_on_hops(recipe.mel))
        self.model: Generator = self._build(recipe.generator, recipe.mel)
        self.uses_f0 = self.model.uses_f0
        if self.model.uses_weight_norm:
            for layer in list(self.model.modules()):
                if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d)):
                    weight_norm(layer)
        self.mel_loss = MelLoss(centered_on_hops(recipe.mel))
        self.stft_loss = MultiResolutionSTFTLoss(recipe.stft_resolutions)
        spectral: dict[tuple[str, ...], SpectralLoss] = {
            ("mel",): self.mel_loss,
            ("full_band_mel",): MelLoss(full_band(centered_on_hops(recipe.mel))),
            ("multi_scale_mel",): MultiScaleMelLoss(recipe.mel.sample_rate),
            ("spectral_convergence", "log_magnitude"): self.stft_loss,
        }
        self.loss_names = tuple(name for names in spectral for name in names)
        if isinstance(self.model, HNMask):
            self.loss_names += ("draft_mel",)
        self.spectral_losses = nn.ModuleList(spectral.values())  # so that they follow the task to its device
        # What has no weight is not computed.
        self.spectral = {names: loss for names, loss in spectral.items() if any(map(recipe.weights.get, names))}
        self.f0_estimator: F0Estimator | None = None
        if recipe.generator.f0_estimator:
            source = load_checkpoint(Path(recipe.generator.f0_estimator))
            if source.f0_estimator is None or source.mel_config != recipe.mel:
                raise VocoderError(
                    f"{recipe.generator.f0_estimator} holds no F0 estimator for the mel config of the recipe"
                )
            self.f0_estimator = source.f0_estimator

    @staticmethod
    def _build(settings: GeneratorRecipe, mel_config: MelConfig) -> Generator:
        """A new generator, or the one of the checkpoint ``init``, whose configuration need not be repeated."""
        if not settings.init:
            return build_generator(settings.name, settings.config, mel_config)
        donor = load_checkpoint(Path(settings.init)).generator
        if donor is None or generator_name(donor) != settings.name:
            raise VocoderError(f"{settings.init} holds no generator '{settings.name}'")
        if donor.mel_config != mel_config:
            listed = ", ".join(f"{k} {a} against {b}" for k, (a, b) in donor.mel_config.differences(mel_config).items())
            raise VocoderError(f"{settings.init} was made for another mel config than the recipe's: {listed}")
        wanted = build_generator(settings.name, settings.config, mel_config).config if settings.config else donor.config
        if donor.config != wanted:
            raise VocoderError(f"{settings.init} has another configuration than the recipe; leave generator.config out")
        return donor.requires_grad_(True)

    def prepare(self, segments: SegmentDataset) -> None:
        assert self.recipe.generator is not None
        if not self.recipe.generator.init:
            items = [segments[i] for i in range(64)]
            audio = torch.stack([item["audio"][0] for item in items]).to(self.device)
            given = [item["mel"] for item in items if "mel" in item]
            self.model.set_statistics(torch.stack(given).to(self.device) if given else self.mel(audio))

    def forward(self, batch: Batch, draws: Draws) -> Step:
        audio, f0 = batch["audio"], batch["f0"]
        with torch.no_grad():
            mel = batch["mel"] if "mel" in batch else self.mel(audio.squeeze(1))
            if self.f0_estimator is not None and draws.chance(self.recipe.train.estimated_f0):
                f0 = self.f0_estimator.estimate(mel)
            phase = draws.rand(1, 1)
            noises = [draws.randn(*audio.shape[1:]) for _ in range(2 if self.recipe.train.energy_distance else 1)]
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

    def example(self, clip: Clip) -> tuple[Tensor, Tensor]:
        """A whole recording, audio (1, 1, samples) and mel (1, n_mels, frames), a predicted one where there is one."""
        audio = read_clip(clip, self.recipe.mel)[None].to(self.device)
        if self.mels is None or clip not in self.mels:
            return audio, self.mel(audio.squeeze(1))
        # From the first frame of a "center" mel config that lies inside, whose middle is half a hop into the audio.
        hop, centred = self.recipe.mel.hop_length, self.recipe.mel.padding == "center"
        mel = self.mels[clip][:, int(centred) :].to(self.device)
        audio = audio[..., hop // 2 if centred else 0 :]
        frames = min(mel.shape[1], audio.shape[-1] // hop)
        return audio[..., : frames * hop], mel[None, :, :frames]

    def validate(self, clips: list[Clip], model: nn.Module) -> tuple[dict[str, float], list[Example]]:
        metrics: dict[str, list[float]] = {}
        examples: list[Example] = []
        for clip in clips:
            real, mel = self.example(clip)
            f0 = None
            if self.f0_estimator is not None:
                f0 = self.f0_estimator.estimate(mel)
            elif self.uses_f0:
                labels = f0_on_frames(real[0].cpu(), mel.shape[-1], self.recipe)
                f0 = torch.from_numpy(labels)[None, None].to(self.device)
            fake = model(mel, f0=f0)
            terms = {"mel": self.mel_loss(fake, real)} | self.stft_loss(fake, real)._asdict()
            heard = [Signal(x[0, 0].cpu().numpy(), self.recipe.mel.sample_rate) for x in (real, fake)]
            for name, value in (terms | {"pesq": pesq_wide_band(*heard)}).items():
                if np.isfinite(value := float(value)):  # PESQ is not defined without speech
                    metrics.setdefault(name, []).append(value)
            if len(examples) < 3:
                examples.append(Example(clip.path.stem, fake[0].cpu(), real[0].cpu()))
        return {name: float(np.mean(values)) for name, values in metrics.items()}, examples

    def checkpoint(self, model: nn.Module) -> Checkpoint:
        assert isinstance(model, Generator)
        # A fresh one with the weights as the layers use them; PyTorch's own removal breaks copies that share the class.
        weights = {key: value.cpu() for key, value in model.state_dict().items() if "parametrizations" not in key}
        for name, layer in model.named_modules():
            if is_parametrized(layer):
                weights[f"{name}.weight"] = layer.weight.cpu()
        with torch.device("meta"):  # laid out without drawing initial weights: the random state belongs to the training
            folded = build_generator(generator_name(model), model.config.model_dump(), self.recipe.mel)
        folded.load_state_dict(weights, assign=True)
        return Checkpoint(self.recipe.mel, generator=folded, f0_estimator=self.f0_estimator)


def f0_on_frames(audio: Tensor, frames: int, recipe: Recipe) -> np.ndarray:
    """The label of each mel frame of ``audio`` (1, samples), Hz, 0 = unvoiced."""
    labels = label_f0(audio[0].numpy(), recipe.mel.sample_rate, recipe.data.f0_range)
    return f0_at(labels, frame_times(frames, centered_on_hops(recipe.mel)))
