"""The importer of NSF-HiFiGAN: files, and what it refuses. Its parity stands in test_parity.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import models
from tests.support.published import golden, refused, write
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.importers import import_checkpoint
from vocoders.importers.nsf_hifigan import NSF_HIFIGAN

# As in the releases of openvpi at 44.1 kHz
RELEASED = {
    **{"resblock": "1", "upsample_rates": [8, 8, 2, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4, 4]},
    **{"upsample_initial_channel": 512, "resblock_kernel_sizes": [3, 7, 11]},
    **{"resblock_dilation_sizes": [[1, 3, 5]] * 3, "discriminator_periods": [3, 5, 7, 11, 17, 23, 37]},
    **{"num_mels": 128, "n_fft": 2048, "hop_size": 512, "win_size": 2048, "sampling_rate": 44100},
    **{"fmin": 40, "fmax": 16000},
}


@pytest.mark.parametrize(
    ("changes", "source"), [({}, "harmonics"), ({"mini_nsf": True, "pc_aug": True}, "fundamental")]
)
def test_the_published_configurations(changes: dict[str, Any], source: str) -> None:
    imported = NSF_HIFIGAN.read(RELEASED | changes, {"generator": {}}, None, Path("model.ckpt"))
    assert imported.mel_config == MEL_CONFIGS["openvpi-44k"]
    assert imported.config["source"] == source
    assert imported.config["upsample_rates"] == [8, 8, 2, 2, 2]


@pytest.mark.parametrize("name", ["model.ckpt", "model"])
def test_the_files_of_a_release(name: str, tmp_path: Path) -> None:
    arguments = write(tmp_path, "nsf-hifigan-harmonics")
    expected = models.generator_of(import_checkpoint(**arguments)).state_dict()
    (tmp_path / "checkpoint.pkl").rename(tmp_path / name)
    (tmp_path / "config.yml").rename(tmp_path / "config.json")
    result = models.generator_of(import_checkpoint("nsf-hifigan", tmp_path / name)).state_dict()
    assert all(torch.equal(result[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise_sigma": 0.01}, "with noise_sigma 0.01 is not supported, only with 0: it adds noise"),
        ({"mini_nsf": True}, r"it also holds: source\.linear\.bias, source\.linear\.weight, trunk\.source_convs\.0"),
        ({"upsample_kernel_sizes": [9, 7, 4]}, "upsampling by 4 with kernel 9 gives no whole frames"),
        ({"num_mels": 9}, r"conv_pre\.weight has the shape \(16, 8, 7\) instead of \(16, 9, 7\)"),
        ({"hop_size": 32}, "4 x 3 x 2 = 24 must equal the hop_length of the mel, 32"),
        ({"sampling_rate": "fast"}, "the mel config in the configuration: 'sample_rate' = 'fast'"),
        ({"upsample_rates": 3}, "is not what nsf-hifigan writes"),
    ],
)
def test_models_that_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    arguments = write(tmp_path, "nsf-hifigan-harmonics")
    config = json.loads(str(golden("nsf-hifigan-harmonics")["config"]))
    (tmp_path / "config.yml").write_text(json.dumps(config | changes))
    refused(message, **arguments)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    part = "nsf-hifigan-fundamental"
    refused(r"it lacks: trunk\.source_convs\.1\.bias$", **write(tmp_path, part, drop="source_conv.bias"))
    refused(r"it also holds: trunk\.surprise$", **write(tmp_path, part, extra="surprise"))
    arguments = write(tmp_path, part)
    refused("contradicts --mel-config openvpi-44k: ", **arguments | {"mel_config": "openvpi-44k"})
    config = json.loads((tmp_path / "config.yml").read_text())
    (tmp_path / "config.yml").write_text(json.dumps({k: v for k, v in config.items() if k != "fmin"}))
    refused("lacks 'fmin', which nsf-hifigan has", **arguments)
    (tmp_path / "config.yml").write_text(json.dumps(config))
    torch.save({"state_dict": {}}, tmp_path / "checkpoint.pkl")
    refused(r"it lacks: conv_post\.bias, conv_post\.weight, .* and \d+ more$", **arguments)
