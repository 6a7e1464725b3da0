"""Names that are empty, hostile or too long, links in a circle, standard streams that are closed or full."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from recipes.data.clips import find_clips
from recipes.evaluate import main as evaluate
from recipes.train import main as train
from tests.support.commands import HELLO, VOCODE, files, refused
from vocoders import VocoderError, load
from vocoders.cli.vocode import vocode
from vocoders.cli.vocoders import vocoders

MODEL = ["-m", "model.safetensors"]
HOSTILE = "red\x1b[31m\nname\u202e"
SHOWN = r"red\x1b[31m\nname\u202e"


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        (vocode, ["", "-o", "out/"]),
        (vocode, ["mel12.npy", "-o", ""]),
        (vocode, ["mel12.npy", "-o", "out.wav", "-m", ""]),
        (vocode, ["mel12.npy", "-o", "out.wav", "--mel-config="]),
        (vocoders, ["info", ""]),
        (vocoders, ["serve", "--token-file", ""]),
        (train, ["recipe.yaml", "--out", ""]),
        (evaluate, ["--data", ""]),
    ],
)
def test_an_empty_argument_is_no_folder_and_no_default(
    work: Path, capsys: pytest.CaptureFixture[str], program: Callable[[list[str]], int], arguments: list[str]
) -> None:
    before = files(work)
    with pytest.raises(SystemExit) as end:
        program(arguments)
    assert end.value.code == 2
    assert "is empty, as of a variable that is not set; see" in capsys.readouterr().err
    assert files(work) == before


def test_an_empty_name_is_no_model() -> None:
    with pytest.raises(VocoderError, match="unknown model ''"):
        load("")


def test_names_do_not_control_the_terminal(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"no file matches '{SHOWN}.npy'" in refused(work, capsys, f"{HOSTILE}.npy", "-o", "out.wav")
    assert SHOWN in refused(work, capsys, "mel12.npy", "-o", f"{HOSTILE}.txt")
    assert SHOWN in refused(work, capsys, "mel12.npy", "-o", "out.wav", "-m", HOSTILE)
    assert SHOWN in str(VocoderError(HOSTILE))  # wherever it is shown
    Path(f"{HOSTILE}.npy").write_bytes(Path("mel12.npy").read_bytes())
    assert vocode([f"{HOSTILE}.npy", "-o", f"{HOSTILE}.wav", *MODEL]) == 0
    Path(f"{HOSTILE}.npy").write_text("hello")
    assert vocode([f"{HOSTILE}.npy", "mel1.npy", "-o", "out/", *MODEL]) == 1
    Path(f"{HOSTILE}.safetensors").write_bytes(Path("model.safetensors").read_bytes())
    assert vocoders(["info", f"{HOSTILE}.safetensors"]) == 0
    with pytest.raises(SystemExit):
        vocode(["mel12.npy", "-o", "out.wav", f"--{HOSTILE}"])
    shown = capsys.readouterr()
    assert all(line.isprintable() for line in (shown.out + shown.err).splitlines())
    assert shown.err.count(SHOWN) == 4  # its mel config is assumed, the sound written, the text refused, no such option


def test_a_name_that_is_no_text(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"\xff")
    assert r"there is no file \udcff.npy" in refused(work, capsys, f"{name}.npy", "-o", "out.wav")
    Path(f"{name}.npy").write_bytes(Path("mel12.npy").read_bytes())
    assert vocode([f"{name}.npy", "-o", f"{name}.wav", *MODEL]) == 0
    assert r"wrote \udcff.wav" in capsys.readouterr().err


def test_links_in_a_circle_do_not_end_a_batch(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "in" / "below").mkdir(parents=True)
    np.save(work / "in" / "below" / "good.npy", np.load("mel12.npy"))
    (work / "in" / "circle.npy").symlink_to("circle.npy")
    (work / "in" / "below" / "above").symlink_to("..")
    assert vocode(["in", "-o", "out", "-q", *MODEL]) == 1
    assert "1 of 2 files could not be done" in (message := capsys.readouterr().err)
    assert "in/circle.npy: Too many levels of symbolic links" in message
    assert files(work / "out") == {"below/good.wav"}
    assert vocode(["in/**/*.npy", "-o", "glob/", "-q", *MODEL]) == 0
    assert files(work / "glob") == {"good.wav"}
    (work / "circle").symlink_to("circle")
    for output in ("circle/", "mel12.npy/below/"):
        assert "cannot make the folder" in refused(work, capsys, "mel1.npy", "-o", output, "-q")


def test_half_written_recordings_are_no_recordings(work: Path) -> None:
    (work / ".vocoders-0123.wav").write_bytes((work / "voice.wav").read_bytes())
    assert [clip.path.name for clip in find_clips(work)] == ["voice.wav"]


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_conversion_does_not_overwrite_its_source(
    work: Path, capsys: pytest.CaptureFixture[str], link: Callable[[Path, Path], None]
) -> None:
    before = (work / "model.safetensors").read_bytes()
    link(Path("same.safetensors"), work / "model.safetensors")
    link(Path("same.onnx"), work / "model.safetensors")
    for arguments in (
        ["import", "hifi-gan", "model.safetensors", "-o", "model.safetensors"],
        ["import", "hifi-gan", "model.safetensors", "-o", "same.safetensors"],
        ["export", "model.safetensors", "-o", "same.onnx"],
    ):
        assert vocoders(arguments) == 2
        assert "is both input and output" in capsys.readouterr().err
    assert vocoders(["import", "hifi-gan", "g_1", "-o", "config.json"]) == 2
    assert "'config.json' must end in .safetensors" in capsys.readouterr().err
    assert (work / "model.safetensors").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirections", "arguments", "status", "said"),
    [
        ("2>&-", [str(HELLO), "-o", "out.wav"], 0, ""),
        ("2>/dev/full", [str(HELLO), "-o", "out.wav"], 0, ""),
        ("<&- >&- 2>&-", [str(HELLO), "-o", "out.wav"], 0, ""),
        ("2>&-", ["none.npy", "-o", "out.wav"], 2, ""),
        ("2>/dev/full", ["none.npy", "-o", "out.wav"], 2, ""),
        ("2>&- >taken", ["none.npy", "-o", "-"], 2, ""),
        (">&-", [str(HELLO), "-o", "-"], 2, "vocode: {}: standard output is closed\n"),
        (">/dev/full", [str(HELLO), "-o", "-"], 2, "vocode: {}: cannot write to standard output: No space left on d"),
    ],
)
def test_standard_streams_that_are_closed_or_full(
    work: Path, redirections: str, arguments: list[str], status: int, said: str
) -> None:
    command = ["bash", "-c", f'"$@" {redirections}', "bash", *VOCODE, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(said.format(HELLO))
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert (work / "out.wav").exists() == (status == 0)
    assert not Path("taken").exists() or not Path("taken").read_bytes()  # what is said of it goes nowhere else


@pytest.mark.slow
def test_a_list_for_a_full_disk_is_a_sentence(work: Path) -> None:
    for arguments in (["list"], ["info", "model.safetensors", "--json"]):
        command = ["bash", "-c", '"$@" >/dev/full', "bash", sys.executable, "-m", "vocoders", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stderr) == (2, "vocoders: the system: No space left on device\n")
