"""What mypy says of a user's code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vocoders

RIGHT = """
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from typing_extensions import assert_type

import vocoders

mel, tensor, f0 = np.zeros((80, 9), np.float32), torch.zeros(2, 80, 9), np.zeros(9)
assert_type(vocoders.load(), vocoders.BaseVocoder)
assert_type(vocoders.load(backend="onnx"), vocoders.OnnxVocoder)
ours = vocoders.load(backend="torch")
assert_type(ours, vocoders.Vocoder)
assert_type(ours.device, torch.device)
voc = vocoders.load(Path("model.onnx"), device="cuda")
assert_type(voc, vocoders.BaseVocoder)
assert_type(vocoders.load("model.safetensors", precision="bfloat16"), vocoders.BaseVocoder)
assert_type(voc(tensor, f0=tensor, seed=1), torch.Tensor)
audio: np.ndarray = voc(mel, f0)
audios: list[np.ndarray] = voc([mel, mel], f0=[f0, None])
tensors: list[torch.Tensor] = voc([tensor])
pieces: Iterator[np.ndarray] = voc.synthesize(mel)
batch: list[np.ndarray] = voc.synthesize_batch([mel, tensor[0]], seeds=[1, 2])
chunks: Iterator[torch.Tensor] = voc.stream(tensor, seed=3)
stream = voc.open_stream(given=["f0"])
assert_type(stream, vocoders.Stream)
assert_type(stream.push(tensor[0], f0), torch.Tensor)
assert_type(stream.lookahead, int)
assert_type(voc.lookahead, int | None)
assert_type(voc.analyze(torch.zeros(22050), 22050), torch.Tensor)
assert_type(voc.analyze(np.zeros(22050), 22050, "bigvgan-24k"), np.ndarray)
assert_type(voc.convert(tensor, vocoders.MEL_CONFIGS["vocos-24k"]), torch.Tensor)
assert_type(voc.convert(tensor, "vocos-24k"), torch.Tensor)
vocoders.MelConfig.parse("hifigan-22k").check_convertible(voc.mel_config)
"""
WRONG = """
import numpy as np
import torch

import vocoders

voc = vocoders.load("model.onnx")
voc("mel.npy")
voc.generator
audio: np.ndarray = voc(torch.zeros(80, 9))
voc.analyze(np.zeros(22050))
vocoders.load(precision="float16")
voc.open_stream().push([1.0])
"""


@pytest.mark.slow
def test_right_code_passes_and_wrong_code_does_not(tmp_path: Path) -> None:
    """In strict mode, without any configuration of ours. Both in one run of mypy, which takes seconds to start."""
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    root = Path(vocoders.__file__).parents[1]
    options = ["--strict", "--follow-imports=silent", "--config-file=", f"--cache-dir={root / '.mypy_cache' / 'user'}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--no-error-summary", "right.py", "wrong.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert not done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("right.py")] == []
    errors = {int(line.split(":")[1]) for line in lines if line.startswith("wrong.py") and " error: " in line}
    assert errors == set(range(8, 14))  # every line from voc("mel.npy") on
