"""The datasets' recipes: what each prepare.py writes and how it refuses, and that every recipe trains."""

import functools
import importlib
import json
from pathlib import Path

import pytest
import torch

from recipes.corpora.libritts import prepare as libritts
from recipes.corpora.ljspeech import prepare as ljspeech
from recipes.data.corpora import evenly, held_out
from recipes.data.downloads import Archive
from recipes.prepare import main
from recipes.training.discriminators import Discriminators
from recipes.training.loop import run_training
from recipes.training.recipe import MODELS, load_recipe
from tests.support import ROOT, models
from tests.support import corpora as recipes_corpora
from tests.support.corpora import CORPORA, OPTIONS, Expected, lists
from vocoders import VocoderError, load

# Every corpus and every generator once.
TRAINED = [
    ("bigvgan", "csmsc"),
    ("hifigan", "jsut"),
    ("istftnet", "jvs"),
    ("hifigan-ms-sb-cqt", "libritts"),
    ("parallel-wavegan", "ljspeech"),
    ("vocos", "m4singer"),
    ("wavehax-48k", "opencpop"),
    ("wavehax", "vctk"),
]


def call(name: str, *arguments: object) -> int:
    """The command of a dataset; returns its exit status."""
    return main([name, *map(str, arguments), *OPTIONS.get(name, [])])


@functools.cache
def prepared(name: str, base: Path) -> tuple[Path, Expected]:
    """A corpus with its lists, made once; not to be changed."""
    folder = base / name
    expected = CORPORA[name](folder)
    assert call(name, folder) == 0
    return folder, expected


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpora")


@pytest.mark.parametrize("name", CORPORA)
def test_the_lists_are_the_split(name: str, base: Path) -> None:
    folder, expected = prepared(name, base)
    written = lists(folder)
    assert written == expected
    assert all((folder / path).is_file() for paths in written.values() for path in paths)
    assert sum(map(len, written.values())) == len(set().union(*written.values()))


@pytest.mark.parametrize("name", CORPORA)
def test_a_second_run_changes_nothing(name: str, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, expected = prepared(name, base)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert call(name, folder) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    output = capsys.readouterr().out.splitlines()
    assert [line.endswith("(as before)") for line in output] == [True] * 3
    assert f"{len(expected['test'])} recordings" in output[2]


@pytest.mark.parametrize("name", CORPORA)
def test_a_missing_dataset_is_reported_in_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert call(name, folder) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert captured.err.startswith(f"recipes.prepare {name}: ")
        for part in (f"is not in {folder}, where", "is expected; ", "get it from http"):
            assert part in captured.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", CORPORA)
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        call(name, "--help")
    assert stopped.value.code == 0
    output = capsys.readouterr().out
    assert f"python -m recipes.prepare {name}" in output
    assert f"data/{name}" in output
    assert "train.txt" in output


def test_the_readme_names_every_corpus() -> None:
    text = (ROOT / "recipes" / "README.md").read_text("utf-8")
    assert [name for name in CORPORA if f"| `{name}` |" not in text] == []


def test_unreadable_recordings_are_listed_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = recipes_corpora.jvs(tmp_path)
    noise, empty = sorted(expected["train"])[:2]
    (tmp_path / noise).write_bytes(b"no sound")
    (tmp_path / empty).write_bytes(b"")
    assert call("jvs", tmp_path) == 1
    output = capsys.readouterr().err
    assert noise in output
    assert empty in output
    assert lists(tmp_path) == expected | {"train": expected["train"] - {noise, empty}}


def test_a_list_without_a_readable_recording_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in recipes_corpora.jvs(tmp_path)["valid"]:
        (tmp_path / path).write_bytes(b"no sound")
    assert call("jvs", tmp_path) == 2
    assert "has nothing for valid.txt" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.txt"))


def test_a_copy_that_is_not_whole_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipes_corpora.ljspeech(tmp_path)
    assert call("ljspeech", tmp_path) == 0
    assert "note: 8 recordings are here, the published dataset has 13100" in capsys.readouterr().err


def test_a_dataset_whose_own_list_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipes_corpora.opencpop(tmp_path)
    (tmp_path / "Opencpop" / "segments" / "test.txt").unlink()
    assert call("opencpop", tmp_path) == 2
    assert "cannot read Opencpop's own list" in capsys.readouterr().err


def test_the_hundred_and_fifty_that_hifi_gan_holds_out() -> None:
    names = ljspeech.held_out_names()
    assert len(set(names)) == 150
    assert names == sorted(names)
    assert {"LJ001-0028", "LJ010-0293", "LJ050-0269", "LJ050-0278"} <= set(names)


def test_libritts_r_and_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = recipes_corpora.libritts(tmp_path, "LibriTTS_R")
    assert libritts.main([str(tmp_path), "--parts", "train-clean-100"]) == 2
    assert "LibriTTS is not in" in capsys.readouterr().err
    parts = ["--parts", "train-clean-100", "train-clean-360"]
    assert libritts.main([str(tmp_path), "--restored", *parts]) == 0
    more = {"LibriTTS_R/train-clean-360/3/4/3_4_000001_000000.wav"}
    assert lists(tmp_path) == expected | {"train": expected["train"] | more}
    assert libritts.main([str(tmp_path), "--restored"]) == 2
    assert "lacks train-other-500" in capsys.readouterr().err


def test_the_second_microphone_of_vctk(tmp_path: Path) -> None:
    from recipes.corpora.vctk.prepare import split

    recipes_corpora.vctk(tmp_path)
    result = split(tmp_path / "VCTK-Corpus-0.92", "mic2")
    assert [path.name for paths in result.values() for path in paths] == ["p225_001_mic2.flac"]


def test_splits_by_order() -> None:
    paths = [Path(str(i)) for i in range(6)]
    assert held_out(paths, 2, 1) == {"train": paths[:3], "valid": paths[3:5], "test": paths[5:]}
    with pytest.raises(VocoderError, match="there are 6 recordings, and 6 would be held out"):
        held_out(paths, 3, 3)
    assert evenly(paths, 3) == [paths[0], paths[2], paths[4]]
    assert evenly(paths, 9) == paths


def test_archives_have_a_checksum_and_a_known_format() -> None:
    archives = [archive for name in CORPORA for archive in _archives(name)]
    assert len(archives) == 1 + 2 * 5 + 1 + 1
    for archive in archives:
        assert archive.checksum is None or len(archive.checksum) in (32, 64)
        assert archive.name.endswith((".zip", ".tar.gz", ".tar.bz2"))


def _archives(name: str) -> tuple[Archive, ...]:
    if name == "libritts":
        chosen = [libritts.corpus(restored, list(libritts.TRAIN)) for restored in (False, True)]
        return chosen[0].archives + chosen[1].archives
    module = importlib.import_module(f"recipes.corpora.{name}.prepare")
    return tuple(module.CORPUS.archives)


def small(model: str, corpus: str) -> list[str]:
    """Overrides that make a recipe quick: two steps of small networks, the second of them adversarial."""
    recipe = load_recipe(model, data=corpus)
    assert recipe.generator is not None
    changes = {
        "generator.config": models.small(recipe.generator.name, recipe.mel_config),
        "discriminators": {name: models.SMALL_DISCRIMINATORS[name] for name in recipe.discriminators},
        "adversarial.start": min(recipe.adversarial.start, 1),
        "data.workers": 0,
        "train.steps": 2,
        "train.batch_size": 1,
        "train.segment_frames": 10,
        "train.log_every": 1,
        "train.threads": 1,
    }
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


@pytest.mark.parametrize(("model", "corpus"), TRAINED)
def test_recipes_train(model: str, corpus: str, base: Path, tmp_path: Path) -> None:
    folder, expected = prepared(corpus, base)
    (folder / "two.txt").write_text("\n".join(sorted(expected["valid"])[:2]), "utf-8")
    recipe = load_recipe(model, [*small(model, corpus), f"data.dir={folder}", "data.valid=two.txt"], corpus)
    voc = load(run_training(recipe, tmp_path / "run"))
    assert voc.training["steps"] == 2
    assert voc.mel_config == recipe.mel_config


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize("model", [name for name in MODELS if name not in ("f0-estimator", "hnmask")])
def test_discriminators_take_segments_of_every_recipe(model: str, corpus: str) -> None:
    with torch.device("meta"):
        made = load_recipe(model, data=corpus)
        Discriminators(made, made.mel_config)
