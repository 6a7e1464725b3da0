"""LTX-2's vocoder, which needs the mel of a second channel: what the other generators are tested for in loops."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import models
from tests.support.models import MEL_CONFIG
from vocoders import VocoderError, load
from vocoders.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vocoders.generators import build_generator
from vocoders.inference.vocoder import Vocoder
from vocoders.onnx.export import export_onnx

MEL, RIGHT = (models.mel(40, seed=seed)[0].numpy() for seed in (0, 1))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(MEL_CONFIG, models.generator("ltx2"), None, {"data": "none"})


def test_the_audio_is_stereo_at_its_own_rate(checkpoint: Checkpoint) -> None:
    vocoder = Vocoder(checkpoint)
    assert (vocoder.sample_rate, vocoder.facts.channels) == (16000, 2)
    audio = vocoder(MEL, right=RIGHT)
    assert audio.shape == (2, 40 * 64)
    mono = vocoder(MEL, right=MEL)
    assert not np.array_equal(audio, mono)


def test_it_needs_the_right_mel(checkpoint: Checkpoint) -> None:
    message = r"^this model needs right .*; pass right=, 20 numbers per frame; in a file: the array right beside mel in"
    with pytest.raises(VocoderError, match=message):
        Vocoder(checkpoint)(MEL)


def test_a_saved_model_is_the_same(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "model.safetensors")
    again = load_checkpoint(tmp_path / "model.safetensors")
    assert again.generator is not None
    assert checkpoint.generator is not None
    assert again.generator.config == checkpoint.generator.config
    np.testing.assert_array_equal(Vocoder(again)(MEL, right=RIGHT), Vocoder(checkpoint)(MEL, right=RIGHT))


def test_a_stream_equals_the_whole_in_both_backends(checkpoint: Checkpoint, tmp_path: Path) -> None:
    export_onnx(checkpoint, tmp_path / "model.onnx")
    expected = Vocoder(checkpoint)(MEL, right=RIGHT)
    for vocoder in (Vocoder(checkpoint), load(tmp_path / "model.onnx")):
        whole = vocoder(MEL, right=RIGHT)
        np.testing.assert_allclose(whole, expected, atol=1e-4)
        stream = vocoder.open_stream(given=["right"])
        pieces = [stream.push(MEL[:, at : at + 7], right=RIGHT[:, at : at + 7]) for at in range(0, 40, 7)]
        np.testing.assert_allclose(np.concatenate([*pieces, stream.finish()], -1), whole, atol=1e-5)


def test_an_item_of_a_batch_equals_it_alone(checkpoint: Checkpoint) -> None:
    vocoder = Vocoder(checkpoint)
    batch = vocoder(np.stack([MEL, RIGHT]), right=np.stack([RIGHT, MEL]))
    np.testing.assert_allclose(batch[1], vocoder(RIGHT, right=MEL), atol=1e-5)


def test_context_and_lookahead_hold(checkpoint: Checkpoint) -> None:
    model = models.generator_of(checkpoint)
    assert model.context is not None
    assert model.lookahead is not None
    frames, middle = 80, 40
    mel, right = models.mel(frames), models.mel(frames, seed=1)
    other = right.clone()
    other[..., middle] += 2
    with torch.no_grad():
        difference = (model(mel, right=right) - model(mel, right=other)).abs().amax(1)
    reached = torch.nonzero(difference.reshape(frames, -1).amax(1)).flatten()
    assert middle - model.lookahead <= reached[0] < reached[-1] <= middle + model.context


def test_gradients_reach_every_weight(checkpoint: Checkpoint) -> None:
    model = build_generator("ltx2", models.small("ltx2"), MEL_CONFIG)
    model(models.mel(8), right=models.mel(8, seed=1)).square().sum().backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_sizes_that_do_not_fit_are_refused() -> None:
    sizes = models.small("ltx2") | {"extension_hop_length": 24}
    with pytest.raises(VocoderError, match=r"^network and extension do not fit: of a frame, 64 samples"):
        build_generator("ltx2", sizes, MEL_CONFIG)
