"""The README says what is so; tests/test_docs.py checks its links."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipes.train import main as train
from tests.support import DATA, ROOT, corpus
from vocoders import MEL_CONFIGS
from vocoders.pretrained import MODELS, list_models

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_first_two_commands_are_the_main_job_and_the_tests() -> None:
    main_job, tests = (block.strip() for block in blocks("sh")[:2])
    assert main_job.count("\n") == tests.count("\n") == 0
    mel = re.search(r"vocode (\S+) -o out\.wav$", main_job)
    assert mel
    assert (ROOT / mel[1]).is_file()
    assert tests.endswith("pytest")


def test_the_lines_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """They run as pasted in a clone."""
    monkeypatch.chdir(ROOT)
    [lines] = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(lines, "README.md", "exec"), names)
    mel = np.load(DATA / "hello.npz")["mel"]
    np.testing.assert_array_equal(names["mel"], mel)
    assert names["mel_config"] == MEL_CONFIGS["hifigan-22k"]
    assert names["audio"].shape == (mel.shape[1] * 256,)
    np.testing.assert_allclose(names["other"], names["voc"](mel), atol=1e-4)
    assert names["same"].shape == mel.shape


def test_the_command_that_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On any folder of sound files; here with a small generator, for one step."""
    data = corpus.make(tmp_path / "mine")
    for name in ("train.txt", "valid.txt"):
        (data / name).unlink()
    [command] = [block.strip() for block in blocks("sh") if "recipes.train" in block]
    arguments = shlex.split(command.partition(" -m recipes.train ")[2].replace("DIR", str(data)))
    small = ["generator.config.channels=32", "discriminators=[parallel-wavegan]", "train.batch_size=1", "train.steps=1"]
    options = [option for setting in small for option in ("--set", setting)]
    assert train([*arguments, *options, "--out", str(tmp_path / "run")]) == 0
    assert "recordings to train on" in capsys.readouterr().err
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_the_built_in_models() -> None:
    names = list_models()
    assert names
    for name in names:
        size = (MODELS / f"{name}.safetensors").stat().st_size / 1e6
        assert f"`{name}` ({size:.1f} MB)" in README


def test_no_placeholder_is_left() -> None:
    for path in ROOT.rglob("*.md"):
        if ".venv" not in path.parts:
            text = re.sub(r"^```.*?^```$|`[^`\n]+`", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)  # no code
            assert not re.findall(r"\b[A-Z]{2,}_[A-Z_]+\b", text), path
