"""Each script of examples/ does what it says."""

import json
import os
import runpy
import subprocess
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


RUN_CELLS = """
import json, sys, types
played = []
display = types.ModuleType("IPython.display")  # of Jupyter, which the tests do not need
display.Audio = lambda audio, rate, normalize: (audio, rate)
display.display = played.append
sys.modules["IPython.display"] = display
cells = json.load(open(sys.argv[1], encoding="utf-8"))["cells"]
names = {}
for cell in cells:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), names)
print(json.dumps({"torch": "torch" in sys.modules, "played": [[len(audio), rate] for audio, rate in played]}))
"""


def test_first_steps(tmp_path: Path) -> None:
    """The notebook runs from top to bottom, without torch."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    folder = tmp_path / "examples"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", RUN_CELLS, str(ROOT / "examples" / "first_steps.ipynb")],
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "largest difference from the whole" in done.stdout
    assert "bigvgan-24k True" in done.stdout
    result = json.loads(done.stdout.splitlines()[-1])
    assert not result["torch"]
    (_, recorded), *copies = result["played"]
    assert recorded == 24000
    seconds = [length / rate for length, rate in copies]
    assert len(seconds) == 3
    assert max(seconds) - min(seconds) < 0.03
    assert "MelWarning" in done.stderr  # of the mel of another config
    copy, rate = soundfile.read(folder / "copy.wav")
    assert (len(copy), rate) == tuple(copies[0])


def test_the_notebook_holds_no_output() -> None:
    cells = json.loads((ROOT / "examples" / "first_steps.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
