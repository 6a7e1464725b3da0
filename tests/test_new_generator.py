"""A new generator is one file and one line: written into a copy of the package, it gets everything the others have."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

NEW = {"tiny-vocos": ("tiny_vocos", "TinyVocos"), "tiny-stereo": ("tiny_stereo", "TinyStereo")}

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
    def context(self) -> int:
        return 2 + 2 * self.config.blocks + 1

    def synthesize(self, mel: Tensor) -> Tensor:
        magnitude, angle = self.head(self.blocks(self.embed(mel / 4 + 1))).float().chunk(2, dim=1)
        return self.stft.inverse(torch.polar(magnitude.clamp_max(5).exp(), angle)).unsqueeze(1)
'''

# Of a speaker; its audio has two channels and twice the sample rate of the mel.
STEREO = '''
"""Tiny stereo: two convolutions, told who speaks."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vocoders.config import Channels, Config
from vocoders.dsp.mel import MelConfig
from vocoders.generators.base import Generator
from vocoders.inputs import Input


class TinyStereoConfig(Config):
    size: Channels = 16


class TinyStereo(Generator):
    config_type = TinyStereoConfig
    configs: ClassVar[dict[str, Config]] = {"v1": TinyStereoConfig()}
    config: TinyStereoConfig
    inputs = (Input(name="speaker", rate="utterance", channels=8),)
    channels = 2
    context = 3

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> TinyStereoConfig:
        return TinyStereoConfig()

    def __init__(self, config: TinyStereoConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        self.embed = nn.Conv1d(mel_config.n_mels, config.size, 7, padding=3)
        self.speaker = nn.Conv1d(8, config.size, 1)
        self.out = nn.Conv1d(config.size, self.channels * self.samples_per_frame, 1)

    @property
    def sample_rate(self) -> int:
        return 2 * self.mel_config.sample_rate

    def synthesize(self, mel: Tensor, speaker: Tensor) -> Tensor:
        x = torch.tanh(self.embed(mel / 4 + 1) + self.speaker(speaker))
        samples = self.out(x).float().unflatten(1, (self.channels, -1))  # (batch, channels, samples, frames)
        return samples.transpose(2, 3).flatten(2)
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


# Run in the copy: training, and every way from a mel and an embedding to audio.
USE_STEREO = """
import io, sys
from pathlib import Path
import numpy as np
import soundfile
import torch
from fastapi.testclient import TestClient
from recipes.evaluate import main as evaluate
from recipes.train import main as train
from tests.support import corpus, models
from vocoders import VocoderError, load
from vocoders.cli.vocode import vocode
from vocoders.cli.vocoders import vocoders
from vocoders.complexity import mel_config_for
from vocoders.generators import build_generator
from vocoders.server.app import create_app
from vocoders.server.registry import load_models

name, folder = sys.argv[1], Path(sys.argv[2])
mel_config = mel_config_for(24000, 240)
data = corpus.make(folder / "data")
for path in data.glob("*.flac"):
    (folder / "speakers").mkdir(exist_ok=True)
    np.savez(folder / "speakers" / path.stem, speaker=np.full(8, int(path.stem)))
recipe = corpus.recipe(
    folder,
    data,
    mel_config=mel_config.model_dump(),
    generator={"name": name},
    losses={"mel": 1.0, "full_band_mel": 1.0, "log_magnitude": 1.0},
    discriminators={"multi-period": {"channels": [4, 4, 4, 4, 4]}},
)
arguments = [str(recipe), "--set", "train.steps=2", "--set", "data.speed=[1, 1]"]
assert train([*arguments, "--out", str(folder / "refused")]) == 2  # names data.inputs
assert not (folder / "refused" / "state").exists()
assert train([*arguments, "--set", f"data.inputs={folder / 'speakers'}", "--out", str(folder / "run")]) == 0
losses = corpus.scalars(folder / "run")
assert all(np.isfinite(losses[f"train/{key}"]).all() for key in ("mel", "full_band_mel", "adversarial")), losses
assert np.isfinite(losses["valid/mel"]).all()

torch.manual_seed(0)
start, made = build_generator(name, {}, mel_config), load(folder / "run" / "model.safetensors")
for key, weight in made.generator.named_parameters():
    assert 0 < (weight - start.get_parameter(key)).abs().max() < 0.02, key  # every weight has a gradient

model, exported = str(folder / "run" / "model.safetensors"), str(folder / "model.onnx")
assert vocoders(["export", model, "-o", exported]) == 0
assert evaluate([model, "--data", str(data)]) == 2  # has no speaker
assert vocoders(["info", exported]) == 0

mel, speaker = models.mel(90, 2, mel_config).numpy(), np.random.default_rng(0).normal(size=(2, 8))
whole = load(model)(mel, speaker=speaker)
assert whole.shape == (2, 2, 90 * 480)
near = {"rtol": 0, "atol": 1e-5 * np.abs(whole).max()}
for voc in (load(model), load(exported)):
    assert (voc.sample_rate, voc.facts.channels, voc.lookahead) == (48000, 2, 3)
    np.testing.assert_allclose(voc(mel, speaker=speaker), whole, **near)
    batch = voc.synthesize_batch([mel[0], mel[1, :, :70]], speaker=[speaker[0], speaker[1]])
    np.testing.assert_allclose(batch[0], whole[0], **near)
    np.testing.assert_allclose(batch[1], voc(mel[1, :, :70], speaker=speaker[1]), **near)
    for size in (1, 7, 40):
        chunks = (mel[0][:, begin : begin + size] for begin in range(0, 90, size))
        pieces = list(voc.stream(chunks, speaker=speaker[0]))
        np.testing.assert_allclose(np.concatenate(pieces, -1), whole[0], **near)
    for wrong, message in (({}, "needs speaker"), ({"speeker": speaker}, "did you mean 'speaker'")):
        try:
            voc(mel, **wrong)
        except VocoderError as error:
            assert message in str(error), error
        else:
            raise AssertionError(message)

expected = np.clip(np.round(whole[0].T * 32768), -32768, 32767)
archive = folder / "mel.npz"
np.savez(archive, mel=mel[0], speaker=speaker[0])
for path in (model, exported):
    assert vocode([str(archive), "-m", path, "-o", str(folder / "out.wav"), "--overwrite"]) == 0
    audio, rate = soundfile.read(folder / "out.wav", dtype="int16")
    assert rate == 48000
    np.testing.assert_allclose(audio, expected, atol=1)

with TestClient(create_app(load_models([exported])), base_url="http://localhost") as client:
    for query in ("", "?stream=true"):
        response = client.post(f"/synthesize{query}", content=archive.read_bytes())
        assert response.status_code == 200, response.text
        audio, rate = soundfile.read(io.BytesIO(response.content), dtype="int16")
        assert rate == 48000
        np.testing.assert_allclose(audio, expected, atol=1)
    body = {"mel": mel[0].tolist(), "speaker": speaker[0].tolist()}
    assert client.post("/synthesize", json=body).status_code == 200
    facts = client.get("/models").json()[0]["facts"]
    assert (facts["channels"], facts["inputs"][0]["name"]) == (2, "speaker")
    with client.websocket_connect("ws://localhost/stream") as socket:
        assert socket.receive_json()["sample_rate"] == 48000
        socket.send_json({"speaker": speaker[0].tolist()})
        for begin in range(0, 90, 40):
            socket.send_bytes(np.ascontiguousarray(mel[0][:, begin : begin + 40].T, "<f4").tobytes())
        socket.send_text("end")
        data = b""
        while (message := socket.receive())["type"] == "websocket.send":
            data += message.get("bytes") or b""
        np.testing.assert_allclose(np.frombuffer(data, "<i2").reshape(-1, 2), expected, atol=1)
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package with new generators."""
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
    (root / "vocoders/generators/tiny_stereo.py").write_text(STEREO)
    table = root / "vocoders/generators/__init__.py"
    head, opening, entries = table.read_text().partition("GENERATORS: dict[str, type[Generator]] = {\n")
    assert opening
    imports = "".join(f"from vocoders.generators.{module} import {name}\n" for module, name in NEW.values())
    lines = "".join(f'    "{key}": {name},\n' for key, (_, name) in NEW.items())
    table.write_text(f"{head}{imports}\n{opening}{lines}{entries}")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(("name", "use"), [("tiny-vocos", USE), ("tiny-stereo", USE_STEREO)])
def test_one_file_and_one_line(name: str, use: str, copy: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    contract = "tests/vocoders/generators/test_contract.py"
    assert " passed" in run("-m", "pytest", "-v", "-p", "no:cacheprovider", contract, "-k", name)
    run("-c", use, name, str(tmp_path))
