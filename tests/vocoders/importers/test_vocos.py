"""The importer of Vocos: configurations, files, and what it refuses. Its parity stands in test_parity.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.support import models
from tests.support.published import golden, refused, write
from vocoders import VocoderError
from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.generators import build_generator
from vocoders.importers import import_checkpoint
from vocoders.importers.vocos import VOCOS

# As in gemelo-ai/vocos configs/vocos.yaml, and BSC-LT's for the mels of HiFi-GAN
FEATURES = {"sample_rate": 24000, "n_fft": 1024, "hop_length": 256, "n_mels": 100, "padding": "center"}
MATCHED = {
    **{"sample_rate": 22050, "n_fft": 1024, "hop_length": 256, "n_mels": 80, "padding": "same"},
    **{"f_min": 0, "f_max": 8000, "norm": "slaney", "mel_scale": "slaney"},
}


def configuration(features: dict[str, Any], head: str = "ISTFTHead") -> dict[str, Any]:
    sizes = {"dim": 512, "n_fft": 1024, "hop_length": 256, "padding": features["padding"]}
    backbone = {"input_channels": features["n_mels"], "dim": 512, "intermediate_dim": 1536, "num_layers": 8}
    return {
        "feature_extractor": {
            "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
            "init_args": features,
        },
        "backbone": {"class_path": "vocos.models.VocosBackbone", "init_args": backbone},
        "head": {"class_path": f"vocos.heads.{head}", "init_args": sizes},
    }


@pytest.mark.parametrize(
    ("features", "mel_config"),
    [
        (FEATURES, MEL_CONFIGS["vocos-24k"]),
        (FEATURES | {"clip_val": "1e-5"}, MelConfig.parse("vocos-24k:floor=1e-5")),  # YAML reads 1e-5 as a string
        (MATCHED, MelConfig.parse("hifigan-22k:epsilon=0")),
        (MATCHED | {"clip_val": 1e-7, "f_max": None}, MelConfig.parse("hifigan-22k:epsilon=0,floor=1e-7,fmax=11025")),
    ],
)
def test_the_mel_config_is_that_of_the_configuration(features: dict[str, Any], mel_config: MelConfig) -> None:
    imported = VOCOS.read(configuration(features), {}, None, Path("x"))
    assert imported.mel_config == mel_config
    with torch.device("meta"):
        model = build_generator(imported.generator, imported.config, imported.mel_config)
    assert model.config == type(model).configs["v1"]
    wavenext = VOCOS.read(configuration(features, "WaveNextHead"), {}, None, Path("x"))
    assert wavenext.config == imported.config | {"head": "wavenext"}


def test_where_the_defaults_of_forks_differ_the_mel_config_must_be_given() -> None:
    config = configuration({key: value for key, value in MATCHED.items() if key != "norm"})
    with pytest.raises(VocoderError, match=r"does not state the mel config .*; give --mel-config"):
        VOCOS.read(config, {}, None, Path("x"))
    stated = MelConfig.parse("hifigan-22k:epsilon=0")
    assert VOCOS.read(config, {}, stated, Path("x")).mel_config == stated


def test_the_other_files_with_the_same_weights(tmp_path: Path) -> None:
    """safetensors, and the checkpoint and YAML of a training."""
    arguments = write(tmp_path, "vocos-same")
    expected = models.generator_of(import_checkpoint(**arguments)).state_dict()
    weights = torch.load(tmp_path / "checkpoint.pkl")
    save_file(weights, tmp_path / "model.safetensors")
    extra = {"multiperioddisc.weight": torch.zeros(1), "melspec_loss.window": torch.zeros(1)}
    torch.save({"state_dict": weights | extra, "epoch": 3}, tmp_path / "last.ckpt")
    config = json.loads((tmp_path / "config.yml").read_text())
    training = {"seed_everything": 1, "model": {"class_path": "vocos.experiment.VocosExp", "init_args": config}}
    (tmp_path / "training.yaml").write_text(json.dumps(training))
    for name, yaml in (("model.safetensors", "config.yml"), ("last.ckpt", "training.yaml")):
        result = models.generator_of(import_checkpoint("vocos", tmp_path / name, tmp_path / yaml)).state_dict()
        assert result.keys() == expected.keys()
        assert all(torch.equal(result[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("feature_extractor", "EncodecFeatures", "the feature_extractor EncodecFeatures is not supported, only MelSp"),
        ("backbone", "VocosResNetBackbone", "the backbone VocosResNetBackbone is not supported, only VocosBackbone"),
        ("head", "IMDCTSymExpHead", "the head IMDCTSymExpHead is not supported, only ISTFTHead and WaveNextHead"),
        ("backbone", {"adanorm_num_embeddings": 4}, "adanorm_num_embeddings is not supported: it takes a bandwidth"),
        ("backbone", {"intermediate_dim": 50}, "intermediate_dim must be a multiple of dim 16, got 50"),
        ("backbone", {"dim": 0}, "intermediate_dim must be a multiple of dim 0, got 48"),
        ("backbone", {"num_layers": 3}, r"it lacks: blocks\.2\.dwconv\.bias, "),
        ("backbone", {"num_layers": 1}, r"it also holds: blocks\.1\.dwconv\.bias, "),
        ("backbone", {"intermediate_dim": None}, "is not what vocos writes"),
        ("head", {"hop_length": 32}, "the hop_length of the mel is 24, that of the head 32"),
        ("head", {"n_fft": 128}, r"head\.out\.weight has the shape \(98, 16\) instead of \(130, 16\)"),
        ("feature_extractor", {"n_mels": 12}, r"embed\.weight has the shape \(16, 10, 7\) instead of \(16, 12, 7\)"),
        ("feature_extractor", {"padding": "none"}, "the mel config in the configuration: 'padding' = 'none'"),
        ("feature_extractor", {"power": 2}, "the configuration has feature_extractor.init_args.power, which"),
    ],
)
def test_models_that_are_refused(part: str, changes: Any, message: str, tmp_path: Path) -> None:
    arguments = write(tmp_path, "vocos-same")
    config = json.loads(str(golden("vocos-same")["config"]))
    if isinstance(changes, str):
        config[part]["class_path"] = f"vocos.somewhere.{changes}"
    else:
        config[part]["init_args"] |= changes
    (tmp_path / "config.yml").write_text(json.dumps(config))
    refused(message, **arguments)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    refused(r"it lacks: embed_norm\.bias$", **write(tmp_path, "vocos-same", drop="backbone.norm.bias"))
    refused(r"it also holds: head\.surprise$", **write(tmp_path, "vocos-same", extra="head.surprise"))
    arguments = write(tmp_path, "vocos-same")
    refused("contradicts --mel-config vocos-24k: ", **arguments | {"mel_config": "vocos-24k"})
    config = json.loads((tmp_path / "config.yml").read_text())
    (tmp_path / "config.yml").write_text(json.dumps({k: v for k, v in config.items() if k != "head"}))
    refused("lacks 'head', which vocos has", **arguments)
    (tmp_path / "config.yml").write_text(json.dumps(config | {"head": 3}))
    refused("'head' of the configuration must hold keys and values, it is 3", **arguments)
    (tmp_path / "config.yml").write_text(json.dumps(config))
    torch.save([1, 2], tmp_path / "checkpoint.pkl")
    refused(r"checkpoint\.pkl holds no weights by name, but a list", **arguments)
    (tmp_path / "config.yml").unlink()
    refused(r"there is no config\.json, config\.yml or config\.yaml beside", **arguments)
