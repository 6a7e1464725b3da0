"""The F0 estimator in training: what its mels go through, and the model that it starts from."""

from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.fft import dct

from recipes.training.distributed import Draws
from recipes.training.f0_estimator_task import F0EstimatorTask
from recipes.training.recipe import load_recipe
from recipes.training.schema import Recipe
from tests.support import corpus
from vocoders import VocoderError
from vocoders.checkpoint import save_checkpoint

SMALL = {"channels": 16, "blocks": 1}
LOSSES = {"f0": 1.0, "voicing": 1.0}


def recipe(folder: Path, *overrides: str, **config: Any) -> Recipe:
    path = corpus.recipe(folder, folder, generator=None, f0_estimator=SMALL | config, losses=LOSSES)
    return load_recipe(path, list(overrides))


def draws() -> Draws:
    return Draws(0, 0, 4, slice(0, 4), torch.device("cpu"))


def test_a_share_of_the_mels_is_smoothed(tmp_path: Path) -> None:
    mel = torch.randn(4, 20, 30) - 5
    smooth = "data.augmentation={smooth: %s, coefficients: [0.25, 0.25], blur: [0, 0]}"
    degraded = [F0EstimatorTask(recipe(tmp_path, smooth % share)).degrade(mel, draws()) for share in (0, 0.5, 1)]
    detail = [torch.from_numpy(dct(x.numpy(), axis=1, norm="ortho"))[:, 5:].abs().amax((1, 2)) for x in degraded]
    assert (detail[0] > 0.1).all()
    assert (detail[2] < 1e-4).all()
    for i in range(4):  # each mel is smoothed or left as it is
        assert torch.equal(degraded[1][i], degraded[0 if detail[1][i] > 0.1 else 2][i])


def test_training_starts_from_a_model_with_other_bins(tmp_path: Path) -> None:
    first = F0EstimatorTask(recipe(tmp_path, fmin=55.0, bins=212))
    save_checkpoint(first.checkpoint(first.model), tmp_path / "first.safetensors")
    second = F0EstimatorTask(recipe(tmp_path, fmin=46.25, bins=242, init=str(tmp_path / "first.safetensors")))
    mel = torch.randn(1, 20, 30) - 5
    (old, old_voicing), (new, new_voicing) = first.model(mel), second.model(mel)
    torch.testing.assert_close(new[:, 12:224], old)  # twelve bins begin below 55 Hz
    torch.testing.assert_close(new_voicing, old_voicing)
    assert "init" not in second.model.config.model_dump()


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        ({"channels": 8}, (), "the F0 estimator of .* has another kind or size than the recipe's"),
        ({}, ("mel_config.fmax=7000",), "holds no F0 estimator for the mel config of the recipe"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    tmp_path: Path, config: dict[str, Any], overrides: tuple[str, ...], message: str
) -> None:
    first = F0EstimatorTask(recipe(tmp_path))
    save_checkpoint(first.checkpoint(first.model), tmp_path / "first.safetensors")
    with pytest.raises(VocoderError, match=message):
        F0EstimatorTask(recipe(tmp_path, *overrides, init=str(tmp_path / "first.safetensors"), **config))
