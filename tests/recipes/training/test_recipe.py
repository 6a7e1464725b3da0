"""Recipes: strict binding, bases, overrides; and that those in the repository bind."""

import re
from pathlib import Path

import pytest

from recipes.training.recipe import load_recipe
from recipes.training.run import start_run
from tests.support import ROOT
from vocoders import VocoderError
from vocoders.dsp.mel import MEL_CONFIGS

RECIPES = ROOT / "recipes"

BASE = """
name: test
mel: hifigan-22k
f0_estimator: {}
data: {dir: data, train: a.txt, valid: b.txt}
losses: {f0: 1.0}
optimizer: {lr: 0.001}
train: {steps: 10, batch_size: 2, segment_frames: 8}
"""


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


WHOLE = [path for path in sorted(RECIPES.glob("*/[!d]*.yaml")) if path.parent.name != "base"]


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_recipes_of_the_repository_bind(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name.startswith(path.parent.name)
    assert recipe.losses


def test_names_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    recipe = load_recipe(path, ["train.batch_size=8", "optimizer.betas=[0.8, 0.99]", "mel=tacotron2-22k"])
    assert recipe.mel == MEL_CONFIGS["tacotron2-22k"]
    assert recipe.train.batch_size == 8
    assert recipe.train.steps == 10
    assert recipe.optimizer.betas == (0.8, 0.99)


def test_a_base_is_changed_only_where_said(tmp_path: Path) -> None:
    write(tmp_path, BASE, "base.yaml")
    path = write(tmp_path, "base: base.yaml\nname: other\ntrain: {steps: 99}\n")
    recipe = load_recipe(path)
    assert (recipe.name, recipe.train.steps, recipe.train.batch_size) == ("other", 99, 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.batchsize=8", r"unknown key 'train\.batchsize' \(did you mean 'batch_size'\?\)"),
        ("losss={}", r"unknown key 'losss' \(did you mean 'losses'\?\)"),
        ("train.steps=many", r"'train\.steps' = 'many'"),
        ("train.batch_size=0", r"'train\.batch_size' = 0: Input should be greater than 0"),
        ("losses.f0=-1", r"'losses\.f0' = -1: Input should be greater than or equal to 0"),
        ("losses={f0: .nan}", r"'losses\.f0' = nan: Input should be a finite number"),
        ("adversarial={weights: {multi-period: -1}}", r"weights\.multi-period' = -1: Input should be greater than 0"),
        ("optimizer.weight_decay=-1", r"'optimizer\.weight_decay' = -1: Input should be greater than or equal to 0"),
        ("optimizer.betas=[0.9, 1]", r"'optimizer\.betas\.1' = 1: Input should be less than 1"),
        ("train.seed=18446744073709551616", r"'train\.seed' = \d+: Input should be less than 4294967296"),
        ("train.threads=100000", r"'train\.threads' = 100000: Input should be less than or equal to 1024"),
        ("stft_resolutions=[[512, 0, 512]]", r"stft_resolutions.*need 0 < hop_length <= win_length <= n_fft"),
        ("mel=hifigan", "unknown mel config 'hifigan'"),
        ("generator={name: hnmask}", "exactly one of 'generator' and 'f0_estimator'"),
        ("train", "--set takes KEY=VALUE, got 'train'"),
        ("name.first=x", "'name' holds a value"),
        ("train.steps=[1", r"--set train\.steps=\[1 is not valid YAML"),
        ("data.speed=[0, 1]", r"'data\.speed\.0' = 0"),
        ("data.speed=[2, 1]", "a range starts with its smaller end"),
        ("data.augmentation={noise: 2}", r"'data\.augmentation\.noise' = 2: Input should be less than or equal to 1"),
        ("data.augmentation={blur: [2, 1]}", "a range starts with its smaller end"),
        ("data={dir: x, mels: y, augmentation: {noise: 1}}", "cannot be changed: leave augmentation out"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(VocoderError, match=message) as caught:
        load_recipe(write(tmp_path, BASE), [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("page", ["docs/training.md", "recipes/README.md"])
def test_the_recipe_of_a_page_saved_as_a_file_anywhere(page: str, tmp_path: Path) -> None:
    """It starts: the base files are found, and the discriminators take segments of its length."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    recipe = load_recipe(write(tmp_path, text, "mine.yaml"), ["generator.config.channels=32"])
    assert recipe.name == "mine"
    assert recipe.data.train == "train.txt"
    discriminators = {"multi-period", "multi-scale", "multi-scale-stft", "multi-scale-subband-cqt"}
    assert set(recipe.discriminators) == discriminators
    assert start_run(recipe, tmp_path / "run").step == 0


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match=r"cannot read the recipe .*No such file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(
        VocoderError, match=r"cannot read the recipe .*no\.yaml, a base of .*recipe\.yaml: No such file"
    ):
        load_recipe(write(tmp_path, "base: no.yaml"))
    with pytest.raises(VocoderError, match="is not valid YAML"):
        load_recipe(write(tmp_path, "a: [1"))
    with pytest.raises(VocoderError, match="is not a recipe"):
        load_recipe(write(tmp_path, "- 1"))
    with pytest.raises(VocoderError, match="is its own base"):
        load_recipe(write(tmp_path, "base: recipe.yaml"))
    with pytest.raises(VocoderError, match="'base' must be the path of another recipe"):
        load_recipe(write(tmp_path, "base: [1]"))
    (tmp_path / "recipe.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(VocoderError, match="is not text"):
        load_recipe(tmp_path / "recipe.yaml")
