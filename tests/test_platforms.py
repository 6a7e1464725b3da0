"""What only Linux has is not needed: commands, training and server while it is hidden (tests/support/platforms.py)."""

import ast
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
from io import BytesIO
from pathlib import Path, PurePosixPath, PureWindowsPath

import httpx
import numpy as np
import pytest
import torch

from recipes.data import clips
from recipes.training.distributed import init_distributed
from tests.support import ROOT, corpus, models, platforms
from tests.support.commands import HELLO
from vocoders import VocoderError
from vocoders.checkpoint import save_checkpoint
from vocoders.cli.plan import plan
from vocoders.cli.vocode import vocode
from vocoders.files import atomic_folder
from vocoders.io.audio import read_audio

SYSTEMS = pytest.mark.parametrize("platform", ["win32", "darwin"])


@pytest.mark.slow
@SYSTEMS
def test_every_module_is_imported(platform: str, tmp_path: Path) -> None:
    code = """
import losses, recipes, vocoders
for package in (losses, recipes, vocoders):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            print(module.name)
"""
    printed = platforms.run_on(
        platform, code, tmp_path, (*platforms.SERVER, *platforms.TRAIN, *platforms.CLUSTER)
    ).split()
    assert {"vocoders.server.process", "recipes.training.loop", "losses.cqt"} <= set(printed)


@pytest.mark.slow
@SYSTEMS
def test_the_commands_work(platform: str, tmp_path: Path) -> None:
    code = f"""
from vocoders.cli.vocode import vocode
from vocoders.cli.vocoders import vocoders
for name in ("onnx", "torch"):
    os.mkdir(name)
    os.chdir(name)
    backend = ["--backend", name]
    assert vocode([{str(HELLO)!r}, "-o", "out.wav", *backend]) == 0
    assert vocode(["out.wav", "-o", "mel.npz", *backend]) == 0
    assert vocode(["mel.npz", "-o", "out.wav", *backend]) == 0  # replaces it
    assert vocode(["out.wav", "mel.npz", "-o", "copies/", "--format", "flac", *backend]) == 0
    assert vocoders(["bench", "--runs", "1", "--seconds", "0.2", "--json", *backend]) == 0
    os.chdir("..")
assert vocoders(["info"]) == vocoders(["list"]) == 0
"""
    printed = platforms.run_on(platform, code, tmp_path, platforms.TORCH)
    figures, _ = json.JSONDecoder().raw_decode(printed[printed.index("[\n") :])
    assert (figures[0]["memory_mib"] is None) == (platform == "win32")
    expected = np.load(HELLO)["mel"].shape[1]
    for backend in ("onnx", "torch"):
        folder = tmp_path / backend
        assert len(read_audio((folder / "out.wav").read_bytes(), "out.wav").audio) == expected * 256
        assert {path.name for path in folder.rglob("*.*")} == {"out.wav", "mel.npz", "out.flac", "mel.flac"}


@pytest.mark.slow
@SYSTEMS
def test_training_works_and_resumes(platform: str, tmp_path: Path) -> None:
    """With spawned workers as on macOS; on Windows files in use cannot be replaced, nor deleted. A model can."""
    data = corpus.make(tmp_path / "corpus")
    recipe = corpus.recipe(tmp_path, data)
    recipe.write_text(f"# Ελληνικά\n{recipe.read_text(encoding='utf-8')}", encoding="utf-8")
    code = f"""
from recipes.train import main
changes = ["--set", "data.workers={int(platform == "darwin")}", "--set", "train.save_every=1"]
for steps in (1, 4):
    assert main([{str(recipe)!r}, "--out", "run", *changes, "--set", f"train.steps={{steps}}"]) == 0
assert main([{str(recipe)!r}, "--out", "next", *changes, "--set", "train.steps=1",
             "--set", "generator.init=run/model.safetensors"]) == 0
from vocoders.checkpoint import load_checkpoint, save_checkpoint
checkpoint = load_checkpoint("next/model.safetensors")
save_checkpoint(checkpoint, "next/model.safetensors")  # while it is in use
"""
    platforms.run_on(platform, code, tmp_path, platforms.TRAIN)
    assert {path.name for path in (tmp_path / "run" / "state").iterdir()} == {"step-00000003", "step-00000004"}


@pytest.mark.slow
@SYSTEMS
def test_the_server_answers_and_ends(platform: str, tmp_path: Path) -> None:
    code = "\nfrom vocoders.cli.vocoders import vocoders\nsys.exit(vocoders(['serve', '--port', '0']))"
    command = [sys.executable, "-c", platforms.prelude(platform, platforms.SERVER) + code]
    with subprocess.Popen(
        command, cwd=tmp_path, env=platforms.environment(), stderr=subprocess.PIPE, encoding="utf-8"
    ) as running:
        assert running.stderr is not None
        try:
            line = running.stderr.readline()
            assert " on http://" in line, line + running.stderr.read()
            address = line.split(" on ")[1].split(";")[0]
            answer = httpx.post(f"{address}/synthesize", content=HELLO.read_bytes(), timeout=300)
            assert answer.status_code == 200
            assert httpx.get(f"{address}/metrics").status_code == 200
            running.send_signal(signal.SIGINT)  # Ctrl+C
            assert running.wait(60) == 0
            assert running.stderr.read() == ""
        finally:
            running.kill()


@pytest.mark.slow
def test_what_standard_output_lacks_is_escaped(tmp_path: Path) -> None:
    checkpoint = models.checkpoint()
    checkpoint.training = {"data": "Ελληνικά, déjà"}
    save_checkpoint(checkpoint, tmp_path / "model.safetensors")
    command = [sys.executable, "-m", "vocoders", "info", "model.safetensors"]
    done = subprocess.run(command, cwd=tmp_path, env=platforms.environment(), capture_output=True)
    assert done.returncode == 0, done.stderr
    line = f"{'data':<27} \\u0395\\u03bb\\u03bb\\u03b7\\u03bd\\u03b9\\u03ba\\u03ac, déjà"
    assert line in done.stdout.decode("cp1252").splitlines()


def test_every_text_file_states_its_encoding() -> None:
    """The default of Windows is the code page of the country. Of built-in open no use is left: Path.open has a mode."""
    found = []
    for folder in ("vocoders", "losses", "recipes", "examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                    given = {keyword.arg for keyword in node.keywords}
                    texts = name in ("read_text", "write_text") or given & {"text", "universal_newlines"}
                    if (texts and "encoding" not in given) or (name == "open" and isinstance(node.func, ast.Name)):
                        found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert found == []


def test_an_empty_folder_is_replaced_where_none_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(source: Path, target: Path) -> None:
        if target.exists():
            raise PermissionError(errno.EACCES, "Access is denied")
        source.rename(target)

    monkeypatch.setattr(pathlib.Path, "replace", replace)
    target = tmp_path / "report"
    target.mkdir()
    with atomic_folder(target) as partial:
        (partial / "page").write_bytes(b"page")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert (target / "page").read_bytes() == b"page"


def test_a_folder_may_end_in_the_separator_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sep", "\\")
    jobs, batch = plan([str(HELLO)], "audio\\", None)
    assert batch
    assert jobs[0].target == Path("audio\\", "hello.wav")


def test_the_reader_of_a_pipe_may_go(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    class Closed(BytesIO):
        def write(self, data: object) -> int:
            raise OSError(errno.EINVAL, "Invalid argument")  # Windows for a broken pipe

    class Output:
        buffer, errors = Closed(), "strict"

        def fileno(self) -> int:
            return spare

        def flush(self) -> None:
            pass

    with open(os.devnull, "wb") as file:
        spare = file.fileno()
        monkeypatch.setattr(sys, "stdout", Output())
        assert vocode([str(HELLO), "-o", "-", "-q"]) == 2
        monkeypatch.setattr(sys, "platform", "win32")
        assert vocode([str(HELLO), "-o", "-", "-q"]) == 1
    assert capfd.readouterr().err == f"vocode: {HELLO}: cannot write to standard output: Invalid argument\n"


def test_recordings_are_the_same_on_every_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clips._hash(PureWindowsPath("a\\b.wav")) == clips._hash(PurePosixPath("a/b.wav"))
    data = corpus.make(tmp_path / "corpus")
    for old, new in (("0", "b"), ("1", "A"), ("2", "C")):
        (data / f"{old}.flac").rename(data / f"{new}.flac")
    monkeypatch.setattr(pathlib.PurePath, "__lt__", lambda a, b: str(a).lower() < str(b).lower())  # of Windows
    assert [clip.path.name for clip in clips.find_clips(data)] == ["3.flac", "A.flac", "C.flac", "b.flac"]


def test_lists_of_an_editor_on_windows(tmp_path: Path) -> None:
    data = corpus.make(tmp_path / "corpus")
    names = data / "names.txt"
    names.write_bytes("0.flac\r\n1.flac\r\n".encode("utf-8-sig"))
    assert [clip.path.name for clip in clips.list_clips(data, names)] == ["0.flac", "1.flac"]
    names.write_bytes("0.flac\r\n".encode("utf-16"))
    with pytest.raises(VocoderError, match="is not text in UTF-8"):
        clips.list_clips(data, names)


def test_several_gpus_need_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)  # there is a GPU
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    with pytest.raises(VocoderError, match="needs NCCL"):
        init_distributed("cuda")
