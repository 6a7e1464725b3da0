"""vocoders bench, and synthesis in bfloat16."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import models
from vocoders import Vocoder, VocoderError, load
from vocoders.checkpoint import Checkpoint, save_checkpoint
from vocoders.cli.vocode import vocode
from vocoders.cli.vocoders import vocoders
from vocoders.generators import GENERATORS

FACTS = {
    "model",
    "device",
    "threads",
    "precision",
    "seconds",
    "batch",
    "x_real_time",
    "first_audio_ms",
    "lookahead_ms",
    "memory_mib",
    "gmac_per_second_of_audio",
    "gmac_per_second",
    "matrix_gmac_per_second",
    "share_of_matrix_rate",
}


def saved(folder: Path, name: str, **config: object) -> str:
    path = folder / f"{name}.safetensors"
    save_checkpoint(Checkpoint(models.MEL_CONFIG, models.generator(name, **config), models.f0_estimator()), path)
    return str(path)


def test_the_figures_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    given = [saved(tmp_path, "hnmask"), "--seconds", "0.3", "--runs", "1", "--batch", "2"]
    assert vocoders(["bench", *given, "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert set(facts) == FACTS
    assert facts["share_of_matrix_rate"] == pytest.approx(facts["gmac_per_second"] / facts["matrix_gmac_per_second"])
    assert facts["gmac_per_second"] == pytest.approx(facts["gmac_per_second_of_audio"] * facts["x_real_time"])
    assert min(facts[key] for key in ("x_real_time", "first_audio_ms", "lookahead_ms")) > 0
    assert vocoders(["bench", *given]) == 0
    assert "x real time" in capsys.readouterr().out


def test_a_model_that_cannot_stream_has_no_latency(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    model = saved(tmp_path, "wavehax", framewise_norm=False)
    assert vocoders(["bench", model, "--seconds", "0.2", "--runs", "1", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert facts["first_audio_ms"] is None
    assert facts["lookahead_ms"] is None


@pytest.mark.parametrize("given", [["--runs", "0"], ["--seconds", "-1"], ["--threads", "0"], ["nowhere.safetensors"]])
def test_bad_arguments(given: list[str], capsys: pytest.CaptureFixture) -> None:
    assert vocoders(["bench", *given]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", GENERATORS)
def test_bfloat16_is_the_same_audio_but_for_its_rounding(name: str) -> None:
    mel = models.mel(40)
    exact, rounded = (
        Vocoder(models.checkpoint(name), precision=precision)(mel) for precision in ("float32", "bfloat16")
    )
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    assert float((exact - rounded).square().mean() / exact.square().mean()) < 1e-2


def test_precision_of_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    np.save(tmp_path / "mel.npy", models.mel(20)[0].numpy())
    model = saved(tmp_path, "hifigan")
    given = [str(tmp_path / "mel.npy"), "-m", model, "-q", "-o"]
    assert vocode([*given, str(tmp_path / "exact.wav")]) == 0
    assert vocode([*given, str(tmp_path / "rounded.wav"), "--precision", "bfloat16"]) == 0
    assert (tmp_path / "exact.wav").read_bytes() != (tmp_path / "rounded.wav").read_bytes()
    with pytest.raises(VocoderError, match=r"runs in float32; a checkpoint"):
        load("model.onnx", precision="bfloat16")
