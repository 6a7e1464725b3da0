"""Which backend runs a model, and that both give the same audio."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import DATA, models, signals
from vocoders import Vocoder, VocoderError, load
from vocoders.checkpoint import save_checkpoint
from vocoders.inference.base import BaseVocoder
from vocoders.inference.synthesis import BackendName
from vocoders.onnx import session
from vocoders.pretrained import find_pretrained, list_models, start_loading


def difference(result: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the peak."""
    assert result.shape == expected.shape
    return float(np.abs(result - expected).max() / np.abs(expected).max())


def chunks(mel: np.ndarray) -> list[np.ndarray]:
    """Chunks of 1 to 60 frames."""
    ends = np.random.default_rng(0).integers(1, 60, len(mel.T)).cumsum()
    return [chunk for chunk in np.split(mel, ends[ends < mel.shape[1]], 1) if chunk.size]


@pytest.mark.slow
@pytest.mark.parametrize("voice", list_models())
def test_both_backends_give_the_same_audio(voice: str) -> None:
    """Whole, with given F0, as a batch, and streamed."""
    torch, onnx = load(voice, backend="torch"), load(voice, backend="onnx")
    mel = np.load(DATA / "hello.npz")["mel"]
    if voice != "hnmask-22k":
        mel = onnx.analyze(signals.speech(24000), 24000)
    f0 = np.where(np.arange(mel.shape[1]) % 50 < 40, 170.0, 0.0)
    for given in (None, f0):
        expected = torch(mel, given, 3)
        assert difference(onnx(mel, given, 3), expected) < 1e-4
    batch = np.stack([mel[:, :100], mel[:, 20:120]])
    assert difference(onnx(batch), torch(batch)) < 1e-4
    whole = torch(mel)
    for voc in (torch, onnx):
        assert difference(np.concatenate(list(voc.stream(chunks(mel)))), whole) < 1e-4


@pytest.mark.parametrize("voice", list_models())
def test_both_backends_estimate_the_same_f0(voice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces too; synthesis with that F0 is synthesis without."""
    torch, onnx = load(voice, backend="torch"), load(voice, backend="onnx")
    mel = onnx.analyze(signals.speech(24000), 24000)
    f0 = onnx.estimate_f0(mel)
    assert f0.shape == (mel.shape[1],)
    assert f0.dtype == np.float32
    np.testing.assert_allclose(torch.estimate_f0(mel), f0, atol=1e-3)
    assert difference(onnx(mel, f0), onnx(mel)) < 1e-4
    monkeypatch.setattr(type(onnx), "chunk_frames", 30)
    np.testing.assert_allclose(onnx.estimate_f0(mel), f0, atol=1e-3)


def test_f0_of_a_mel_of_another_mel_config() -> None:
    """On the frames of that mel, 20 ms each."""
    voc, audio = load("hnmask-22k", backend="onnx"), signals.voice(22050, 1.0, f0=200)
    other = voc.for_mel_config("cosyvoice2-24k")
    f0 = other.estimate_f0(other.analyze(audio, 22050))
    own = voc.estimate_f0(voc.analyze(audio, 22050))
    assert f0.shape == (50,)
    nearest = own[((np.arange(50) + 0.5) * 0.02 * 22050 / 256).astype(int)]
    np.testing.assert_allclose(f0[5:-5], nearest[5:-5], rtol=0.01)


def test_a_model_without_an_f0_estimator_estimates_none() -> None:
    voc = Vocoder(models.checkpoint("hifigan"), "mine")
    with pytest.raises(VocoderError, match=r"^mine has no F0 estimator; give it f0 of your own$"):
        voc.estimate_f0(np.zeros((20, 8), np.float32))


@pytest.mark.parametrize(
    ("options", "backend"),
    [
        ({}, "onnx"),
        ({"device": "cpu:0", "backend": "torch"}, "torch"),
        ({"precision": "bfloat16"}, "torch"),
        ({"model": "hnmask-24k"}, "onnx"),
        ({"model": "hnmask-24k", "backend": "onnx"}, "onnx"),
        ({"model": "hnmask-24k", "backend": "torch"}, "torch"),
        ({"model": "model.safetensors"}, "torch"),
        ({"model": "model.safetensors", "backend": "torch"}, "torch"),
    ],
)
def test_the_rule(options: dict[str, str], backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(models.checkpoint(), Path("model.safetensors"))
    voc: BaseVocoder = load(**options)  # type: ignore[call-overload]
    assert voc.backend == backend


@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize("rate", ["22k", "24k"])
def test_the_other_name_of_a_built_in_model(rate: str, backend: BackendName) -> None:
    assert find_pretrained(f"openvoices-{rate}", backend) == find_pretrained(f"hnmask-{rate}", backend)
    assert load(f"openvoices-{rate}", backend=backend).name == f"hnmask-{rate}"


def test_what_a_backend_cannot_run(tmp_path: Path) -> None:
    save_checkpoint(models.checkpoint(), tmp_path / "model.safetensors")
    with pytest.raises(VocoderError, match=r"model\.safetensors is a checkpoint, which only torch runs"):
        load(tmp_path / "model.safetensors", backend="onnx")
    with pytest.raises(VocoderError, match=r"small\.onnx is an exported model, which only ONNX Runtime runs"):
        load(DATA / "small.onnx", backend="torch")
    with pytest.raises(VocoderError, match=r"hnmask-22k runs in float32; a checkpoint .* can run in bfloat16"):
        load(precision="bfloat16", backend="onnx")
    with pytest.raises(VocoderError, match="unknown backend 'jax'; known: onnx, torch"):
        load(backend="jax")  # type: ignore[call-overload]


def test_the_stored_small_model_is_that_of_the_tests() -> None:
    """Tests run with it where there is no torch; python -m tests.support.small writes it anew."""
    stored, made = load(DATA / "small.onnx"), Vocoder(models.checkpoint())  # other releases of torch draw other weights
    assert stored.facts == made.facts


@pytest.mark.parametrize("voice", list_models())
def test_the_two_forms_of_a_voice_are_one_model(voice: str) -> None:
    torch, onnx = load(voice, backend="torch"), load(voice, backend="onnx")
    assert torch.facts == onnx.facts


def test_loading_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session begun is the one that is used, once; what went wrong is said by load."""
    opened: list[str] = []
    original = session._open

    def count(path: Path, device: str, trusted: bool = False) -> Any:
        opened.append(device)
        return original(path, device, trusted)

    monkeypatch.setattr(session, "_open", count)
    start_loading()
    mel = np.load(DATA / "hello.npz")["mel"][:, :20]
    np.testing.assert_array_equal(load()(mel), load()(mel))
    assert len(opened) == 2
    others: list[dict[str, Any]] = [{"model": "model.onnx"}, {"backend": "torch"}, {"device": "cuda"}]
    for arguments in [*others, {"precision": "bfloat16"}]:
        start_loading(**arguments)
    assert len(opened) == 2
    start_loading(device="cpu", backend="onnx")
    start_loading(device="cuda", backend="onnx")
    assert list(session._started) == [(find_pretrained(backend="onnx")[1], "cuda")]
    with pytest.raises(VocoderError, match="device 'cuda' cannot be used here for an exported model"):
        load(device="cuda", backend="onnx")
    assert not session._started
