"""Recipes: a model and its recordings composed, strict binding, bases, overrides."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recipes.train import main
from recipes.training.recipe import MODELS, load_recipe
from recipes.training.run import start_run
from tests.support import ROOT
from vocoders import VocoderError
from vocoders.dsp.mel import MEL_CONFIGS

BASE = """
name: test
mel_config: hifigan-22k
f0_estimator: {}
data: {dir: data, train: a.txt, valid: b.txt}
losses: {f0: 1.0}
optimizer: {lr: 0.001}
train: {steps: 10, batch_size: 2, segment_frames: 8}
"""


def write(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_names_and_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    recipe = load_recipe(path, ["train.batch_size=8", "optimizer.betas=[0.8, 0.99]", "mel_config=tacotron2-22k"])
    assert recipe.mel_config == MEL_CONFIGS["tacotron2-22k"]
    assert recipe.train.batch_size == 8
    assert recipe.train.steps == 10
    assert recipe.optimizer.betas == (0.8, 0.99)


def test_a_base_is_changed_only_where_said(tmp_path: Path) -> None:
    write(tmp_path, BASE, "base.yaml")
    path = write(tmp_path, "base: base.yaml\nname: other\ntrain: {steps: 99}\n")
    recipe = load_recipe(path)
    assert (recipe.name, recipe.train.steps, recipe.train.batch_size) == ("other", 99, 2)


def sounds(folder: Path, *rates: int) -> Path:
    folder.mkdir()
    for number, rate in enumerate(rates):
        soundfile.write(folder / f"{number}.wav", np.zeros(rate // 10), rate)
    return folder


@pytest.mark.parametrize(
    ("rates", "model", "expected"),
    [
        ((22050, 48000, 22050), "hifigan", "hifigan-22k"),
        ((24000,), "vocos", "vocos-24k"),
        ((44100,), "vocos", "bigvgan-44k"),
        ((44100,), "wavehax", "wavehax-24k"),
        ((16000,), "parallel-wavegan", "pwg-ljspeech-22k"),
    ],
)
def test_a_folder_of_sound_files(rates: tuple[int, ...], model: str, expected: str, tmp_path: Path) -> None:
    """It gets the mel config of the highest rate that most recordings have."""
    recipe = load_recipe(model, data=str(sounds(tmp_path / "wavs", *rates)))
    assert recipe.mel_config == MEL_CONFIGS[expected]
    assert recipe.name == f"wavs-{model}"
    assert (recipe.data.dir, recipe.data.train, recipe.data.valid) == (str(tmp_path / "wavs"), None, None)


def test_the_lists_of_a_folder_are_used_where_it_has_both(tmp_path: Path) -> None:
    folder = sounds(tmp_path / "wavs", 22050)
    (folder / "train.txt").touch()
    with pytest.raises(VocoderError, match=r"wavs has only one of train\.txt and valid\.txt; write the other one"):
        load_recipe("hifigan", data=str(folder))
    (folder / "valid.txt").touch()
    recipe = load_recipe("hifigan", data=str(folder))
    assert (recipe.data.train, recipe.data.valid) == ("train.txt", "valid.txt")


def test_a_mel_config_of_ones_own() -> None:
    recipe = load_recipe("hifigan", data="ljspeech", mel_config="bigvgan-44k")
    assert recipe.mel_config == MEL_CONFIGS["bigvgan-44k"]
    assert recipe.generator is not None
    assert recipe.generator.config["upsample_rates"] == [8, 8, 2, 2, 2]


def test_an_unprepared_corpus_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["vocos", "ljspeech", "--set", "data.dir=elsewhere"]) == 2
    message = "the corpus ljspeech has no train.txt in {0}; this writes it: python -m recipes.prepare ljspeech {0}"
    assert message.format("elsewhere") in capsys.readouterr().err
    assert main(["vocos", "ljspeech", "--print"]) == 0
    printed = write(tmp_path, capsys.readouterr().out, "printed.yaml")
    assert main([str(printed)]) == 2
    assert message.format("data/ljspeech") in capsys.readouterr().err


@pytest.mark.parametrize("model", MODELS)
def test_a_printed_recipe_is_the_recipe(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([model, "opencpop", "--set", "train.steps=7", "--print"]) == 0
    printed = write(tmp_path, capsys.readouterr().out, "printed.yaml")
    assert load_recipe(printed) == load_recipe(model, ["train.steps=7"], "opencpop")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hifi", "ljspeech"], "there is no model 'hifi'; known: bigvgan, "),
        (["hifigan", "lj"], "'lj' is neither a corpus (csmsc, "),
        (["hifigan"], "hifigan.yaml names no recordings; add a corpus (csmsc, "),
        (["hifigan", "ljspeech", "--mel-config", "x"], "unknown mel config 'x'"),
        (["hifigan", "."], ". holds no recordings; known endings: "),
        (
            ["hifigan", "ljspeech", "--set", "losses.mell=1"],
            "unknown loss 'mell'; this model can be trained with: mel, ",
        ),
        (["hifigan", "ljspeech", "--set", "generator.name=x"], "unknown generator 'x'; known: "),
    ],
)
def test_what_cannot_be_composed(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--print"]) == 2
    output = capsys.readouterr()
    assert output.err.startswith(f"recipes.train: {message}")
    assert (output.out, output.err.count("\n")) == ("", 1)


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
        ("mel_config=hifigan", "unknown mel config 'hifigan'"),
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


@pytest.mark.parametrize("page", ["docs/training.md"])
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
        VocoderError, match=r"cannot read the recipe .*no\.yaml, the base of .*recipe\.yaml: No such file"
    ):
        load_recipe(write(tmp_path, "base: no.yaml"))
    with pytest.raises(VocoderError, match="is not valid YAML"):
        load_recipe(write(tmp_path, "a: [1"))
    with pytest.raises(VocoderError, match="is not a recipe"):
        load_recipe(write(tmp_path, "- 1"))
    with pytest.raises(VocoderError, match="is its own base"):
        load_recipe(write(tmp_path, "base: recipe.yaml"))
    with pytest.raises(VocoderError, match="'base' must be a model"):
        load_recipe(write(tmp_path, "base: [1]"))
    (tmp_path / "recipe.yaml").write_bytes(bytes(range(256)))
    with pytest.raises(VocoderError, match="is not text"):
        load_recipe(tmp_path / "recipe.yaml")
