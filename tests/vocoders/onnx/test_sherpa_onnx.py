"""Models exported for sherpa-onnx: sherpa-onnx itself makes of a mel the audio that this package makes of it."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import vocoders.onnx.graph
from tests.support import models
from tests.support.commands import HELLO, files
from tests.support.sherpa import speak
from vocoders import Vocoder
from vocoders.checkpoint import Checkpoint, save_checkpoint
from vocoders.cli.vocode import vocode
from vocoders.cli.vocoders import vocoders as vocoders_command
from vocoders.dsp.noise import white_noise
from vocoders.onnx.export import export_onnx
from vocoders.onnx.graph import NOISE_SAMPLES, MelGraph
from vocoders.pretrained import load

pytestmark = pytest.mark.slow  # each test exports a model


def difference(result: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the peak of the expected audio."""
    assert result.shape == expected.shape
    return float(np.abs(result - expected).max() / np.abs(expected).max())


def hello() -> np.ndarray:
    """The recorded sentence of the tests as a mel of the built-in model."""
    with np.load(HELLO) as file:
        return np.ascontiguousarray(file["mel"], np.float32)


def test_the_built_in_voice_in_sherpa_onnx(voice_for_sherpa: Path, tmp_path: Path) -> None:
    assert difference(speak(tmp_path, voice_for_sherpa, hello(), 22050), load(backend="torch")(hello())) < 1e-3


def test_a_mel_longer_than_the_noise_in_sherpa_onnx(voice_for_sherpa: Path, tmp_path: Path) -> None:
    """Until the noise repeats the audio is that of this package; after that, speech of another noise and as loud."""
    voc, mel = load(), np.tile(hello(), (1, 3))
    audio, expected = speak(tmp_path, voice_for_sherpa, mel, 22050), voc(mel)
    assert audio.size > NOISE_SAMPLES * 5 // 4
    assert voc.facts.context is not None
    same = NOISE_SAMPLES - voc.facts.context * voc.mel_config.hop_length
    assert difference(audio[:same], expected[:same]) < 1e-3
    assert difference(audio[NOISE_SAMPLES:], expected[NOISE_SAMPLES:]) < 0.5
    assert np.std(audio[NOISE_SAMPLES:]) == pytest.approx(np.std(expected[NOISE_SAMPLES:]), rel=0.02)


@pytest.mark.parametrize("name", ["hifigan", "istftnet"])
def test_other_generators_in_sherpa_onnx(name: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint(models.MEL_CONFIG, models.generator(name))
    export_onnx(checkpoint, tmp_path / "vocoder.onnx", "sherpa-onnx")
    mel = models.mel(131)[0].numpy()
    result = speak(tmp_path, tmp_path / "vocoder.onnx", mel, models.MEL_CONFIG.sample_rate)
    assert difference(result, Vocoder(checkpoint)(mel)) < 1e-3


def test_the_noise_repeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocoders.onnx.graph, "NOISE_SAMPLES", 96)
    checkpoint = models.checkpoint("parallel-wavegan")
    mel = models.mel(50, 2)
    noise = torch.from_numpy(np.resize(white_noise(0, 96, 0), 50 * 32)).half().float().expand(2, 1, -1)
    with torch.inference_mode():
        expected = models.generator_of(checkpoint)(mel, noise=noise).numpy()
        (result,) = MelGraph(checkpoint)(mel)
    assert difference(result.numpy(), expected) < 1e-5
    export_onnx(checkpoint, tmp_path / "vocoder.onnx", "sherpa-onnx")
    session = onnxruntime.InferenceSession(tmp_path / "vocoder.onnx")
    assert difference(session.run(None, {"mel": mel.numpy()})[0], expected) < 1e-5


def test_what_sherpa_onnx_reads_of_the_file(voice_for_sherpa: Path) -> None:
    model = onnx.load(voice_for_sherpa)
    assert [value.name for value in model.graph.input] == ["mel"]
    assert [value.name for value in model.graph.output] == ["audio"]
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["model_type"] == "hifigan"  # by which it knows a vocoder from mel to audio
    assert properties["sample_rate"] == "22050"
    assert model.ir_version <= 9  # as ONNX Runtime 1.17 asks for, which sherpa-onnx had before 1.12.21


def test_weights_in_float16_in_sherpa_onnx(tmp_path: Path) -> None:
    checkpoint, mel = Checkpoint(models.MEL_CONFIG, models.generator("hifigan")), models.mel(131)[0].numpy()
    whole, rounded = tmp_path / "float32.onnx", tmp_path / "float16.onnx"
    export_onnx(checkpoint, whole, "sherpa-onnx")
    export_onnx(checkpoint, rounded, "sherpa-onnx", "float16")
    weights = sum(parameter.numel() for parameter in models.generator_of(checkpoint).parameters())
    saved = whole.stat().st_size - rounded.stat().st_size
    assert 0.75 * 2 * weights < saved < 2 * weights  # two bytes each, but for small tensors
    audio, expected = speak(tmp_path, rounded, mel, models.MEL_CONFIG.sample_rate), Vocoder(checkpoint)(mel)
    assert 1e-4 < difference(audio, expected) < 1e-2  # rounded they are
    assert 10 * np.log10(np.square(expected).sum() / np.square(audio - expected).sum()) > 50


def test_here_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export_onnx(Checkpoint(models.MEL_CONFIG, models.generator("hifigan")), Path("x.onnx"), "sherpa-onnx")
    np.save("mel.npy", models.mel(5)[0].numpy())
    before = files(tmp_path)
    assert vocode(["mel.npy", "-m", "x.onnx", "-o", "out.wav"]) == 2
    text = capsys.readouterr()
    assert text.out == ""
    assert text.err == ("vocode: x.onnx was exported for sherpa-onnx; export it without --target to run it here\n")
    assert files(tmp_path) == before


def test_a_model_that_cannot_estimate_its_f0_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Checkpoint(models.MEL_CONFIG, models.generator("wavehax")), Path("wavehax.safetensors"))
    before = files(tmp_path)
    assert vocoders_command(["export", "wavehax.safetensors", "--target", "sherpa-onnx", "-o", "x.onnx"]) == 2
    text = capsys.readouterr()
    assert text.out == ""
    assert text.err.count("\n") == 1
    assert "gives a model the mel alone; this one needs f0" in text.err
    assert files(tmp_path) == before
