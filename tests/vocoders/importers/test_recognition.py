"""Models of other projects by the name of a file, a folder or a repository: their family, conversion and refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import models
from tests.support.hub import snapshot
from tests.support.published import PARTS, golden, write
from vocoders import VocoderError, load
from vocoders.checkpoint import save_checkpoint
from vocoders.cli.vocode import vocode
from vocoders.importers import IMPORTERS
from vocoders.importers.recognition import recognize_folder

PART = "vocos-same"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "converted"
    monkeypatch.setenv("VOCODERS_CACHE", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def published(folder: Path, part: str = PART) -> Path:
    """A model as its project lays it out, in a new folder."""
    folder.mkdir(parents=True)
    importer = IMPORTERS[PARTS[part][0]]
    write(folder, part)
    (folder / "checkpoint.pkl").rename(folder / importer.checkpoints[-1].replace("*", "1"))
    return folder


def in_hub_cache(folder: Path, hub: Path, repository: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the files of a folder where huggingface_hub keeps those of a repository, and forbid it the network."""
    shutil.copytree(folder, snapshot(hub, repository, monkeypatch), dirs_exist_ok=True)


@pytest.mark.parametrize("part", [part for part, (_, _, mel_config) in PARTS.items() if mel_config is None])
def test_a_folder_is_recognized(part: str, tmp_path: Path) -> None:
    folder = published(tmp_path / "model", part)
    assert recognize_folder(folder).importer.name == PARTS[part][0]


def test_folder_file_and_repository_give_the_published_audio(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = published(tmp_path / "model")
    in_hub_cache(folder, tmp_path / "hub", "some/vocos", monkeypatch)
    arrays = golden(PART)
    for name in (str(folder), str(folder / "1.ckpt"), "some/vocos"):
        audio = load(name)(arrays["mel"])
        assert np.abs(audio - arrays["audio"][:, 0]).max() < 1e-4 * arrays["audio"].std(), name
    assert len(list(cache.iterdir())) == 2  # folder and file are one model


def test_a_model_is_converted_once_and_again_when_it_changes(tmp_path: Path, cache: Path) -> None:
    folder = published(tmp_path / "model")
    mel = golden(PART)["mel"]
    first = load(folder)(mel)
    (converted,) = cache.iterdir()
    written = converted.stat().st_mtime_ns
    np.testing.assert_array_equal(load(folder)(mel), first)
    assert [path.stat().st_mtime_ns for path in cache.iterdir()] == [written]
    content = torch.load(folder / "1.ckpt", weights_only=True)
    content["head.out.bias"] += 1
    torch.save(content, folder / "1.ckpt")
    assert not np.array_equal(load(folder)(mel), first)
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("size", [0, 5, 1000, -1])
def test_a_conversion_that_was_cut_off_is_made_again(size: int, tmp_path: Path, cache: Path) -> None:
    folder = published(tmp_path / "model")
    mel = golden(PART)["mel"]
    first = load(folder)(mel)
    (converted,) = cache.iterdir()
    whole = converted.read_bytes()
    converted.unlink()  # another file: the weights just read are mapped from the first
    converted.write_bytes(whole[:size])
    np.testing.assert_array_equal(load(folder)(mel), first)
    assert converted.stat().st_size == len(whole)


def test_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    folder = published(tmp_path / "model")
    monkeypatch.setattr(Path, "home", no_home)
    assert load(folder).sample_rate == 8000  # VOCODERS_CACHE is enough
    monkeypatch.delenv("VOCODERS_CACHE")
    with pytest.raises(
        VocoderError, match=r"no home folder to keep the converted model in; name a folder: export VOCO"
    ):
        load(folder)


def test_vocode_takes_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_hub_cache(published(tmp_path / "model"), tmp_path / "hub", "some/vocos", monkeypatch)
    np.save("mel.npy", golden(PART)["mel"][0])
    assert vocode(["mel.npy", "-m", "some/vocos", "-o", "out.wav", "-q"]) == 0
    assert Path("out.wav").is_file()


def test_a_folder_in_the_folder_is_searched(tmp_path: Path) -> None:
    folder = published(tmp_path / "repository" / "vocoder").parent
    (folder / "config.json").write_text(json.dumps({"model_type": "something else"}))
    assert recognize_folder(folder).checkpoint == folder / "vocoder" / "1.ckpt"


def test_a_checkpoint_of_this_package_comes_first(tmp_path: Path, cache: Path) -> None:
    folder = published(tmp_path / "run")
    save_checkpoint(models.checkpoint(), folder / "model.safetensors")
    assert load(folder).mel_config == models.MEL_CONFIG
    assert not cache.exists()


def test_folders_without_one_model(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(VocoderError, match=r"model holds no model: it is empty$"):
        load(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "weights.bin").write_bytes(b"0")
    with pytest.raises(VocoderError, match=r"holds no model: config.json is of none of the known families, hifi"):
        load(folder)
    with pytest.raises(VocoderError, match=r"weights.bin is not a checkpoint of this package, and no configuration"):
        load(folder / "weights.bin")
    (folder / "config.json").write_text("{")
    with pytest.raises(VocoderError, match=r"config.json is not a readable configuration"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(VocoderError, match=r"holds no model: it holds weights.bin, and no configuration of the known"):
        load(folder)
    shutil.rmtree(folder)
    published(folder)
    shutil.copy(folder / "1.ckpt", folder / "2.ckpt")
    with pytest.raises(VocoderError, match=r"holds several models: 1.ckpt \(vocos\), 2.ckpt \(vocos\); name the file"):
        load(folder)
    load(folder / "2.ckpt")
    for path in folder.glob("*.ckpt"):
        path.unlink()
    with pytest.raises(
        VocoderError, match=r"config.yml describes a model of the family vocos, but beside it is no checkpoint: model"
    ):
        load(folder)


def test_pickles_with_code_stay_refused(tmp_path: Path, cache: Path) -> None:
    folder = published(tmp_path / "model")
    torch.save({"head": Path("code")}, folder / "1.ckpt")
    with pytest.raises(VocoderError, match="holds more than tensors; unpickling it could run code, so it is refused"):
        load(folder)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = published(tmp_path / "model")
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("VOCODERS_CACHE", str(tmp_path / "taken"))
    with pytest.raises(VocoderError, match=r"cannot be kept in .*taken .*; name another folder by VOCODERS_CACHE"):
        load(folder)


def test_a_repository_of_which_the_cache_holds_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = published(tmp_path / "model")
    (folder / "1.ckpt").unlink()
    in_hub_cache(folder, tmp_path / "hub", "some/vocos", monkeypatch)
    with pytest.raises(VocoderError, match=r"but beside it is no checkpoint"):
        load("some/vocos")


def test_a_checkpoint_of_univnet_holds_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """maum-ai/univnet writes it as YAML text beside the weights."""
    monkeypatch.setenv("VOCODERS_CACHE", str(tmp_path / "converted"))
    arrays, folder = golden("univnet"), tmp_path / "univnet"
    folder.mkdir()
    weights = {k.removeprefix("weights/"): torch.from_numpy(v) for k, v in arrays.items() if k.startswith("weights/")}
    torch.save({"model_g": weights, "hp_str": str(arrays["config"]), "githash": "1"}, folder / "univ_c32_0288.pt")
    for model in (folder, folder / "univ_c32_0288.pt"):
        assert load(model).mel_config.hop_length == 24
