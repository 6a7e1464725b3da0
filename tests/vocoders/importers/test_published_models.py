"""The table of published models: every row loads by its name from files of the published layout, random weights."""

import json
import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import ROOT
from tests.support.hub import snapshot
from tests.support.layouts import LAYOUTS, OLD, speecht5
from tests.support.published import PARTS, golden
from tests.support.published_models import MODELS
from vocoders import MelConfig, VocoderError, load
from vocoders.cli.vocoders import vocoders as vocoders_command
from vocoders.hub import HUB_MODELS
from vocoders.importers import IMPORTERS
from vocoders.importers.base import build_imported, build_imported_f0_estimator
from vocoders.importers.files import read_config


def rows() -> dict[str, list[str]]:
    """The cells of each row of the table, by the name of its model."""
    lines = (ROOT / "docs" / "models.md").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| model | family |")) + 2
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[start:]]
    return {row[0].split("`")[0]: row[1:] for row in cells[: [len(row) for row in cells].index(1)]}


ROWS = rows()
UNSTATED = {  # sizes of the golden models whose projects have no configuration file
    "gpt-sovits": {
        **{"num_mels": 4, "upsample_initial_channel": 8, "upsample_rates": [6, 2], "upsample_kernel_sizes": [12, 4]},
        **{"resblock": 1, "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 3, 5]] * 2},
    },
    "flow2gan": {
        **{"n_mels": 8, "n_ffts": (48, 24, 12), "channels": (6, 5, 4), "num_layers": (2, 2, 2)},
        **{"time_embed_channels": 8, "hidden_factor": 2, "conv_kernel_sizes": (7, 7, 7)},
        **{"cond_enc_channels": 6, "cond_enc_num_layers": 1},
    },
}


def test_rows_and_models_are_the_same() -> None:
    assert list(ROWS) == list(MODELS)
    assert {name: row[0] for name, row in ROWS.items() if "/" in name} == HUB_MODELS


def test_the_names_that_load_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert vocoders_command(["list", "--hub"]) == 0
    assert dict(line.split() for line in capsys.readouterr().out.splitlines()) == HUB_MODELS


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("BridgeVoC", {}, "^this is BridgeVoC, a Schroedinger bridge which makes audio in several steps"),
        ("mine", {"vocoder": {"name": "PeriodWave"}}, "^this is PeriodWave, a flow"),
        ("mine", {"model": {"class_path": "rfwave.x", "backbone": {}, "head": {}}}, "^this is RFWave"),
        ("ComVo-base", {"sizes": 1}, "^this is ComVo, a network of complex weights"),
    ],
)
def test_a_vocoder_that_is_not_supported_is_named(
    name: str, config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    torch.save({}, folder / "pytorch_model.bin")
    for model in (folder, folder / "pytorch_model.bin"):
        with pytest.raises(VocoderError, match=message):
            load(model)


def test_at_the_hub_too() -> None:
    with pytest.raises(VocoderError, match=r"^this is WaveFM, a flow"):
        load("someone/WaveFM")


@pytest.mark.parametrize(
    "part",
    [part for part, (family, *_) in PARTS.items() if family in LAYOUTS and part != "ltx2-diffusers-extended"],
)
def test_layouts_are_those_of_the_public_code(part: str, tmp_path: Path) -> None:
    arrays = golden(part)
    (tmp_path / "config.yml").write_text(str(arrays["config"]))
    config = read_config(tmp_path / "config.yml") or UNSTATED.get(PARTS[part][0], {})
    layout = speecht5(config, OLD) if part == "audioldm" else LAYOUTS[PARTS[part][0]](config)
    prefix = "generator." if part == "nemo" else ""
    found = {k.removeprefix("weights/"): v.shape for k, v in arrays.items() if k.startswith("weights/")}
    assert {prefix + key: shape for key, shape in layout.items()} == found


@pytest.mark.parametrize("name", MODELS)
def test_a_published_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large ones have an eighth of their channels in the files; their parameters are counted at the full size."""
    model, (family, rate, mel_config, parameters, *_) = MODELS[name], ROWS[name]
    monkeypatch.setenv("VOCODERS_CACHE", str(tmp_path / "converted"))
    monkeypatch.chdir(tmp_path)
    at_hub = "/" in name
    repository = "/".join(name.split("/")[:2])
    model.write(snapshot(tmp_path / "hub", repository, monkeypatch) if at_hub else tmp_path / name)
    try:
        vocoder = load(name, backend="torch")
        (converted,) = (tmp_path / "converted").iterdir()
    finally:
        shutil.rmtree(tmp_path / "hub" if at_hub else tmp_path / name)  # up to 60 MB, of which pytest would keep some
    assert converted.name.rpartition("-")[0] == family == model.family
    shutil.rmtree(tmp_path / "converted")
    assert f"{vocoder.sample_rate / 1000:g} kHz" == rate
    assert vocoder.mel_config == MelConfig.parse(mel_config)
    assert (vocoder.lookahead is None) == ("style_melgan" in name)
    count = full_size(name, vocoder.mel_config, tmp_path)
    assert f"{count / 1e6:.2f} M" == parameters
    if not model.channels:
        networks = [vocoder.generator, *filter(None, [vocoder.f0_estimator])]
        assert sum(p.numel() for network in networks for p in network.parameters()) == count


@pytest.mark.parametrize(
    ("name", "downloaded"),
    [
        ("BSC-LT/vocos-mel-22khz", {"config.yaml", "pytorch_model.bin"}),  # not the training's .ckpt of 673 MB
        ("ResembleAI/chatterbox", {"s3gen.safetensors"}),
        ("cvssp/audioldm-m-full", {"config.json", "model.safetensors"}),
        ("nvidia/bigvgan_base_22khz_80band", {"config.json", "bigvgan_generator.pt"}),
    ],
)
def test_one_form_of_a_model_is_downloaded(
    name: str, downloaded: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    MODELS[name].write(there)

    def download(repository: str, allow_patterns: Sequence[str]) -> str:
        assert repository == name
        for source in (path for path in there.rglob("*") if path.is_file()):
            path = source.relative_to(there)
            if any(fnmatch(path.as_posix(), pattern) for pattern in allow_patterns):
                (here / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, here / path)
        return str(here)

    monkeypatch.setattr("vocoders.hub.cached_folder", lambda repository: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setenv("VOCODERS_CACHE", str(tmp_path / "converted"))
    load(name)
    assert {path.name for path in here.rglob("*") if path.is_file() and path.stat().st_size} == downloaded
    shutil.rmtree(there)
    shutil.rmtree(tmp_path / "converted")


def full_size(name: str, mel_config: MelConfig, folder: Path) -> int:
    """The parameters of a model, imported at its published size from weights without values."""
    model, importer = MODELS[name], IMPORTERS[MODELS[name].family]
    config = model.write_config(folder, full=True)
    with torch.device("meta"):
        content: dict[str, Any] = dict(model.weights(config))
    for key in reversed(model.place):
        content = {key: content}
    imported = importer.read(config if model.config_file else {}, content, mel_config, Path(model.checkpoint))
    networks = [build_imported(imported, None, Path()), build_imported_f0_estimator(imported, Path())]
    return sum(p.numel() for network in networks if network for p in network.parameters())


def test_other_models_of_such_a_family_need_their_mel_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOCODERS_CACHE", str(tmp_path / "converted"))
    for name in ("speechbrain/tts-hifigan-ljspeech", "espnet/fastspeech2_conformer_hifigan"):
        folder = tmp_path / "mine"
        MODELS[name].write(folder)
        with pytest.raises(VocoderError, match=r"^the configuration does not state the mel config of the model; give"):
            load(folder)
        folder.rename(tmp_path / name.split("/")[1])
        assert np.isfinite(load(tmp_path / name.split("/")[1])(np.zeros((80, 2), np.float32))).all()
