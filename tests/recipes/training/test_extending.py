"""A new loss or discriminator is a class and a line in its table: recipes, training and the saved files follow."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from losses import DISCRIMINATORS, LOSSES, Discriminator, DiscriminatorOutput
from losses.spectral.base import RESOLUTIONS, Resolutions
from recipes.training.loop import run_training
from recipes.training.recipe import load_recipe
from tests.support import corpus
from vocoders import VocoderError
from vocoders.config import Config
from vocoders.dsp.mel import MelConfig


class WaveformLoss:
    """Mean absolute and mean squared difference of the samples; no module, and no base class."""

    terms: ClassVar[tuple[str, ...]] = ("absolute", "squared")

    @classmethod
    def for_mel_config(cls, mel_config: MelConfig, stft_resolutions: Resolutions = RESOLUTIONS) -> "WaveformLoss":
        return cls()

    def transform(self, audio: Tensor) -> Tensor:
        return audio

    def distance(self, estimate: Tensor, reference: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor]:
        difference = estimate - reference
        return difference.abs().mean(), difference.square().mean()


class LinearConfig(Config):
    taps: int = Field(16, ge=2)


class LinearDiscriminator(Discriminator):
    """One convolution."""

    config_type = LinearConfig

    def __init__(self, config: LinearConfig, sample_rate: int) -> None:
        super().__init__(config, sample_rate)
        self.conv = nn.Conv1d(1, 1, config.taps)

    def discriminate(self, audio: Tensor) -> list[DiscriminatorOutput]:
        scores = self.conv(audio)
        return [DiscriminatorOutput(scores, [scores.tanh()])]


@pytest.mark.parametrize("energy_distance", [False, True])
def test_a_new_loss_is_a_line(
    energy_distance: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = corpus.recipe(tmp_path, data, losses={"absolute": 1.0, "mel": 1.0})
    overrides = ["train.steps=2", f"train.energy_distance={energy_distance}"]
    with pytest.raises(VocoderError, match="unknown loss 'absolute'; this model can be trained with: mel, full_band"):
        run_training(load_recipe(path, overrides), tmp_path / "run")
    monkeypatch.setitem(LOSSES, "waveform", WaveformLoss)
    run_training(load_recipe(path, overrides), tmp_path / "run")
    logged = corpus.scalars(tmp_path / "run")
    assert len(logged["train/absolute"]) == len(logged["train/squared"]) == 2
    assert {"valid/absolute", "valid/squared", "valid/mel", "valid/log_magnitude"} <= logged.keys()
    assert "valid/full_band_mel" not in logged


def test_a_new_discriminator_is_a_line(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DISCRIMINATORS, "linear", LinearDiscriminator)
    path = corpus.recipe(tmp_path, data, discriminators={"linear": {"taps": 8}})
    run_training(load_recipe(path, ["train.steps=2"]), tmp_path / "run")
    assert min(corpus.scalars(tmp_path / "run")["train/discriminators_gradient_norm"]) > 0
    tuned = load_recipe(path, ["train.steps=1", f"adversarial.init={tmp_path / 'run' / 'discriminators.safetensors'}"])
    run_training(tuned, tmp_path / "tuned")
    assert torch.isfinite(torch.tensor(corpus.scalars(tmp_path / "tuned")["train/discriminator"])).all()
