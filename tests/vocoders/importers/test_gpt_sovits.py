"""The importer of GPT-SoVITS: its rate, and what it refuses. Its parity stands in test_parity.py."""

import re
from pathlib import Path

import pytest
import torch

from tests.support import models
from tests.support.published import write
from vocoders import VocoderError
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators import build_generator
from vocoders.importers import import_checkpoint
from vocoders.importers.recognition import recognize_folder

MEL_CONFIG = MEL_CONFIGS["gpt-sovits-32k"]


def test_the_published_sizes_have_their_mel_config(tmp_path: Path) -> None:
    """With fewer channels: 100 bands, and kernels of twice the rates 10, 6, 2, 2 and 2."""
    sizes = {"channels": 32, "upsample_rates": [10, 6, 2, 2, 2], "upsample_kernel_sizes": [20, 12, 4, 4, 4]}
    sizes["sample_rate"] = 48000
    generator = build_generator("hifigan", sizes, MEL_CONFIG).eval()
    weights = {}
    for key, value in generator.state_dict().items():
        key = key.removeprefix("trunk.")
        if not key.startswith("standardize."):
            key = re.sub(r"resblocks\.(\d)\.(\d)", lambda m: f"resblocks.{3 * int(m[1]) + int(m[2])}", key)
            weights[key] = value
    torch.save(weights, tmp_path / "vocoder.pth")
    assert recognize_folder(tmp_path).importer.name == "gpt-sovits"
    checkpoint = import_checkpoint("gpt-sovits", tmp_path / "vocoder.pth")
    assert checkpoint.mel_config == MEL_CONFIG
    mel = torch.randn(1, 100, 3)
    with torch.no_grad():
        audio = models.generator_of(checkpoint)(mel)
        torch.testing.assert_close(audio, generator(mel), atol=1e-6, rtol=0)
    assert audio.shape == (1, 1, 3 * 480)
    assert models.generator_of(checkpoint).sample_rate == 48000
    weights["ups.4.weight"] = weights["ups.4.weight"][..., :3]
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(VocoderError, match=r"kernels \[20, 12, 4, 4, 3\] are not those of GPT-SoVITS"):
        import_checkpoint("gpt-sovits", tmp_path / "other.pth")


def test_other_files(tmp_path: Path) -> None:
    arguments = write(tmp_path, "gpt-sovits")
    with pytest.raises(VocoderError, match=r"does not state the mel config .*; give --mel-config"):
        import_checkpoint(**arguments | {"mel_config": None})
    with pytest.raises(VocoderError, match=r"lacks 'conv_pre\.weight', which gpt-sovits has"):
        import_checkpoint(**write(tmp_path, "gpt-sovits", drop="conv_pre.weight"))
    torch.save({"weight": torch.zeros(1)}, arguments["checkpoint"])
    with pytest.raises(VocoderError, match=r"the kernels \[\] are not those of GPT-SoVITS"):
        import_checkpoint(**arguments)
