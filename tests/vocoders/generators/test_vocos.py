"""Vocos: what the contract of all generators does not cover. Its parity stands in test_parity.py."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import models
from vocoders import Vocoder
from vocoders.checkpoint import Checkpoint
from vocoders.generators.vocos import ISTFTHead
from vocoders.onnx.export import export_onnx
from vocoders.onnx.vocoder import OnnxVocoder


@pytest.mark.parametrize("hop", [32, 31])
def test_centred_audio_is_ours_half_a_hop_later(hop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.generator("vocos", models.MEL_CONFIG.model_copy(update={"hop_length": hop}))
    mel = models.mel(9)
    audio = model(mel).detach()
    head = model.get_submodule("head")
    assert isinstance(head, ISTFTHead)
    n_fft, window = head.stft.n_fft, head.stft.window
    monkeypatch.setattr(head.stft, "inverse", lambda x: torch.istft(x, n_fft, hop, window=window, center=True))
    centred, late = model(mel), (hop + 1) // 2
    assert centred.shape == (1, 1, 8 * hop)
    torch.testing.assert_close(audio[..., late : late + 8 * hop], centred, atol=1e-5 * float(audio.abs().max()), rtol=0)


def test_the_audio_does_not_depend_on_where_a_mel_config_places_its_frames() -> None:
    centred = models.MEL_CONFIG.model_copy(update={"padding": "center"})
    mel = models.mel(9)
    assert torch.equal(models.generator("vocos", centred)(mel), models.generator("vocos")(mel))


def test_magnitudes_are_bounded() -> None:
    model = models.generator("vocos")
    with torch.no_grad():
        bias = model.get_parameter("head.out.bias")
        bias[: len(bias) // 2] = 1e4  # whose exponential is infinite
    audio = model(models.mel(9))
    assert torch.isfinite(audio).all()


def test_wavenext_depends_on_the_frames_that_it_states() -> None:
    model = models.generator("vocos", head="wavenext")
    mel = models.mel(41)
    other = mel.clone()
    other[..., 20] += 2.0
    changed = torch.nonzero((model(mel) - model(other)).reshape(41, 32).abs().amax(1)).flatten().tolist()
    assert model.context == 9
    assert changed == list(range(20 - 9, 20 + 10))


def test_wavenext_exports(tmp_path: Path) -> None:
    checkpoint = Checkpoint(models.MEL_CONFIG, models.generator("vocos", head="wavenext"))
    export_onnx(checkpoint, tmp_path / "model.onnx")
    voc, mel = OnnxVocoder(tmp_path / "model.onnx"), models.mel(40)[0].numpy()
    whole = Vocoder(checkpoint)(mel)
    assert np.abs(whole).max() <= 1
    np.testing.assert_allclose(voc(mel), whole, atol=1e-5)
    pieces = list(voc.stream([mel[:, :1], mel[:, 1:25], mel[:, 25:]]))
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)
