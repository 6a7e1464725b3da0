"""A training step never makes a GPU wait for the processor.

tests/support/device.py says what stands for a GPU.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recipes.training.distributed import DistributedContext, Draws
from recipes.training.history import History
from recipes.training.recipe import load_recipe
from recipes.training.run import start_run
from recipes.training.schema import Recipe
from recipes.training.step import Losses, update_weights
from recipes.training.tasks import Batch
from tests.support import corpus, models
from tests.support.device import META, nothing_copied
from vocoders import MelConfig, VocoderError

EVERY_LOSS = "losses={mel: 1, full_band_mel: 1, multi_scale_mel: 1, log_magnitude: 1, spectral_convergence: 1}"


def small_recipe(folder: Path, *settings: str, **changes: Any) -> Recipe:
    return load_recipe(corpus.recipe(folder, folder, **changes), ["train.batch_size=2", *settings])


def batch(frames: int, device: torch.device | str = "cpu", seed: int = 0) -> Batch:
    source = torch.Generator().manual_seed(seed)
    audio = 0.1 * torch.randn(2, 1, frames * 64, generator=source)
    return {"audio": audio.to(device), "f0": torch.full((2, 1, frames), 120.0, device=device)}


class MetaDraws(Draws):
    """Random numbers that are on the device already."""

    def _move(self, drawn: Tensor) -> Tensor:
        return torch.empty(drawn[self.items].shape, device=META)


def take_alone(recipe: Recipe, folder: Path) -> Losses:
    """Take a step on the device "meta", which fails where that needs the processor."""
    run = start_run(recipe, folder, DistributedContext(device=META))
    given, train = batch(recipe.train.segment_frames, META), recipe.train
    draws = MetaDraws(train.seed, 0, train.batch_size, run.microbatches[0], META)
    run.begin_step()
    with nothing_copied():
        losses = update_weights(run, [given], [draws])
    run.advance()
    return losses


@pytest.mark.parametrize("name", models.NAMES)
def test_a_step_reads_no_value_and_copies_nothing_to_the_device(name: str, tmp_path: Path) -> None:
    """So that a GPU never waits."""
    generator = {"name": name, "config": models.small(name, MelConfig(**corpus.MEL_CONFIG))}
    take_alone(small_recipe(tmp_path, "losses={mel: 1}", generator=generator), tmp_path / "run")


def test_nor_does_one_with_all_losses_and_discriminators(tmp_path: Path) -> None:
    settings = [EVERY_LOSS, "train.segment_frames=120", "train.energy_distance=true"]
    recipe = small_recipe(tmp_path, *settings, discriminators=models.SMALL_DISCRIMINATORS)
    losses = take_alone(recipe, tmp_path / "run")
    assert {*recipe.losses, "adversarial", "feature_matching", "discriminators_gradient_norm"} <= losses.keys()


def test_nor_does_that_of_an_f0_estimator(tmp_path: Path) -> None:
    changes = {"generator": None, "f0_estimator": {"channels": 16, "blocks": 1}}
    recipe = small_recipe(tmp_path, **changes, losses={"f0": 1.0, "voicing": 1.0})
    take_alone(recipe, tmp_path / "run")


def test_the_device_meta_shows_what_needs_the_processor() -> None:
    """The laws above can fail."""
    x = torch.ones(3, device=META)
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(x.sum() > 0)
    with pytest.raises((RuntimeError, NotImplementedError)):
        x[x > 0]
    with nothing_copied(), pytest.raises(AssertionError, match="copies to the device"):
        torch.ones(3).to(META)
    with nothing_copied(), pytest.raises(AssertionError, match="copies to the device"):
        torch.tensor([1.0, 2.0], device=META)


def test_the_first_step_that_is_not_finite_is_named() -> None:
    history = History()
    for step, value in enumerate([1.0, float("inf"), float("nan")]):
        history.add(step, {"mel": torch.tensor(value), "total": torch.tensor(value)})
    with pytest.raises(VocoderError, match=r"^step 1: the loss is not finite in mel; the last saved state is kept$"):
        history.read()
