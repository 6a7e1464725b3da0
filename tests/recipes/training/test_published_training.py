"""Five steps of training equal those of the public training code: losses, and norms of gradients and weights.

data/published_training.json was made outside this repository, in float64, by the networks and losses of the public code
in training steps written again after jik876/hifi-gan (train.py), gemelo-ai/vocos (experiment.py), chomeyama/wavehax and
kan-bayashi/ParallelWaveGAN (bin/train.py), on the generators of data/published_golden*.npz, with each norm of weight
norm set to that of its weight, on discriminators filled by ``fill``, and on the inputs of ``inputs``. What the headers
of recipes/models name was taken off: both sides are updated after one pass over the discriminators, the vectors of
spectral norm stay, Vocos's multi-resolution discriminator is Wavehax's and its hinge has no bound, Parallel WaveGAN's
context frames are repeated ones. Channels of the multi-period discriminators are divided by 32, of the multi-scale one
by 8.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recipes.training.distributed import Draws
from recipes.training.recipe import load_recipe
from recipes.training.run import start_run
from recipes.training.step import train_step
from tests.support import DATA, golden, published
from vocoders.checkpoint import save_checkpoint
from vocoders.importers import import_checkpoint

GOLDEN: dict[str, list[dict[str, float]]] = json.loads((DATA / "published_training.json").read_text())
FRAMES, STEPS = 40, 5
PERIODS = {"channels": [1, 4, 16, 32, 32]}
RESOLUTIONS = {"n_ffts": [64, 128, 32]}
PROJECTS: dict[str, tuple[str, dict[str, Any]]] = {  # recipe: part of the golden file, and what is smaller here
    "hifigan": (
        "hifi-gan-1",
        {"discriminators": {"multi-period": PERIODS, "multi-scale": {"channels": [16, 32, 64, 128]}}},
    ),
    "vocos": (
        "vocos-same",
        {
            "discriminators": {"multi-period": PERIODS, "multi-resolution": RESOLUTIONS},
            "full_band_mel": {"mel_scale": "htk", "mel_norm": "none", "floor": 1e-7},
        },
    ),
    "wavehax": (
        "wavehax-0",
        {
            "discriminators": {"multi-period": PERIODS, "multi-resolution": RESOLUTIONS},
            "full_band_mel": {"hop_length": 32, "padding": "same-zeros", "epsilon": 0},
        },
    ),
    "parallel-wavegan": (
        "parallel-wavegan-3",
        {"adversarial": {"start": 0}, "discriminators": {"parallel-wavegan": {"layers": 4, "channels": 8}}},
    ),
}


def fill(discriminators: nn.Module) -> None:
    """Fill all convolutions in their order; spectral norm gets the vectors of the largest singular value."""
    convs = [layer for layer in discriminators.modules() if isinstance(layer, (nn.Conv1d, nn.Conv2d))]
    for number, conv in enumerate(convs):
        weight, bias = golden.filling(number, conv.weight.shape)
        with torch.no_grad():
            conv.weight = weight
            assert conv.bias is not None
            conv.bias.copy_(bias)
        (norm,) = conv.parametrizations["weight"]  # type: ignore[index]
        if hasattr(norm, "_u"):
            left, right = singular_vectors(weight)
            norm._u.copy_(left)
            norm._v.copy_(right)


def singular_vectors(weight: Tensor) -> tuple[Tensor, Tensor]:
    left, _, right = np.linalg.svd(weight.double().flatten(1).numpy())
    return torch.from_numpy(left[:, 0]).float(), torch.from_numpy(right[0]).float()


def inputs(part: str, hop: int, step: int) -> dict[str, Tensor]:
    """Recordings (2, 1, samples), mels (2, n_mels, frames), F0 (2, 1, frames) and noise like the recordings."""
    draw = np.random.RandomState(step)
    mel = published.golden(part)["mel"]
    values = {
        "audio": 0.1 * draw.standard_normal((2, 1, FRAMES * hop)),
        "mel": mel.mean() + mel.std() * draw.standard_normal((2, mel.shape[1], FRAMES)),
        "f0": np.where(np.arange(FRAMES) % 10 < 7, draw.uniform(80, 200, (2, 1, FRAMES)), 0),
        "noise": draw.standard_normal((2, 1, FRAMES * hop)),
    }
    return {name: torch.from_numpy(value.astype(np.float32)) for name, value in values.items()}


@pytest.mark.parametrize("project", PROJECTS)
def test_five_steps(project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, smaller = PROJECTS[project]
    checkpoint = import_checkpoint(**published.write(tmp_path, part))
    save_checkpoint(checkpoint, tmp_path / "model.safetensors")
    generator = checkpoint.generator
    assert generator is not None
    recipe: dict[str, Any] = {
        "base": project,
        **{"name": project, "mel_config": checkpoint.mel_config.model_dump(), "data": {"dir": str(tmp_path)}},
        "train": {"batch_size": 2, "segment_frames": FRAMES, "estimated_f0": 0},
        **smaller,
    }
    if project == "hifigan":
        recipe["optimizer"] = {"decay_every": 1000}  # not an epoch: there are no recordings
    recipe["generator"] = {"init": str(tmp_path / "model.safetensors")}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    run = start_run(load_recipe(tmp_path / "recipe.yaml"), tmp_path / "run")
    assert run.discriminators is not None
    fill(run.discriminators.discriminators)
    run.discriminators.eval()  # which keeps the vectors of spectral norm
    for step, expected in enumerate(GOLDEN[project]):
        batch = inputs(part, checkpoint.mel_config.hop_length, step)
        noise = batch.pop("noise")
        monkeypatch.setattr(Draws, "randn", lambda self, *shape, noise=noise: noise)
        monkeypatch.setattr(Draws, "rand", lambda self, *shape: torch.zeros(2, *shape))
        losses = {name: float(value) for name, value in train_step(run, [batch]).items()}
        losses["model_weights"] = sum(float(w.detach().double().square().sum()) for w in run.task.model.parameters())
        losses["discriminator_weights"] = sum(
            float(w.detach().double().square().sum()) for w in run.discriminators.parameters()
        )
        for name, value in expected.items():
            assert losses[name] == pytest.approx(value, rel=1e-3, abs=5e-4), f"{name} of step {step}"
    assert len(GOLDEN[project]) == STEPS
