"""The importer of Amphion: its folders and files, and what it refuses. Its parity stands in test_parity.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support import models
from tests.support.published import golden, refused, write
from vocoders import VocoderError
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.importers import import_checkpoint
from vocoders.importers.amphion import AMPHION
from vocoders.importers.files import read_config

CONFIG: dict[str, Any] = json.loads(str(golden("amphion")["config"]))


def test_the_mel_config_of_its_recipes() -> None:
    """config/vocoder.json; egs/vocoder/gan/hifigan has no other."""
    mel = {
        "n_mel": 100,
        "win_size": 1024,
        "hop_size": 256,
        "sample_rate": 24000,
        "n_fft": 1024,
        "fmin": 0,
        "fmax": 12000,
    }
    imported = AMPHION.read(CONFIG | {"preprocess": mel}, {}, None, Path("x"))
    assert imported.mel_config == MEL_CONFIGS["bigvgan-24k"]


def test_the_folder_of_a_training(tmp_path: Path) -> None:
    """args.json two folders above the weights, which accelerate writes alone; of several GPUs with a prefix."""
    expected = models.generator_of(import_checkpoint(**write(tmp_path, "amphion"))).state_dict()
    weights = torch.load(tmp_path / "checkpoint.pkl")["generator_state_dict"]
    folder = tmp_path / "checkpoint" / "epoch-0000_step-0000001_loss-1.0"
    folder.mkdir(parents=True)
    torch.save({f"module.{key}": value for key, value in weights.items()}, folder / "pytorch_model.bin")
    save_file(weights, folder / "model.safetensors")
    for name in ("pytorch_model.bin", "model.safetensors"):
        result = models.generator_of(import_checkpoint("amphion", folder / name)).state_dict()
        assert all(torch.equal(result[key], value) for key, value in expected.items())
    (tmp_path / "args.json").unlink()
    with pytest.raises(VocoderError, match=r"there is no args\.json, .* beside .*; give --config"):
        import_checkpoint("amphion", folder / "model.safetensors")


def test_vocos_of_vevo(tmp_path: Path) -> None:
    """The network of gemelo-ai/vocos on mels of mean 0 and deviation 1, its configuration beside or above its file."""
    arrays = golden("vocos-same")
    features, backbone, head = (
        json.loads(str(arrays["config"]))[name]["init_args"] for name in ("feature_extractor", "backbone", "head")
    )
    preprocess = {
        **{"sample_rate": features["sample_rate"], "n_fft": head["n_fft"], "win_size": head["n_fft"]},
        **{"hop_size": head["hop_length"], "num_mels": features["n_mels"], "fmin": 0, "fmax": 1000},
        **{"mel_mean": -4.92, "mel_var": 8.14, "max_length": 36000, "load_phone": False},
    }
    model = {"vocos": backbone | {"n_fft": head["n_fft"], "hop_size": head["hop_length"], "padding": "same"}}
    (tmp_path / "Vocoder.json").write_text(json.dumps({"preprocess": preprocess, "model": model}))
    weights = {
        key.removeprefix("weights/"): torch.from_numpy(value)
        for key, value in arrays.items()
        if key.startswith(("weights/backbone", "weights/head"))
    }
    (tmp_path / "acoustic").mkdir()
    save_file(weights, tmp_path / "acoustic" / "model.safetensors")
    generator = models.generator_of(import_checkpoint("amphion", tmp_path / "acoustic" / "model.safetensors"))
    mel = torch.from_numpy(arrays["mel"]) * 8.14**0.5 - 4.92
    torch.testing.assert_close(generator(mel), torch.from_numpy(arrays["audio"]), atol=1e-5, rtol=0)


def test_json_with_a_comma_after_the_last_value(tmp_path: Path) -> None:
    """As json5 writes it; strings are left alone."""
    (tmp_path / "args.json").write_text('{"a": [1, 2,\n], "b": "x,]",  "c": "y\\",}", \n}')
    assert read_config(tmp_path / "args.json") == {"a": [1, 2], "b": "x,]", "c": 'y",}'}
    (tmp_path / "args.json").write_text('{"a": [1,,]}')
    with pytest.raises(VocoderError, match="is not a readable configuration"):
        read_config(tmp_path / "args.json")


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("model", {"generator": "bigvgan"}, "the generator bigvgan of Amphion is not supported, only hifigan"),
        ("preprocess", {"mel_extract_mode": "taco"}, "mels with mel_extract_mode taco are not supported"),
        ("preprocess", {"hop_size": 16}, r"4 x 2 = 8 must equal the hop_length of the mel, 16"),
    ],
)
def test_what_is_refused(part: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    arguments = write(tmp_path, "amphion")
    (tmp_path / "args.json").write_text(json.dumps(CONFIG | {part: CONFIG[part] | changes}))
    refused(message, **arguments)
