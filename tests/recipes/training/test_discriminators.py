"""The discriminators of a run: their weights in the losses."""

import pytest
import torch

from losses import discriminator_loss, feature_matching, generator_loss
from recipes.training.discriminators import Discriminators
from recipes.training.schema import Recipe
from tests.support import models
from vocoders import VocoderError


def recipe(adversarial: dict[str, object] | None = None, *names: str) -> Recipe:
    """A recipe of small discriminators."""
    return Recipe.model_validate(
        {
            "name": "x",
            "mel_config": models.MEL_CONFIG.model_dump(),
            "generator": {"name": "vocos"},
            "data": {"dir": "x"},
            "discriminators": {name: models.SMALL_DISCRIMINATORS[name] for name in names},
            "adversarial": adversarial or {},
            "optimizer": {"lr": 1e-3},
            "train": {"steps": 1, "batch_size": 1, "segment_frames": 64},
        }
    )


NAMES = ("multi-period", "multi-resolution")


def test_weights_scale_what_a_discriminator_adds_to_each_loss() -> None:
    made = recipe({"objective": "hinge", "weights": {"multi-resolution": 0.1}}, *NAMES)
    discriminators = Discriminators(made, made.mel_config)
    torch.manual_seed(0)
    real, fake = torch.randn(2, 1, 1, 2048)
    losses, own = discriminators(fake, real)
    expected = [torch.zeros(()), torch.zeros(()), torch.zeros(())]
    for name, weight in (("multi-period", 1.0), ("multi-resolution", 0.1)):
        reals, fakes = discriminators.discriminate(real)[name], discriminators.discriminate(fake)[name]
        expected[0] = expected[0] + weight * generator_loss(fakes, "hinge")
        expected[1] = expected[1] + weight * feature_matching(fakes, reals)
        expected[2] = expected[2] + weight * discriminator_loss(reals, fakes, "hinge")
    torch.testing.assert_close([losses["adversarial"], losses["feature_matching"], own], expected)


def test_a_weight_of_a_discriminator_that_is_not_there_is_refused() -> None:
    made = recipe({"weights": {"multi-scale": 0.1}}, *NAMES)
    with pytest.raises(VocoderError, match=r"weights names multi-scale; the recipe's are: multi-period, multi-res"):
        Discriminators(made, made.mel_config)


def test_channels_are_scored_as_items_of_a_batch() -> None:
    made = recipe(None, *NAMES)
    discriminators = Discriminators(made, made.mel_config)
    audio = torch.randn(2, 2, 2048)
    scores = discriminators.discriminate(audio)["multi-period"][0].scores
    torch.testing.assert_close(scores, discriminators.discriminate(audio.view(4, 1, -1))["multi-period"][0].scores)
