"""Checkpoints: what is saved comes back, and nothing damaged or foreign is taken for one."""

import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.support import models
from vocoders.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vocoders.errors import CheckpointError, VocoderError
from vocoders.generators import GENERATORS
from vocoders.io.mels import decode_mel, encode_mel


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(models.checkpoint(), path)
    return path


def rewrite(path: Path, header: dict[str, str] | None = None, tensors: dict[str, torch.Tensor] | None = None) -> None:
    with safe_open(path, framework="pt") as file:
        old = dict(file.metadata())
    save_file(tensors or load_file(path), path, old | (header or {}))


@pytest.mark.parametrize("name", models.NAMES)
def test_a_loaded_model_is_the_saved_one(name: str, tmp_path: Path) -> None:
    checkpoint = models.checkpoint(name)
    path = tmp_path / "model.safetensors"
    save_checkpoint(checkpoint, path)
    loaded = load_checkpoint(path)
    assert loaded.mel_config == models.MEL_CONFIG
    assert loaded.training == {"data": "none"}
    assert type(loaded.generator) is GENERATORS[name]
    generator, saved_generator = models.generator_of(loaded), models.generator_of(checkpoint)
    assert generator.config == saved_generator.config
    mel, f0 = models.mel(7), models.f0(7)
    for key, value in saved_generator.state_dict().items():
        assert torch.equal(generator.state_dict()[key], value)
    # To rounding: how the weights lie in memory decides which of its kernels the library takes.
    torch.testing.assert_close(generator(mel, f0=f0), saved_generator(mel, f0=f0), atol=1e-6, rtol=0)
    estimates = [models.f0_estimator_of(made).estimate(mel) for made in (loaded, checkpoint)]
    assert torch.equal(estimates[0], estimates[1])
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_the_header_describes_the_model(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        header = file.metadata()
    assert (header["format"], header["version"]) == ("vocoders", "2")
    assert json.loads(header["generator"])["name"] == "hnmask"
    assert json.loads(header["mel_config"])["hop_length"] == 32


def test_the_window_of_the_mel_is_kept_and_older_files_have_the_periodic_one(tmp_path: Path) -> None:
    mel_config = models.MEL_CONFIG.model_copy(update={"window": "hann-symmetric"})
    path = tmp_path / "model.safetensors"
    save_checkpoint(Checkpoint(mel_config, models.generator("hifigan", mel_config)), path)
    assert load_checkpoint(path).mel_config == mel_config
    mel = np.zeros((mel_config.n_mels, 3), np.float32)
    assert decode_mel(encode_mel(mel, mel_config, "npz"), "x.npz")[1] == mel_config
    old = {key: value for key, value in mel_config.model_dump().items() if key != "window"}
    rewrite(path, {"mel_config": json.dumps(old)})
    assert load_checkpoint(path).mel_config == models.MEL_CONFIG


def test_an_f0_estimator_alone(tmp_path: Path) -> None:
    path = tmp_path / "pitch.safetensors"
    save_checkpoint(Checkpoint(models.MEL_CONFIG, f0_estimator=models.f0_estimator()), path)
    assert load_checkpoint(path).generator is None


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "none.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.3, 0.999])
def test_truncated(saved: Path, share: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(saved)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this package: its header lacks"):
        load_checkpoint(path)
    torch.save({"generator": {}}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this package, or is damaged"):
        load_checkpoint(path)


def test_a_later_version(saved: Path) -> None:
    rewrite(saved, {"version": "3"})
    with pytest.raises(CheckpointError, match="version 3, this release reads version 2"):
        load_checkpoint(saved)


def test_a_header_that_lies_about_shapes(saved: Path) -> None:
    config = models.small("hnmask") | {"backbone_channels": 17}
    rewrite(saved, {"generator": json.dumps({"name": "hnmask", "config": config})})
    with pytest.raises(CheckpointError, match=r"describes generator\.\S+ of shape .*17.*, the file holds"):
        load_checkpoint(saved)


def test_a_header_that_claims_terabytes_takes_no_memory(saved: Path) -> None:
    config = models.small("hnmask") | {"backbone_channels": 2**20}
    rewrite(saved, {"generator": json.dumps({"name": "hnmask", "config": config})})
    with pytest.raises(CheckpointError, match="1048576"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "config",
    [
        {"blocks": 10**9},
        {"n_fft": 2 * 10**9},
        {"n_fft": 65},
        {"kernel_size": [-7, 5]},
        {"kernel_size": [4, 5]},
        {"maps": 10**15},
        {"expansion": 10**30},
        {"projections": 10**9},
        {"channels": None},
        {"blocks": float("inf")},
    ],
)
def test_sizes_beyond_reason_are_refused_at_once(saved: Path, config: dict[str, Any]) -> None:
    rewrite(saved, {"generator": json.dumps({"name": "hnmask", "config": models.small("hnmask") | config})})
    with pytest.raises(CheckpointError, match=r"header of .* describes a model that cannot be built") as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_tensors_that_are_not_floats(saved: Path, dtype: torch.dtype) -> None:
    tensors = load_file(saved)
    rewrite(saved, tensors=tensors | {"generator.trunk_output.bias": torch.zeros(4).to(dtype)})
    with pytest.raises(CheckpointError, match=r"generator\.trunk_output\.bias does not hold finite floats"):
        load_checkpoint(saved)


def test_tensors_that_are_not_finite(saved: Path) -> None:
    rewrite(saved, tensors=load_file(saved) | {"generator.trunk_output.bias": torch.full((4,), torch.nan)})
    with pytest.raises(CheckpointError, match="does not hold finite floats"):
        load_checkpoint(saved)


def test_half_precision_is_loaded(saved: Path) -> None:
    rewrite(saved, tensors={key: value.half() for key, value in load_file(saved).items()})
    assert all(p.dtype == torch.float32 for p in models.generator_of(load_checkpoint(saved)).parameters())


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"generator": "{"}, "header of .* is damaged"),
        ({"generator": json.dumps({"name": "nothing", "config": {}})}, "unknown generator 'nothing'"),
        ({"generator": json.dumps({"name": "hnmask", "config": {"chanels": 3}})}, "did you mean 'channels'"),
        ({"generator": json.dumps({"name": "hnmask"})}, "header of .* is damaged"),
        ({"generator": json.dumps([1])}, "header of .* is damaged"),
        ({"mel_config": json.dumps({"sample_rate": 22050})}, "'n_fft' is missing"),
        ({"mel_config": json.dumps("x")}, "cannot be built"),
        ({"training": "[1]"}, "header of .* is damaged"),
        ({"training": "null"}, "header of .* is damaged"),
        ({"training": "[" * 200_000}, "header of .* is damaged"),
        ({"mel_config": models.MEL_CONFIG.model_dump_json().replace("8000", "9" * 400)}, "header of .* describes"),
        ({"f0_estimator": json.dumps({"bins": -1})}, "'bins' = -1"),
    ],
)
def test_damaged_headers(saved: Path, header: dict[str, str], message: str) -> None:
    rewrite(saved, header)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)


def test_missing_and_superfluous_tensors_are_listed(saved: Path) -> None:
    tensors = load_file(saved)
    gone = {k: v for k, v in tensors.items() if k != "generator.trunk_output.bias"}
    rewrite(saved, tensors=gone)
    with pytest.raises(
        CheckpointError, match=r"lacks tensors that its header describes: generator\.trunk_output\.bias"
    ):
        load_checkpoint(saved)
    rewrite(saved, tensors=tensors | {"generator.extra": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"holds tensors that its header does not describe: generator\.extra"):
        load_checkpoint(saved)


def test_a_failed_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vocoders.checkpoint.save_file", full_disk)
    with pytest.raises(ValueError, match="No space left"):
        save_checkpoint(models.checkpoint(), saved)
    assert saved.read_bytes() == before
    assert len(list(saved.parent.iterdir())) == 1


def test_a_full_disk_while_saving_is_a_sentence(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for size in (0, 10_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
            with pytest.raises(VocoderError, match=r"cannot write .*model\.safetensors: .*File too large"):
                save_checkpoint(models.checkpoint(), tmp_path / "model.safetensors")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
