"""What is imported to turn a mel into audio, and what is not."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import DATA

HELLO = DATA / "hello.npz"
FORBIDDEN = (
    "torchaudio",
    "tensorboard",
    "pyworld",
    "scipy",
    "librosa",
    "matplotlib",
    "yaml",
    "huggingface_hub",
    "recipes",
    "losses",
)


def modules_after(code: str, cwd: Path) -> set[str]:
    """Top-level modules loaded by ``code`` in a fresh interpreter."""
    code += "\nimport sys; print(' '.join({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, timeout=300)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_from_mel_to_audio(tmp_path: Path, backend: str) -> None:
    options = [str(HELLO), "-o", "out.wav", "--backend", backend]
    loaded = modules_after(f"from vocoders.cli.vocode import vocode; assert vocode({options}) == 0", tmp_path)
    assert loaded & {"onnxruntime", "torch"} == {"onnx": {"onnxruntime"}, "torch": {"torch"}}[backend]
    assert loaded.isdisjoint(FORBIDDEN)


def test_the_package_itself_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = modules_after("import vocoders, vocoders.cli", tmp_path)
    assert loaded.isdisjoint((*FORBIDDEN, "torch", "numpy", "pydantic", "tqdm"))


def test_the_public_surface() -> None:
    import vocoders

    assert vocoders.__version__[0].isdecimal()
    assert {"vocos-24k", "hifigan-22k"} < set(vocoders.MEL_CONFIGS)
    for name in set(vocoders.__all__) - {"__version__", "MEL_CONFIGS"}:
        assert getattr(vocoders, name).__name__ == name
    assert set(vocoders.__all__) <= set(dir(vocoders))
