"""The importer of BigVGAN: configurations, files, and what it refuses. Its parity stands in test_parity.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import models
from tests.support.published import golden, refused, write
from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.generators import build_generator
from vocoders.importers import import_checkpoint
from vocoders.importers.base import fold_weight_norm
from vocoders.importers.bigvgan import BIGVGAN

# What decides the output in NVIDIA/BigVGAN configs/bigvgan_base_24khz_100band.json, and changes of the others to it
BASE = {
    **{"resblock": "1", "upsample_rates": [8, 8, 2, 2], "upsample_kernel_sizes": [16, 16, 4, 4]},
    **{"upsample_initial_channel": 512, "resblock_kernel_sizes": [3, 7, 11]},
    **{"resblock_dilation_sizes": [[1, 3, 5]] * 3, "activation": "snakebeta", "snake_logscale": True},
    **{"num_mels": 100, "num_freq": 1025, "n_fft": 1024, "hop_size": 256, "win_size": 1024, "sampling_rate": 24000},
    **{"fmin": 0, "fmax": 12000, "fmax_for_loss": None},
}
LARGE = {"upsample_initial_channel": 1536, "upsample_rates": [4, 4, 2, 2, 2, 2]} | {
    "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4]
}
V2 = LARGE | {"use_tanh_at_final": False, "use_bias_at_final": False, "fmax": None}
HOP_512 = {"upsample_rates": [8, 4, 2, 2, 2, 2], "upsample_kernel_sizes": [16, 8, 4, 4, 4, 4]} | {
    **{"n_fft": 2048, "win_size": 2048, "hop_size": 512, "num_mels": 128, "sampling_rate": 44100}
}


@pytest.mark.parametrize(
    ("changes", "size", "mel_config"),
    [
        ({}, "base", MEL_CONFIGS["bigvgan-24k"]),
        ({"sampling_rate": 22050, "num_mels": 80, "fmax": 8000}, "base", MEL_CONFIGS["hifigan-22k"]),
        (LARGE, "v1", MEL_CONFIGS["bigvgan-24k"]),
        (V2, "v2", MEL_CONFIGS["bigvgan-24k"]),
        (V2 | {"sampling_rate": 22050, "num_mels": 80}, "v2", MelConfig.parse("hifigan-22k:fmax=11025")),
        (
            V2 | {"sampling_rate": 44100, "num_mels": 128},
            "v2",
            MelConfig.parse("bigvgan-44k:n_fft=1024,hop_length=256,win_length=1024"),
        ),
        (V2 | HOP_512, "v2-512x", MEL_CONFIGS["bigvgan-44k"]),
    ],
)
def test_published_configurations(changes: dict[str, Any], size: str, mel_config: MelConfig) -> None:
    imported = BIGVGAN.read(BASE | changes, {"generator": {}}, None, Path("x"))
    assert imported.mel_config == mel_config
    with torch.device("meta"):
        model = build_generator(imported.generator, imported.config, imported.mel_config)
    assert model.config == type(model).configs[size]


def test_weights_without_weight_norm_and_filters(tmp_path: Path) -> None:
    """As ``remove_weight_norm`` leaves them; of the published files some are so."""
    arguments = write(tmp_path, "bigvgan-v2")
    expected = models.generator_of(import_checkpoint(**arguments)).state_dict()
    weights = fold_weight_norm(torch.load(arguments["checkpoint"])["generator"])
    torch.save({"generator": {k: v for k, v in weights.items() if "filter" not in k}}, tmp_path / "folded.pt")
    arguments["checkpoint"] = tmp_path / "folded.pt"
    result = models.generator_of(import_checkpoint(**arguments)).state_dict()
    assert result.keys() == expected.keys()
    assert all(torch.equal(result[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activation": "relu"}, "BigVGAN with the activation relu is not supported, only snakebeta and snake$"),
        ({"activation": "snake"}, r"it also holds: trunk\.activation_post\.beta, "),
        ({"resblock": "2"}, r"it also holds: trunk\.resblocks\.0\.0\.activations\.2\.alpha"),
        ({"resblock": "3"}, "'resblock' = 3: Input should be 1 or 2"),
        ({"use_bias_at_final": True}, r"it lacks: conv_post\.bias$"),
        ({"upsample_kernel_sizes": [16, 6]}, "an upsampling by 3 with kernel 6 gives no whole frames"),
        ({"upsample_initial_channel": 24}, r"conv_pre\.weight has the shape \(12, 10, 7\) instead of \(24, 10, 7\)"),
        ({"hop_size": 48}, "the upsampling 8 x 3 = 24 must equal the hop_length of the mel, 48"),
        ({"num_mels": 12}, r"has the shape \(12, 10, 7\) instead of \(12, 12, 7\)"),
        ({"fmax": 9000}, "fmax 9000"),
        ({"upsample_rates": None}, "is not what bigvgan writes"),
        ({"snake_logscale": "yes please"}, "'log_scale' = 'yes please': Input should be a valid boolean"),
    ],
)
def test_models_that_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    arguments = write(tmp_path, "bigvgan-v2")
    config = json.loads(str(golden("bigvgan-v2")["config"])) | changes
    (tmp_path / "config.yml").write_text(json.dumps(config))
    refused(message, **arguments)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    drop, extra = "resblocks.3.activations.1.act.alpha", "resblocks.0.surprise"
    refused(r"it lacks: trunk\.resblocks\.1\.1\.activations\.1\.alpha$", **write(tmp_path, "bigvgan-v2", drop=drop))
    refused(r"it also holds: trunk\.resblocks\.0\.0\.surprise$", **write(tmp_path, "bigvgan-v2", extra=extra))
    arguments = write(tmp_path, "bigvgan-v2")
    refused("contradicts --mel-config hifigan-22k: ", **arguments | {"mel_config": "hifigan-22k"})
    content = torch.load(arguments["checkpoint"])
    content["generator"]["activation_post.upsample.filter"] += 0.01
    torch.save(content, arguments["checkpoint"])
    refused("another low-pass filter is not supported: activation_post.upsample.filter is not the", **arguments)
    config = json.loads((tmp_path / "config.yml").read_text())
    (tmp_path / "config.yml").write_text(json.dumps({k: v for k, v in config.items() if k != "activation"}))
    refused("lacks 'activation', which bigvgan has", **arguments)
