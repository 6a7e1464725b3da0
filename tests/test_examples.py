"""Each script of examples/ does what it says."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import DATA, ROOT
from tests.support.server import serving
from vocoders import load
from vocoders.server.registry import load_models

HELLO = str(DATA / "hello.npz")


@pytest.fixture(scope="module")
def mel() -> np.ndarray:
    with np.load(HELLO) as file:
        return file["mel"]


def run(name: str, *arguments: str) -> None:
    """A script, as from the command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")


def samples(path: Path) -> np.ndarray:
    """The samples of a sound file at the rate of the built-in model."""
    audio, rate = soundfile.read(path, dtype="float32")
    assert rate == 22050
    return audio


def test_all_of_them_are_tested_here() -> None:
    names = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert names == {"synthesise.py", "stream.py", "serve_client.py"}


def test_synthesise(mel: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("synthesise.py", HELLO, str(tmp_path / "out.wav"))
    np.testing.assert_allclose(samples(tmp_path / "out.wav"), load()(mel, seed=1), atol=1e-4)
    seconds = f"{mel.shape[1] * 256 / 22050:.2f} s"
    assert capsys.readouterr().out.count(seconds) == 2


def test_stream(mel: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("stream.py", HELLO, str(tmp_path / "out.wav"))
    np.testing.assert_allclose(samples(tmp_path / "out.wav"), load()(mel), atol=1e-4)
    assert float(capsys.readouterr().out.split()[-1]) < 1e-4


def test_serve_client(mel: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(*load_models([], "cpu").values()) as client:
        run("serve_client.py", HELLO, str(tmp_path / "out.wav"), f"127.0.0.1:{client.port}")
    assert "hnmask-22k" in capsys.readouterr().out
    np.testing.assert_allclose(samples(tmp_path / "out.wav"), load()(mel, seed=1), atol=1e-4)
    np.testing.assert_allclose(samples(tmp_path / "out.stream.wav"), load()(mel), atol=1e-4)
