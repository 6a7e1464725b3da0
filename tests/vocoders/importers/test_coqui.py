"""The importer of Coqui TTS: its mels and checkpoints, and what it refuses. Its parity stands in test_parity.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import models
from tests.support.published import golden, refused, write
from vocoders.dsp.mel import MelConfig
from vocoders.importers import import_checkpoint
from vocoders.importers.coqui import COQUI

CONFIG: dict[str, Any] = json.loads(str(golden("coqui-1")["config"]))


@pytest.mark.parametrize(
    ("audio", "mel_config"),
    [
        (  # as in most recipes on LJ Speech
            {"mel_fmax": 8000, "spec_gain": 1.0, "log_func": "np.log", "signal_norm": False},
            "tacotron2-22k:floor=1e-8",
        ),
        # By default the range of normalised mels begins at -80 dB
        ({}, "tacotron2-22k:fmax=11025,log=log10,floor=1e-4"),
        ({"clip_norm": False}, "tacotron2-22k:fmax=11025,log=log10,floor=1e-8"),
        ({"min_level_db": -200, "spec_gain": 10}, "tacotron2-22k:fmax=11025,log=log10,floor=1e-8"),
    ],
)
def test_the_mel_config_is_that_of_the_audio_processor(audio: dict[str, Any], mel_config: str) -> None:
    imported = COQUI.read(CONFIG | {"audio": audio}, {"model": {}}, None, Path("x"))
    assert imported.mel_config == MelConfig.parse(mel_config)


def test_the_range_of_normalised_mels() -> None:
    """From -80 dB to 20 dB, it is [-4, 4] or [0, 4]."""
    for symmetric, low in ((True, -4.0), (False, 0.0)):
        config = CONFIG | {"audio": {"symmetric_norm": symmetric}}
        weights = COQUI.read(config, {"model": {}}, None, Path("x")).weights
        mean, scale = weights["standardize.mean"], weights["standardize.scale"]
        for level, expected in ((-80 / 20, low), (20 / 20, 4.0)):
            torch.testing.assert_close((level - mean) / scale, torch.full_like(mean, expected))


def test_a_checkpoint_of_a_whole_training(tmp_path: Path) -> None:
    """Since release 0.0.15 it holds the generator beside the discriminator, before that in a dictionary of its own."""
    arguments = write(tmp_path, "coqui-1")
    expected = models.generator_of(import_checkpoint(**arguments)).state_dict()
    weights = torch.load(arguments["checkpoint"])["model"]
    extra = {"model_d.mpd.weight": torch.zeros(1)}
    together = {"model": {f"model_g.{key}": value for key, value in weights.items()} | extra}
    for i, content in enumerate((together, {"model": weights, "model_disc": extra})):
        path = tmp_path / f"{i}.pth"
        torch.save(content, path)
        result = models.generator_of(import_checkpoint(**arguments | {"checkpoint": path})).state_dict()
        assert all(torch.equal(result[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        (None, {"generator_model": "melgan_generator"}, "generator_model melgan_generator .* only hifigan_generator"),
        ("audio", {"preemphasis": 0.97}, "a mel with preemphasis 0.97 is not supported, only 0"),
        ("audio", {"do_amp_to_db_mel": False}, "a mel with do_amp_to_db_mel False is not supported"),
        ("audio", {"stft_pad_mode": "constant"}, "a mel with stft_pad_mode constant is not supported, only reflect"),
        ("audio", {"signal_norm": True, "stats_path": "s.npy"}, r"normalised by the file s\.npy \(stats_path\)"),
        ("audio", {"log_func": "np.log2"}, "np.log2"),
        ("audio", {"hop_length": None}, "hop_length"),
        ("generator_model_params", {"cond_channels": 3}, "with cond_channels 3 is not supported, only 0"),
        ("generator_model_params", {"upsample_factors": [4]}, "is not what coqui writes"),
    ],
)
def test_what_is_refused(part: str | None, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    arguments = write(tmp_path, "coqui-1")
    config = CONFIG | ({part: CONFIG[part] | changes} if part else changes)
    (tmp_path / "config.yml").write_text(json.dumps(config))
    refused(message, **arguments)
