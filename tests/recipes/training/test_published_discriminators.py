"""Fine-tuning from the discriminators that HiFi-GAN and BigVGAN publish: equal scores, and what is refused.

data/published_golden_discriminators.npz was made by running the discriminators of jik876/hifi-gan (its channels divided
by 32 and, multi-scale, by 8) and NVIDIA/BigVGAN (discriminator_channel_mult 1 / 32, cqtd_filters 4) in evaluation, with
the weights that ``drawn`` gives: scores, means of the magnitudes of feature maps, and the layout of each state. The
constant-Q transform was replaced by noise, and resampling left out.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recipes.training.discriminators import Discriminators
from recipes.training.schema import Recipe
from tests.support import DATA, models
from vocoders import VocoderError

GOLDEN = np.load(DATA / "published_golden_discriminators.npz")
LAYOUT = json.loads(str(GOLDEN["layout"]))
FIRST = {("hifi-gan", "mpd"): 100, ("hifi-gan", "msd"): 300, ("bigvgan", "mpd"): 500, ("bigvgan", "mrd"): 700}
OURS = {"mpd": "multi-period", "msd": "multi-scale", "mrd": "multi-scale-subband-cqt"}
CQT = {
    **{"channels": 4, "oversampling": 2, "hop_lengths": [512, 256, 256], "fmin": 32.7, "n_octaves": 9},
    **{"max_kernel": None, "partial_kernels": True},
}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "hifi-gan": {
        "multi-period": {"channels": [1, 4, 16, 32, 32]},
        "multi-scale": {"channels": [16, 32, 64, 128]},
    },
    "bigvgan": {"multi-period": {"channels": [1, 4, 16, 32, 32]}, "multi-scale-subband-cqt": CQT},
}


def drawn(shapes: dict[str, list[int]], first: int) -> dict[str, Tensor]:
    """The weights that the public implementation had, by random streams that numpy never changes."""
    weights = {}
    for number, (key, shape) in enumerate(shapes.items(), first):
        value = np.random.RandomState(number).standard_normal(shape)
        if key.endswith("_g"):
            value = 1 + 0.3 * np.abs(value)
        elif key.endswith("bias"):
            value = 0.1 * value
        elif len(shape) == 1:  # the vectors of spectral norm
            value = value / np.linalg.norm(value)
        else:
            value = value * np.sqrt(2 / np.prod(shape[1:]))
        weights[key] = torch.from_numpy(value).float()
    return weights


def content(project: str) -> dict[str, Any]:
    """What the project's training writes."""
    parts = {part: drawn(shapes, FIRST[project, part]) for part, shapes in LAYOUT[project].items()}
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    return {**parts, "optim_g": optimizer, "optim_d": optimizer, "steps": 7, "epoch": 1}


def build(path: Path, settings: dict[str, dict[str, Any]]) -> Discriminators:
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "mel_config": models.MEL_CONFIG.model_copy(update={"sample_rate": 24000}).model_dump(),
            "generator": {"name": "hifigan"},
            "data": {"dir": "x"},
            "discriminators": settings,
            "adversarial": {"init": str(path)},
            "optimizer": {"lr": 1e-3},
            "train": {"steps": 1, "batch_size": 1, "segment_frames": 64},
        }
    )
    return Discriminators(recipe, recipe.mel_config)


@pytest.mark.parametrize("project", LAYOUT)
def test_scores_equal_those_of_the_public_discriminators(project: str, tmp_path: Path) -> None:
    torch.save(content(project), tmp_path / "do_00000007")
    discriminators: Any = build(tmp_path / "do_00000007", SETTINGS[project]).eval().discriminators
    audio = torch.from_numpy(np.random.RandomState(7).standard_normal((2, 1, 2048)).astype(np.float32) * 0.1)
    for part in LAYOUT[project]:
        if part == "mrd":
            for one in discriminators[OURS[part]].discriminators:
                one.cqt.forward = noise(9 * one.cqt.bins_per_octave)
        outputs = discriminators[OURS[part]](audio)
        for i, output in enumerate(outputs):
            scores, maps = (torch.from_numpy(GOLDEN[f"{project}/{part}/{i}/{what}"]) for what in ("scores", "maps"))
            ours = output.scores.detach().reshape(scores.shape)
            assert float((ours - scores).abs().max() / scores.std()) < 1e-4
            means = torch.stack([feature_map.detach().abs().mean() for feature_map in output.feature_maps])
            torch.testing.assert_close(means, maps[: len(means)], rtol=1e-4, atol=0)
        assert f"{project}/{part}/{len(outputs)}/scores" not in GOLDEN.files


def test_another_transform_than_that_of_bigvgan_is_refused(tmp_path: Path) -> None:
    """Its settings do not show in the weights."""
    torch.save(content("bigvgan"), tmp_path / "do_00000007")
    cqt = {"channels": 4, "n_octaves": 9, "partial_kernels": True}
    with pytest.raises(VocoderError, match=r"give it in the recipe the settings \{oversampling: 2, hop_lengths: \["):
        build(tmp_path / "do_00000007", {"multi-scale-subband-cqt": cqt})


def noise(bins: int) -> Any:
    """A transform that returns what the public one was replaced by."""
    values = np.random.RandomState(bins).standard_normal((2, bins, 6, 2)).astype(np.float32)
    return lambda audio: torch.view_as_complex(torch.from_numpy(values))


def test_they_train(tmp_path: Path) -> None:
    """The norms are those of training: gradients reach all weights, and spectral norm goes on from its vectors."""
    torch.save(content("hifi-gan"), tmp_path / "do_00000007")
    discriminators = build(tmp_path / "do_00000007", SETTINGS["hifi-gan"]).train()
    before = {key: value.clone() for key, value in discriminators.state_dict().items() if key.endswith("._u")}
    assert before
    real, fake = 0.1 * torch.randn(2, 2, 1, 2048)
    discriminators(fake, real)[1].backward()
    assert all(parameter.grad is not None for parameter in discriminators.parameters())
    after = discriminators.state_dict()
    assert not any(torch.equal(after[key], value) for key, value in before.items())


def test_what_does_not_fit_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "do_00000007"

    def refused(message: str, settings: dict[str, dict[str, Any]] = SETTINGS["hifi-gan"]) -> None:
        with pytest.raises(VocoderError, match=message) as caught:
            build(path, settings)
        assert "\n" not in str(caught.value)

    refused(r"there is no file .*do_00000007$")
    path.write_bytes(b"nonsense")
    refused("do_00000007")
    torch.save({"generator": {}}, path)
    refused(r"holds no discriminators: adversarial\.init takes discriminators\.safetensors of a run, do_\* of")
    torch.save({"mpd": {"a": 3}}, path)
    refused("holds no discriminators")
    torch.save({"mrd": {"discriminators.0.convs.0.bias": torch.zeros(1)}}, path)
    refused("holds no discriminator that there is here, only BigVGAN's multi-resolution one")
    state = content("hifi-gan")
    torch.save(state, path)
    refused(
        r"holds no weights for the discriminator 'multi-resolution', only for multi-period, multi-scale; name no other",
        {"multi-resolution": {}},
    )
    refused(
        r"'multi-period' in .*convs\.1\.bias has the shape \(4,\) instead of \(8,\)",
        {"multi-period": {"channels": [1, 8, 16, 32, 32]}},
    )
    refused(
        r"does not fit the recipe's, it also holds: discriminators\.4\.conv_post\.bias, .* and 15 more$",
        {"multi-period": {"channels": [1, 4, 16, 32, 32], "periods": [2, 3, 5, 7]}},
    )
    del state["msd"]["discriminators.0.conv_post.weight_u"]
    torch.save(state, path)
    refused(r"it lacks: discriminators\.0\.conv_post\.parametrizations\.weight\.0\._u$")
