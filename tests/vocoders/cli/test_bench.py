"""``vocoders bench``, and synthesis in bfloat16."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import models
from tests.support.exported import Exported
from vocoders import Vocoder, VocoderError, load
from vocoders.checkpoint import Checkpoint, save_checkpoint
from vocoders.cli.bench import PUSH_FRAMES, peak_memory
from vocoders.cli.vocode import vocode
from vocoders.cli.vocoders import vocoders

FACTS = {
    "model",
    "device",
    "backend",
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


def saved(folder: Path, name: str, **config: Any) -> str:
    path = folder / f"{name}.safetensors"
    save_checkpoint(Checkpoint(models.MEL_CONFIG, models.generator(name, **config), models.f0_estimator()), path)
    return str(path)


def bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert vocoders(["bench", *arguments, "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    return facts


def test_the_figures_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved(tmp_path, "hnmask")
    begin = time.perf_counter()
    facts = bench(capsys, model, "--seconds", "0.3", "--runs", "3", "--batch", "2")
    elapsed = time.perf_counter() - begin
    assert set(facts) == FACTS
    assert (facts["model"], facts["batch"], facts["precision"]) == (model, 2, "float32")
    assert 2 * 0.3 / facts["x_real_time"] < elapsed / 2  # the median of three and the first are at least two of them
    frame = 1000 * 32 / 8000  # ms
    pushed = facts["lookahead_ms"] / frame
    lookahead = load(model).lookahead
    assert lookahead is not None
    assert pushed % PUSH_FRAMES == 0
    assert lookahead < pushed <= lookahead + PUSH_FRAMES  # audio comes with the first push that goes beyond it
    assert 0 < facts["first_audio_ms"] < 1000 * elapsed
    assert facts["memory_mib"] > 50
    assert vocoders(["bench", model, "--seconds", "0.1", "--runs", "1"]) == 0
    assert "x real time" in capsys.readouterr().out


def test_the_work_of_hifigan_counted_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = models.small("hifigan")
    channels = config["channels"]
    positions = 8000 / 32  # a second, at the frame rate
    macs = positions * 20 * channels * 7  # conv_pre
    for rate, kernel in zip(config["upsample_rates"], config["upsample_kernel_sizes"], strict=True):
        macs += positions * channels * channels // 2 * kernel
        positions, channels = positions * rate, channels // 2
        for size, dilations in zip(config["resblock_kernel_sizes"], config["resblock_dilations"], strict=True):
            macs += positions * channels**2 * size * len(dilations) * (2 if config["resblock"] == 1 else 1)
    macs += positions * channels * 7  # conv_post
    facts = bench(capsys, saved(tmp_path, "hifigan"), "--seconds", "0.1", "--runs", "1")
    assert facts["gmac_per_second_of_audio"] == pytest.approx(macs / 1e9, rel=1e-6)


def test_an_exported_model(tmp_path: Path, capsys: pytest.CaptureFixture[str], exported: Exported) -> None:
    facts = bench(capsys, exported("hnmask").name, "--seconds", "0.2", "--runs", "1")
    checkpoint = bench(capsys, saved(tmp_path, "hnmask"), "--seconds", "0.2", "--runs", "1")
    for key in ("gmac_per_second_of_audio", "lookahead_ms"):
        assert facts[key] == checkpoint[key]


def test_a_model_that_cannot_stream_has_no_latency(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = bench(capsys, saved(tmp_path, "wavehax", framewise_norm=False), "--seconds", "0.2", "--runs", "1")
    assert facts["first_audio_ms"] is None
    assert facts["lookahead_ms"] is None


def test_a_model_that_needs_f0_is_given_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "needs-f0.safetensors"
    save_checkpoint(Checkpoint(models.MEL_CONFIG, models.generator("hnmask")), path)
    facts = bench(capsys, str(path), "--seconds", "0.2", "--runs", "1")
    assert facts["first_audio_ms"] > 0
    assert facts["lookahead_ms"] < bench(capsys, saved(tmp_path, "hnmask"), "--seconds", "0.2")["lookahead_ms"]


def test_memory_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    for status in (Path("/proc/self/status"), Path("/none")):  # the second as on macOS
        monkeypatch.setattr("vocoders.cli.bench._STATUS", status)
        taken = peak_memory("cpu")
        assert taken is not None
        assert taken > 50
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert peak_memory("cpu") is None


@pytest.mark.parametrize("given", [["--runs", "0"], ["--seconds", "-1"], ["--threads", "0"], ["--batch", "x"]])
def test_bad_arguments(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        vocoders(["bench", *given])
    assert stopped.value.code == 2
    assert given[0] in capsys.readouterr().err


def test_an_unknown_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert vocoders(["bench", "nowhere.safetensors"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_threads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, restored_threads: None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # restored afterwards
    facts = bench(capsys, saved(tmp_path, "hifigan"), "--seconds", "0.1", "--runs", "1", "--threads", "3")
    assert facts["threads"] == torch.get_num_threads() == 3


@pytest.fixture
def restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", models.NAMES)
def test_bfloat16_is_the_same_audio_but_for_its_rounding(name: str) -> None:
    """The error is at most a few times that of float32 with weights and mel rounded to bfloat16."""
    mel, checkpoint = models.mel(40), models.checkpoint(name)
    exact, computed = (Vocoder(checkpoint, precision=precision)(mel) for precision in ("float32", "bfloat16"))
    for parameter in models.generator_of(checkpoint).parameters():
        parameter.data = parameter.bfloat16().float()
    rounded = Vocoder(checkpoint)(mel.bfloat16().float())
    assert computed.dtype == torch.float32
    assert not torch.equal(exact, computed)
    assert float((computed - exact).square().mean()) < 6**2 * float((rounded - exact).square().mean())


def test_precision_of_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "mel.npy", models.mel(20)[0].numpy())
    model = saved(tmp_path, "hifigan")
    given = [str(tmp_path / "mel.npy"), "-m", model, "-q", "-o"]
    assert vocode([*given, str(tmp_path / "exact.wav")]) == 0
    assert vocode([*given, str(tmp_path / "rounded.wav"), "--precision", "bfloat16"]) == 0
    assert (tmp_path / "exact.wav").read_bytes() != (tmp_path / "rounded.wav").read_bytes()
    with pytest.raises(VocoderError, match=r"runs in float32; a checkpoint"):
        load("model.onnx", precision="bfloat16")
