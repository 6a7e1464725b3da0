"""The code of docs/serving.md runs against a server with the built-in model, and its names are those of the server."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support import ROOT
from tests.support.server import ServerClient, serving
from vocoders.cli.vocoders import vocoders
from vocoders.pretrained import load
from vocoders.server.registry import load_models

DOCS = (ROOT / "docs" / "serving.md").read_text()
README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def client() -> Iterator[ServerClient]:
    with serving(*load_models([], "cpu").values()) as client:
        yield client


def blocks(kind: str, port: int) -> list[str]:
    result = re.findall(rf"^```{kind}\n(.*?)^```$", DOCS, re.DOTALL | re.MULTILINE)
    return [block.replace("127.0.0.1:8000", f"127.0.0.1:{port}") for block in result]


@pytest.fixture(scope="module")
def mel() -> np.ndarray:
    with np.load(ROOT / "tests" / "data" / "hello.npz") as file:
        return file["mel"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_the_lines_of_curl(client: ServerClient, mel: np.ndarray, tmp_path: Path) -> None:
    commands = blocks("sh", client.port)[1]
    line = re.search(r"curl --data-binary @tests/data/hello.npz http://127.0.0.1:8000/synthesize -o out.wav", README)
    assert line
    assert line[0].replace("8000", str(client.port)) in commands
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    subprocess.run(["bash", "-euc", commands], cwd=tmp_path, check=True, capture_output=True)
    for seed, name in enumerate(("out.wav", "out.flac")):
        audio, rate = soundfile.read(tmp_path / name)
        assert rate == 22050
        np.testing.assert_allclose(audio, load()(mel, seed=seed), atol=1e-4)
    raw = np.frombuffer((tmp_path / "out.raw").read_bytes(), "<i2")
    np.testing.assert_allclose(raw / 32768, load()(mel), atol=1e-4)


def test_the_lines_of_python(client: ServerClient, mel: np.ndarray) -> None:
    whole, stream = blocks("python", client.port)
    with_f0 = re.sub(r"np\.save\(.*; with F0: (.*)", r"\1", whole)
    assert with_f0 != whole
    for block in (whole, with_f0):
        names: dict[str, Any] = {"mel": mel[:, :100], "f0": np.full(100, 150.0)}
        exec(compile(block, "serving.md", "exec"), names)
        assert len(names["wav"]) == 44 + 2 * 100 * 256

    played: list[tuple[np.ndarray, int]] = []
    names = {"mel": mel, "play": lambda piece, rate: played.append((piece, rate))}
    exec(compile(stream, "serving.md", "exec"), names)
    assert {rate for _, rate in played} == {22050}
    assert len(played) > 1
    np.testing.assert_allclose(np.concatenate([piece for piece, _ in played]) / 32768, load()(mel), atol=1e-4)
    assert names["stream"].protocol.close_code == 1000


def test_routes_options_and_figures_that_it_names(client: ServerClient, capsys: pytest.CaptureFixture[str]) -> None:
    paths = set(client.get("/openapi.json").json()["paths"])
    named = set(re.findall(r"`(?:GET |POST |WebSocket )?(/[\w.-]+)`", DOCS.split("## A mel")[0]))
    assert named == paths | {"/stream", "/openapi.json"}
    with pytest.raises(SystemExit):
        vocoders(["serve", "--help"])
    help_text = " ".join(capsys.readouterr().out.split())
    options = re.findall(r"`(--[\w-]+)(?: FILE)?`(?:, (\d+))?", DOCS)
    assert any(value for _, value in options)
    for option, value in options:
        assert option in help_text
        if value:
            assert re.search(rf"{option} \S+ [^)]*\(default: {value}\)", help_text), option
    hello = client.get("/models").json()[0]
    assert f'"lookahead": {hello["lookahead"]}' in DOCS
