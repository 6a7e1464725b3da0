"""The importer of GPT-SoVITS: its rate, and what it refuses. Its parity stands in test_parity.py."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import models, signals
from tests.support.published import write
from vocoders import MelConfig, VocoderError
from vocoders.dsp.analysis import analyze
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators import build_generator
from vocoders.importers import import_checkpoint
from vocoders.importers.recognition import recognize_folder
from vocoders.io.audio import resample

MEL_CONFIG = MEL_CONFIGS["gpt-sovits-48k"]
THEIRS = MelConfig.parse(  # mel_fn_v4 of TTS_infer_pack/TTS.py
    "bigvgan-24k:sample_rate=32000,n_fft=1280,hop_length=320,win_length=1280,fmax=16000,epsilon=1e-8"
)


def test_its_mels_of_32_khz_are_mels_of_48_khz_and_half_as_much_again() -> None:
    audio = signals.voice(48000).astype(np.float32)
    mel = analyze(audio, MEL_CONFIG) - math.log(1.5)
    theirs = analyze(resample(audio, 48000, 32000), THEIRS)
    assert mel.shape == theirs.shape
    # At both ends the resampled signal differs, and in the last bands what the resampling removes.
    np.testing.assert_allclose(mel[:96, 3:-3], theirs[:96, 3:-3], atol=1e-3)
    assert MEL_CONFIG.log_floor == pytest.approx(THEIRS.log_floor + math.log(1.5))


def test_the_published_sizes_have_their_mel_config(tmp_path: Path) -> None:
    """With fewer channels: 100 bands, and kernels of twice the rates 10, 6, 2, 2 and 2."""
    sizes = {"channels": 32, "upsample_rates": [10, 6, 2, 2, 2], "upsample_kernel_sizes": [20, 12, 4, 4, 4]}
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
        audio = models.generator_of(checkpoint)(mel + math.log(1.5))
        torch.testing.assert_close(audio, generator(mel), atol=1e-6, rtol=0)
    assert audio.shape == (1, 1, 3 * 480)
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
