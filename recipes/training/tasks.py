"""The contract of a task: a model in training with its losses and validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from recipes.data.adapting import random_mel_config
from recipes.data.audio import resample_tensor
from recipes.data.clips import Clip
from recipes.data.f0_labels import f0_at, label_f0
from recipes.data.inputs import InputFiles
from recipes.data.segments import frame_times
from recipes.data.smoothing import smooth_share
from recipes.training.distributed import Draws
from recipes.training.schema import Recipe
from vocoders.checkpoint import Checkpoint, load_checkpoint
from vocoders.dsp.adaptation import MelApproximation
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import full_precision
from vocoders.errors import VocoderError
from vocoders.f0_estimator import BaseF0Estimator
from vocoders.pretrained import find_pretrained

Batch = dict[str, Tensor]


class TaskOutput(NamedTuple):
    """Output of a task's forward pass.

    Attributes:
        losses: unweighted losses, float32 scalars.
        audio: generated audio (batch, channels, samples) for the discriminators, if any.
    """

    losses: dict[str, Tensor]
    audio: Tensor | None = None


class Example(NamedTuple):
    """A validation clip for TensorBoard: generated and recorded audio, (1, samples), mixed down to mono."""

    name: str
    fake: Tensor
    real: Tensor


class Validation(NamedTuple):
    """Mean metrics over the validation clips, and some examples."""

    metrics: dict[str, float]
    examples: list[Example]


class Task(nn.Module, ABC):
    """A model in training with its losses, validation and checkpoint.

    Attributes:
        model: the network.
        log_mel: the transform from recordings to mels.
        audio_config: the mel config in terms of the audio: its sample rate, a frame of it as hop.
        channels: channels of the audio.
        inputs: files of further inputs, if the model takes any.
        uses_f0: whether batches need F0 labels.
        selection_metric: validation metric whose lowest value selects the best checkpoint.
    """

    model: nn.Module
    log_mel: LogMelSpectrogram
    audio_config: MelConfig
    channels: int = 1
    inputs: InputFiles | None = None
    uses_f0: bool = True
    selection_metric: str

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.log_mel = LogMelSpectrogram(recipe.analysis_config)
        self.audio_config = recipe.analysis_config

    def prepare(self, segments: Dataset[dict[str, Tensor]]) -> None:
        """Set data statistics in the model before the first step of a new run."""

    def mel(self, batch: Batch) -> Tensor:
        """Return the mels of a batch, (batch, n_mels, frames), predicted or from the recordings."""
        if "mel" in batch:
            return batch["mel"]
        if "context" not in batch:
            return self.analyze(batch["audio"])
        frames, margin = (batch[key].shape[-1] // self.audio_config.hop_length for key in ("audio", "context"))
        margin = (margin - frames) // 2
        return self.log_mel(self.analyzed(batch["context"]))[..., margin : margin + frames]

    def analyze(self, audio: Tensor) -> Tensor:
        """Compute the mel of audio (batch, channels, samples): (batch, n_mels, frames), one frame per whole hop."""
        return self.log_mel(self.analyzed(audio))[..., : audio.shape[-1] // self.audio_config.hop_length]

    def analyzed(self, audio: Tensor) -> Tensor:
        """Mix (batch, channels, samples) down, at the sample rate of the mel config: (batch, samples)."""
        with full_precision(audio):
            return resample_tensor(audio.mean(1), self.audio_config.sample_rate, self.recipe.mel_config.sample_rate)

    def adapt(self, batch: Batch, draws: Draws) -> Tensor:
        """Approximate the mels of a batch by mels of a random mel config, a share of them smoothed."""
        shares, uniform, target = self.recipe.data.augmentation, draws.rand(3), self.recipe.mel_config
        source = random_mel_config(target, draws.uniform(9))
        given = LogMelSpectrogram(source).to(uniform.device)(self.analyzed(batch.get("context", batch["audio"])))
        if shares.smooth:
            given = smooth_share(given, shares, uniform)
        mel = torch.from_numpy(MelApproximation(source, target)(given.numpy(force=True))).to(uniform.device)
        frames = batch["audio"].shape[-1] // self.audio_config.hop_length
        margin = batch["context"].shape[-1] // self.audio_config.hop_length - frames if "context" in batch else 0
        return mel[..., margin // 2 : margin // 2 + frames]

    @abstractmethod
    def forward(self, batch: Batch, draws: Draws) -> TaskOutput:
        """Compute the losses of a batch.

        Args:
            batch: audio (batch, channels, samples), f0 (batch, 1, frames) in Hz, for predicted mels mel (batch, n_mels,
                frames), or context (batch, channels, more samples), the audio with its surroundings, and the values of
                ``inputs``.
            draws: source of all random numbers.
        """

    @abstractmethod
    def validate(self, clips: list[Clip], model: nn.Module) -> Validation:
        """Measure ``model``, the averaged weights, on whole recordings."""

    @abstractmethod
    def checkpoint(self, model: nn.Module) -> Checkpoint:
        """Build the checkpoint of ``model``."""

    def label_frames(self, audio: Tensor, frames: int) -> np.ndarray:
        """Label each frame of ``audio`` (1, samples) with its F0: (frames,), Hz, 0 = unvoiced."""
        labels = label_f0(audio[0].numpy(), self.recipe.mel_config.sample_rate, self.recipe.data.f0_range)
        return f0_at(labels, frame_times(frames, self.recipe.analysis_config))


def load_f0_estimator(model: str, mel_config: MelConfig) -> BaseF0Estimator:
    """Load the F0 estimator of a model for ``mel_config``."""
    source = load_checkpoint(find_pretrained(model)[1])
    if source.f0_estimator is None or source.mel_config != mel_config:
        raise VocoderError(f"{model} holds no F0 estimator for the mel config of the recipe")
    return source.f0_estimator
