"""The training step works on a GPU without the processor, and captured it computes the same.

tests/support/device.py says what stands for a GPU.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recipes.training.capture import CapturedStep, Update, make_step
from recipes.training.distributed import DistributedContext, Draws
from recipes.training.generator_task import GeneratorTask
from recipes.training.recipe import load_recipe
from recipes.training.schema import Recipe
from recipes.training.run import start_run
from recipes.training.step import History, Losses, begin_step, end_step, train_step, update_weights
from recipes.training.tasks import Batch, TaskOutput
from tests.support import corpus, models
from tests.support.device import META, nothing_copied
from vocoders import MelConfig, VocoderError
from vocoders.checkpoint import Checkpoint, save_checkpoint
from vocoders.generators import GENERATORS

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
    begin_step(run)
    with nothing_copied():
        losses = update_weights(run, [given], [draws])
    end_step(run)
    return losses


@pytest.mark.parametrize("name", GENERATORS)
def test_a_step_reads_no_value_and_copies_nothing_to_the_device(name: str, tmp_path: Path) -> None:
    """So that a GPU never waits, and a CUDA graph can hold the step."""
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


def repeated(update: Update) -> Update:
    """What stands for a CUDA graph: it repeats the same on the same memory."""
    return update


def test_a_captured_step_computes_the_same_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With F0 estimated in some steps, and discriminators that start late: four courses of a step."""
    monkeypatch.setattr("recipes.training.capture.WARM_UP", 1)
    path = tmp_path / "f0.safetensors"
    mel_config = MelConfig(**corpus.MEL_CONFIG)
    save_checkpoint(Checkpoint(mel_config, f0_estimator=models.f0_estimator(mel_config)), path)
    name = "multi-resolution"
    recipe = small_recipe(
        tmp_path,
        "train.steps=28",
        f"generator.f0_estimator={path}",
        "adversarial.start=14",
        discriminators={name: models.SMALL_DISCRIMINATORS[name]},
    )
    captured: list[Update] = []

    def capture(update: Update) -> Update:
        captured.append(update)
        return repeated(update)

    runs = [start_run(recipe, tmp_path / "run") for _ in range(2)]
    for run in runs:
        run.ema.update_parameters(run.task.model)
    step, histories = CapturedStep(runs[1], capture), [History(), History()]
    for number in range(28):
        given = [batch(24, seed=number)]
        histories[0].add(number, train_step(runs[0], given))
        histories[1].add(number, step(given))
    assert len(captured) == 4
    assert histories[0].read() == histories[1].read()
    for key in runs[0].modules:
        weights, others = (run.modules[key].state_dict() for run in runs)
        assert all(torch.equal(value, others[name]) for name, value in weights.items()), key


def test_what_cannot_be_captured_trains_as_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(update: Update) -> Update:
        raise RuntimeError("operation not permitted when stream is capturing\nand so on")

    recipe = small_recipe(tmp_path)
    runs = [start_run(recipe, tmp_path / "run") for _ in range(3)]
    captured = [CapturedStep(runs[1], fails), CapturedStep(runs[2], repeated)]
    genuine = GeneratorTask.forward

    def draws_others(self: GeneratorTask, given: Batch, draws: Draws) -> TaskOutput:
        output = genuine(self, given, draws)
        if self is runs[2].task:
            draws.randn(3 if runs[2].step < 4 else 4)
        return output

    monkeypatch.setattr(GeneratorTask, "forward", draws_others)
    for number in range(6):
        given = [batch(24, seed=number)]
        train_step(runs[0], given)
        for step in captured:
            step(given)
    for run in runs[1:]:
        for ours, theirs in zip(run.task.model.parameters(), runs[0].task.model.parameters(), strict=True):
            assert torch.equal(ours, theirs)
    notes = capsys.readouterr().err.splitlines()
    note = "note: training without CUDA graphs, because a step "
    assert notes == [
        f"{note}cannot be captured: operation not permitted when stream is capturing",
        f"{note}draws other random numbers than the first one",
    ]


def test_only_a_single_gpu_captures(tmp_path: Path) -> None:
    run = start_run(small_recipe(tmp_path), tmp_path / "run")
    assert not isinstance(make_step(run), CapturedStep)


def test_the_first_step_that_is_not_finite_is_named() -> None:
    history = History()
    for step, value in enumerate([1.0, float("inf"), float("nan")]):
        history.add(step, {"mel": torch.tensor(value), "total": torch.tensor(value)})
    with pytest.raises(VocoderError, match=r"^step 1: the loss is not finite in mel; the last saved state is kept$"):
        history.read()
