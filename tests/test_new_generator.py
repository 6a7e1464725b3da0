"""A new generator is one file and one line: written into a copy of the package, it gets everything the others have."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

NAME = "tiny-vocos"

# In the way of Vocos (Siuzdak 2023, arXiv 2306.00814): a ConvNeXt at frame rate, then an inverse STFT.
SOURCE = '''
"""Tiny Vocos: a ConvNeXt at frame rate whose output is the spectrogram of the audio."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vocoders.config import Channels, Config, Count
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT
from vocoders.generators.base import Generator
from vocoders.nn.layers import ConvNeXtBlock1d


class TinyVocosConfig(Config):
    channels: Channels = 16
    blocks: Count = 2


class TinyVocos(Generator):
    config_type = TinyVocosConfig
    configs: ClassVar[dict[str, Config]] = {"v1": TinyVocosConfig(), "large": TinyVocosConfig(channels=512)}
    config: TinyVocosConfig

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> TinyVocosConfig:
        return TinyVocosConfig()

    def __init__(self, config: TinyVocosConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        self.stft = STFT(2 * mel_config.hop_length, mel_config.hop_length)
        self.embed = nn.Conv1d(mel_config.n_mels, config.channels, 5, padding=2)
        self.blocks = nn.Sequential(*(ConvNeXtBlock1d(config.channels, 2, 5, 0.5) for _ in range(config.blocks)))
        self.head = nn.Conv1d(config.channels, self.stft.n_fft + 2, 1)

    @property
    def receptive_field(self) -> int:
        return 2 + 2 * self.config.blocks + 1

    def synthesize(self, mel: Tensor, f0: Tensor | None, noise: Tensor | None, phase: Tensor | None) -> Tensor:
        magnitude, angle = self.head(self.blocks(self.embed(mel / 4 + 1))).float().chunk(2, dim=1)
        return self.stft.inverse(torch.polar(magnitude.clamp_max(5).exp(), angle)).unsqueeze(1)
'''

# Run in the copy: from its configuration to its audio.
USE = """
import contextlib, io, sys
from pathlib import Path
import numpy as np
import yaml
from recipes.train import main as train
from tests.support import corpus, models
from vocoders import load
from vocoders.cli.vocoders import vocoders
from vocoders.generators import generator_name

name, folder = sys.argv[1], Path(sys.argv[2])

printed = io.StringIO()
with contextlib.redirect_stdout(printed):
    assert vocoders(["config", "--generator", name, "--sample-rate", "16000", "--hop", "64"]) == 0
generator = yaml.safe_load(printed.getvalue())["generator"]
assert generator["name"] == name

recipe = corpus.recipe(folder, corpus.make(folder / "data"), generator=generator)
changes = ["--set", "train.steps=2", "--set", "losses={mel: 1.0, log_magnitude: 1.0}"]
assert train([str(recipe), "--out", str(folder / "run"), *changes]) == 0

model, exported = str(folder / "run" / "model.safetensors"), str(folder / "model.onnx")
assert vocoders(["export", model, "-o", exported]) == 0

torch_model, onnx_model = load(model), load(exported)
assert generator_name(torch_model.generator) == name
mel = models.mel(90, mel_config=torch_model.mel_config)[0].numpy()
whole = torch_model(mel)
assert whole.shape == (90 * 64,)
near = {"rtol": 0, "atol": 1e-5 * np.abs(whole).max()}
for size in (1, 7, 40):
    pieces = torch_model.stream(mel[:, begin : begin + size] for begin in range(0, 90, size))
    np.testing.assert_allclose(np.concatenate(list(pieces)), whole, **near)
np.testing.assert_allclose(onnx_model(mel), whole, **near)
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package with a new generator."""
    root = tmp_path / "copy"
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.png")
    for folder in ("vocoders", "losses", "recipes", "tests/support"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    for file in (  # of the tests, those of the contract
        "pyproject.toml",
        "tests/__init__.py",
        "tests/conftest.py",
        "tests/vocoders/generators/test_contract.py",
    ):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, root / file)
    (root / "vocoders/generators/tiny_vocos.py").write_text(SOURCE)
    table = root / "vocoders/generators/__init__.py"
    head, opening, entries = table.read_text().partition("GENERATORS: dict[str, type[Generator]] = {\n")
    assert opening
    line = f'    "{NAME}": TinyVocos,\n'
    table.write_text(f"{head}from vocoders.generators.tiny_vocos import TinyVocos\n\n{opening}{line}{entries}")
    return root


@pytest.mark.slow
def test_one_file_and_one_line(copy: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    contract = "tests/vocoders/generators/test_contract.py"
    assert " passed" in run("-m", "pytest", "-v", "-p", "no:cacheprovider", contract, "-k", NAME)
    run("-c", USE, NAME, str(tmp_path))
