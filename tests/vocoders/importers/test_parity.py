"""Parity of all published generators with their public implementations, by way of the importers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.evaluation.systems import System
from tests.support import models
from tests.support.published import LONGER, PARTS, golden, write
from vocoders import load
from vocoders.checkpoint import save_checkpoint
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.generators.wavehax import wavehax_prior
from vocoders.importers import import_checkpoint
from vocoders.onnx.export import export_onnx


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("new_style", [False, True])
def test_parity_with_the_public_implementation(part: str, new_style: bool, tmp_path: Path) -> None:
    """The whole length, both ends included, to 1e-4 of the output's standard deviation.

    Of Vocos with "center" padding theirs is the audio from half a hop on, until half a hop before its end. Where theirs
    is longer, ours is all but its ends.
    """
    model = models.generator_of(import_checkpoint(**write(tmp_path, part, new_style)))
    arrays = {key: torch.from_numpy(value) for key, value in golden(part).items() if value.dtype == np.float32}
    with torch.no_grad():
        audio = model(arrays["mel"], **{item.name: arrays.get(item.name) for item in model.inputs})
    late = model.mel_config.hop_length // 2 if part in ("vocos-center", "degvoc") else 0
    audio = audio[..., late : audio.shape[-1] - late]
    extra = LONGER.get(part, 0) // 2
    expected = arrays["audio"][..., extra : arrays["audio"].shape[-1] - extra]
    assert audio.shape == expected.shape
    assert float((audio - expected).abs().max() / expected.std()) < 1e-4
    if "recording" in arrays:
        mel = LogMelSpectrogram(model.mel_config)(arrays["recording"])
        torch.testing.assert_close(mel, arrays["mel"], atol=1e-4, rtol=0)
    if "prior" in arrays:
        prior = wavehax_prior(arrays["f0"], arrays["noise"], None, model.mel_config)
        assert float((prior - arrays["prior"]).abs().max() / arrays["prior"].std()) < 1e-4


@pytest.mark.parametrize(("part", "hops"), [("parallel-wavegan-hifigan-1", 0), ("coqui-1", 0), ("vocos-center", 0.5)])
def test_where_the_audio_of_a_model_of_center_mels_lies(part: str, hops: float, tmp_path: Path) -> None:
    """In file, export and evaluation. Theirs, which is the recording's, begins there in ours: see the parity above."""
    checkpoint = import_checkpoint(**write(tmp_path, part))
    assert checkpoint.mel_config.padding == "center"
    lag = int(hops * checkpoint.mel_config.hop_length)
    save_checkpoint(checkpoint, tmp_path / "model.safetensors")
    export_onnx(checkpoint, tmp_path / "model.onnx")
    recording = np.random.default_rng(0).normal(0, 0.1, 20 * checkpoint.mel_config.hop_length).astype(np.float32)
    for name in ("model.safetensors", "model.onnx"):
        voc = load(tmp_path / name)
        assert voc.lag == lag
        copied, _ = System(voc).copy(recording)
        whole = voc(voc.analyze(recording, voc.sample_rate), seed=0)
        np.testing.assert_array_equal(copied, whole[lag : lag + len(recording)])
