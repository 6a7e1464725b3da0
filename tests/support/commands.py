"""Run the programs in tests."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import DATA
from vocoders.cli.vocode import vocode

VOCODE = [sys.executable, "-m", "vocoders.cli.vocode"]  # in its own process
HELLO = DATA / "hello.npz"


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in its own process; it must succeed."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def refused(work: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return a refusal's only sentence: status 2, nothing on standard output, no new file."""
    before = files(work)
    assert vocode([*arguments, "-m", "model.safetensors"] if "-m" not in arguments else list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("vocode: ")
    assert files(work) == before
    return lines[0]
