"""Vocoder: kinds and shapes, chunks, lists, bad input, and where models come from."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vocoders.dsp.analysis
import vocoders.inference.stream
import vocoders.inference.vocoder
import vocoders.pretrained
from tests.support import DATA, models, signals
from vocoders import MEL_CONFIGS, LogMelSpectrogram, MelMismatch, Vocoder, VocoderError, load
from vocoders.checkpoint import Checkpoint, save_checkpoint
from vocoders.errors import MelWarning
from vocoders.pretrained import MODELS


@pytest.fixture
def voc() -> Vocoder:
    return Vocoder(models.checkpoint())


def test_audio_is_of_the_kind_of_the_mel(voc: Vocoder) -> None:
    mel = models.mel(9, 2)
    tensor = voc(mel)
    array = voc(mel.numpy())
    assert isinstance(tensor, torch.Tensor)
    assert isinstance(array, np.ndarray)
    assert tensor.shape == array.shape == (2, 9 * 32)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert voc(mel[0]).shape == (9 * 32,)
    np.testing.assert_allclose(voc(mel[0].numpy()), array[0], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_any_float_is_accepted(voc: Vocoder, dtype: npt.DTypeLike) -> None:
    mel = models.mel(9)[0].half().numpy()
    np.testing.assert_array_equal(voc(mel.astype(dtype)), voc(mel.astype(np.float32)))


def test_layouts_that_are_not_contiguous(voc: Vocoder) -> None:
    mel = models.mel(9)[0].numpy()
    np.testing.assert_array_equal(voc(np.asfortranarray(mel)), voc(mel))
    np.testing.assert_array_equal(voc(mel[:, ::-1]), voc(mel[:, ::-1].copy()))


def test_the_seed_decides_the_noise(voc: Vocoder) -> None:
    mel = models.mel(9)
    assert torch.equal(voc(mel), voc(mel))
    assert torch.equal(voc(mel), voc(mel, seed=0))
    assert not torch.equal(voc(mel), voc(mel, seed=1))


def test_f0_is_estimated_unless_given(voc: Vocoder) -> None:
    mel = models.mel(9, 2)
    estimated = torch.cat([models.f0_estimator_of(voc).estimate(item).detach() for item in mel.split(1)])
    assert torch.equal(voc(mel), voc(mel, f0=estimated))
    torch.testing.assert_close(voc(mel, f0=estimated[:, 0].numpy()), voc(mel))
    assert not torch.equal(voc(mel), voc(mel, f0=torch.full((2, 9), 333.0)))
    without = Vocoder(Checkpoint(models.MEL_CONFIG, models.generator("hnmask")))
    without(mel, f0=estimated)
    with pytest.raises(VocoderError, match="needs f0 and has no estimator"):
        without(mel)


@pytest.mark.parametrize("name", models.NAMES)
@settings(max_examples=12, deadline=None)
@given(frames=st.integers(1, 60), chunk=st.integers(1, 40))
def test_chunked_equals_whole(name: str, frames: int, chunk: int) -> None:
    voc = Vocoder(models.checkpoint(name))
    mel = models.mel(frames, 2)
    whole = voc(mel)
    assert frames <= voc.generator.chunk_frames
    voc.generator.chunk_frames = chunk
    chunked = voc(mel)
    torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=0)


def test_a_generator_that_needs_the_whole_utterance_gets_it() -> None:
    model = models.generator("wavehax", framewise_norm=False)
    voc = Vocoder(Checkpoint(models.MEL_CONFIG, model, models.f0_estimator()))
    frames = model.chunk_frames + 30
    mel = models.mel(frames)
    expected = model(mel, f0=models.f0_estimator_of(voc).estimate(mel))[0]
    torch.testing.assert_close(voc(mel), expected)


@pytest.mark.parametrize("name", models.NAMES)
def test_a_list_of_any_lengths_equals_each_alone(name: str) -> None:
    voc = Vocoder(models.checkpoint(name))
    mels = [models.mel(n, seed=n)[0].numpy() for n in (1, 30, 7)]
    together = voc(mels)
    for mel, audio in zip(mels, together, strict=True):
        np.testing.assert_allclose(audio, voc(mel), atol=1e-5)
    with pytest.raises(VocoderError, match="3 mels, but 1 f0"):
        voc(mels, f0=[np.zeros(1)])


@pytest.mark.parametrize(
    ("mel", "message"),
    [
        (np.zeros(20, np.float32), "this one is 1-D"),
        (np.zeros((1, 1, 20, 5), np.float32), "this one is 4-D"),
        (np.zeros((20, 0), np.float32), "empty"),
        (np.zeros((0, 20, 4), np.float32), "empty"),
        (np.zeros((20, 4), np.int16), "must hold floats, this one holds int16"),
        (np.zeros((20, 4), np.complex64), "holds complex64"),
        (np.array([["a", "b"]]), "holds <U1"),
        (np.array([[{}, None]], dtype=object), "holds object"),
        (np.zeros((21, 5), np.float32), r"expects 20 bands \(custom\), this mel has 21: shape \(21, 5\); see"),
        (np.zeros((5, 20), np.float32), r"it looks transposed, \(frames, n_mels\): pass mel\.T"),
        (torch.zeros(3, 5, 20), r"looks transposed.*swapaxes"),
        (np.full((20, 4), np.nan, np.float32), "80 NaN or infinite values of 80"),
        (torch.tensor([[0.0] * 19 + [np.inf]]).T, "1 NaN or infinite values of 20"),
    ],
)
def test_bad_mels(voc: Vocoder, mel: Any, message: str) -> None:
    with pytest.raises(VocoderError, match=message) as caught:
        voc(mel)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("f0", "message"),
    [
        (np.zeros(5), "^f0 must hold one value per frame: expected 4, got 5$"),
        (np.zeros((2, 4)), r"expected shape \(4,\), got shape \(2, 4\)$"),
        (np.float32(100), r"expected shape \(4,\), got shape \(\)$"),
        (np.full(4, -1.0), "holds -1 to -1"),
        (np.full(4, 4001.0), "from 0 .* to 4000"),
        (np.full(4, np.nan), "in Hz"),
        (np.array(["a"] * 4), "dtype"),
    ],
)
def test_bad_f0(voc: Vocoder, f0: np.ndarray, message: str) -> None:
    with pytest.raises(VocoderError, match=message):
        voc(models.mel(4), f0=f0)


def test_f0_of_a_batch_has_its_shape(voc: Vocoder) -> None:
    with pytest.raises(VocoderError, match=r"one value per frame: expected shape \(3, 4\), got shape \(4,\)$"):
        voc(models.mel(4, 3), f0=np.zeros(4))


@pytest.mark.parametrize("seed", [-1, 1.5, "1", 2**63, np.float32(1), [1]])
def test_bad_seeds(voc: Vocoder, seed: Any) -> None:
    mel = models.mel(4)[0]
    for synthesize in (
        lambda: voc(mel, seed=seed),
        lambda: voc([mel], seed=seed),
        lambda: voc.synthesize(mel, seed=seed),
        lambda: voc.synthesize_batch([mel, mel], seeds=[0, seed]),
        lambda: voc.stream([mel], seed=seed),
        lambda: voc.open_stream(seed),
    ):
        with pytest.raises(VocoderError, match=r"^a seed must be a whole number from 0 to 2\^63 - 1, got "):
            synthesize()


def test_seeds_of_every_kind_of_whole_number(voc: Vocoder) -> None:
    mel = models.mel(4)
    number: Any = np.int64(7)
    assert torch.equal(voc(mel, seed=number), voc(mel, seed=7))
    assert torch.equal(voc(mel, seed=None), voc(mel, seed=0))
    assert torch.isfinite(voc(mel, seed=2**63 - 1)).all()


def test_unusual_values_warn(voc: Vocoder) -> None:
    with pytest.warns(MelWarning, match="looks like a linear mel"):
        voc(np.exp(models.mel(9)[0].numpy()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        voc(models.mel(9).clamp_min(np.log(1e-5)))


def test_analysis_is_the_front_end_in_float64(voc: Vocoder) -> None:
    audio = np.random.default_rng(0).standard_normal(960).astype(np.float32) * 0.1
    mel = voc.analyze(audio, 8000)
    assert mel.shape == (20, 30)
    assert mel.dtype == np.float32
    exact = LogMelSpectrogram(voc.mel_config, torch.float64)(torch.from_numpy(audio).double())
    np.testing.assert_array_equal(mel, exact.float().numpy())
    assert torch.equal(voc.analyze(torch.from_numpy(audio), 8000), torch.from_numpy(mel))


def test_audio_of_another_rate_is_resampled(voc: Vocoder) -> None:
    time = np.arange(48_000) / 48_000
    audio = 0.3 * np.sin(2 * np.pi * 700 * time).astype(np.float32)
    mel = voc.analyze(audio, 48_000)
    assert mel.shape == (20, 250)
    at_8000_hz = voc.analyze(np.ascontiguousarray(audio[::6]), 8000)
    loud = at_8000_hz > at_8000_hz.max() - 4
    assert np.abs(mel - at_8000_hz)[:, 5:-5][loud[:, 5:-5]].max() < 0.01
    double = voc.mel_config.model_copy(update={"sample_rate": 16_000, "fmax": 8000})
    assert voc.analyze(torch.from_numpy(audio), 48_000, double).shape == (20, 500)


def test_long_audio_is_analysed_in_blocks(voc: Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    audio = torch.randn(2, 9_999, generator=torch.Generator().manual_seed(0)) * 0.1
    whole = voc.analyze(audio, 8000)
    monkeypatch.setattr(vocoders.dsp.analysis, "_BLOCK", 1000)
    torch.testing.assert_close(voc.analyze(audio, 8000), whole, atol=1e-6, rtol=0)


def test_analysis_refuses_what_is_no_audio(voc: Vocoder) -> None:
    audio: Any
    for audio, message in (
        (np.zeros(960, np.int16), "must hold floats in .* holds int16"),
        (np.zeros(31, np.float32), "shorter than one frame: 31 samples at 8000 Hz, a frame has 32"),
        (np.float32(0), "shorter than one frame"),
        (np.full(960, np.nan, np.float32), "NaN or infinite samples"),
    ):
        with pytest.raises(VocoderError, match=message):
            voc.analyze(audio, 8000)


def test_analysis_refuses_what_is_no_rate_and_no_mel_config(voc: Vocoder) -> None:
    audio = np.zeros(960, np.float32)
    rates: tuple[Any, ...] = ("8000", None, 0, -1, np.nan, np.inf)
    for rate in rates:
        with pytest.raises(VocoderError, match="the sample rate must be a positive number, in Hz; got "):
            voc.analyze(audio, rate)
    fields: Any = models.MEL_CONFIG.model_dump()
    with pytest.raises(VocoderError, match="a MelConfig or a name such as 'hifigan-22k', got dict"):
        voc.analyze(audio, 8000, fields)
    for unknown in ("nobody-22k", ""):
        with pytest.raises(VocoderError, match=f"unknown mel config '{unknown}'; known: hifigan-22k"):
            voc.analyze(audio, 8000, unknown)


@pytest.mark.parametrize("name", ["hnmask", "hifigan"])
def test_pieces_of_bounded_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    voc = Vocoder(models.checkpoint(name))
    mel, f0 = models.mel(200)[0].numpy(), models.f0(200)[0, 0].numpy()
    expected = voc(mel, f0, 3)
    monkeypatch.setattr(voc.generator, "chunk_frames", 32)
    assert voc.frames_at_once == 64
    assert voc.facts.lookahead is not None
    pieces = list(voc.synthesize(mel, f0, 3))
    assert 0 < min(map(len, pieces)) <= max(map(len, pieces)) <= (32 + voc.facts.lookahead) * 32
    np.testing.assert_allclose(np.concatenate(pieces), expected, atol=1e-5)
    assert len(list(voc.synthesize(mel[:, :64]))) == 1
    with pytest.raises(VocoderError, match="looks transposed"):
        voc.synthesize(mel.T)


def test_a_warning_names_the_line_of_the_caller(voc: Vocoder) -> None:
    linear = np.exp(models.mel(9)[0].numpy())
    for argument in (linear, [linear]):
        with pytest.warns(MelWarning) as caught:
            voc(argument)
        assert caught[0].filename == __file__


def test_audio_that_is_not_finite_is_no_result(voc: Vocoder) -> None:
    with pytest.warns(MelWarning), pytest.raises(VocoderError, match="output is not finite"):
        voc(np.full((20, 4), 1e30, np.float32))


def test_audio_can_be_used_with_autograd(voc: Vocoder) -> None:
    weight = torch.ones(1, requires_grad=True)
    (weight * voc(models.mel(5))).sum().backward()
    assert weight.grad is not None


def test_the_built_in_voice_in_a_batch_equals_each_alone() -> None:
    """Its F0 is estimated item by item: rounding that depends on the batch would add up in the phase."""
    voc = load()
    hello = np.load(DATA / "hello.npz")["mel"]
    batch = np.stack([hello[:, :200], hello[:, 200:400], hello[:, 100:300]])
    together = voc(batch)
    for item, audio in zip(batch, together, strict=True):
        np.testing.assert_allclose(audio, voc(item), atol=1e-5)


def test_convert(voc: Vocoder) -> None:
    mel = models.mel(4)[0].numpy()
    decimal = models.MEL_CONFIG.model_copy(update={"log": "log10"})
    np.testing.assert_allclose(voc.convert(mel / np.log(10), decimal), mel.clip(np.log(1e-5)), atol=1e-5)
    assert isinstance(voc.convert(torch.from_numpy(mel), decimal), torch.Tensor)
    with pytest.raises(MelMismatch, match="hop_length 64 against 32"):
        voc.convert(mel, models.MEL_CONFIG.model_copy(update={"hop_length": 64}))


def test_mel_configs_by_name(voc: Vocoder) -> None:
    audio = signals.voice(24000, 0.2)
    by_name = voc.analyze(audio, 24000, "bigvgan-24k")
    np.testing.assert_array_equal(by_name, voc.analyze(audio, 24000, MEL_CONFIGS["bigvgan-24k"]))
    ours = load()
    mel = np.load(DATA / "hello.npz")["mel"]
    np.testing.assert_allclose(ours.convert(mel / np.log(10), "hifigan-22k:log=log10"), mel, atol=1e-5)
    with pytest.raises(MelMismatch, match="n_mels 100 against 80"):
        ours.convert(by_name, "bigvgan-24k")
    with pytest.raises(VocoderError, match="unknown mel config 'hifi'"):
        ours.convert(mel, "hifi")


def test_the_built_in_voice() -> None:
    for voc in (load(), load(backend="torch")):
        assert voc.name == "hnmask-22k"
        assert voc.mel_config.name == "hifigan-22k"
        assert voc.sample_rate == 22050
        assert voc.facts.estimated == ("f0",)
        assert load(voc.name).training == voc.training
    assert {path.suffix for path in MODELS.glob("hnmask-22k.*")} == {".md", ".onnx", ".safetensors"}
    for path in MODELS.iterdir():
        assert path.stat().st_size < 7e6


def test_load_from_a_path_and_from_the_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.safetensors"
    save_checkpoint(models.checkpoint(), path)
    mel = models.mel(5)
    expected = load(path)(mel)
    # The layout of huggingface_hub's cache: refs name a commit, snapshots hold its files.
    repository = tmp_path / "hub" / "models--some--voice"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    shutil.copy(path, snapshot / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert torch.equal(load("some/voice")(mel), expected)
    with pytest.raises(VocoderError, match="'some/other' is no local file, not in the local cache"):
        load("some/other")
    with pytest.raises(VocoderError, match="cannot load 'a--b/c' from the Hugging Face hub"):
        load("a--b/c")


def test_unknown_models(tmp_path: Path) -> None:
    with pytest.raises(
        VocoderError, match=r"unknown model 'nobody': neither a file, nor a built-in model .*hnmask-22k"
    ):
        load("nobody")
    with pytest.raises(VocoderError, match="there is no checkpoint"):
        load(tmp_path / "gone.safetensors")
    path = tmp_path / "pitch.safetensors"
    save_checkpoint(Checkpoint(models.MEL_CONFIG, f0_estimator=models.f0_estimator()), path)
    with pytest.raises(VocoderError, match="holds no generator, only an F0 estimator"):
        load(path)


def test_folders_are_no_models_and_no_repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vocoders.pretrained, "_from_hub", lambda name: pytest.fail("asks the hub"))
    for name in ("docs", "docs/sub", "docs.safetensors"):
        Path(name).mkdir()
        with pytest.raises(VocoderError, match=f"^{name} holds no model: it "):
            load(name)
    Path("docs.onnx").mkdir()
    with pytest.raises(VocoderError, match=r"^docs\.onnx holds no model: it is empty$"):
        load("docs.onnx")
    with pytest.raises(VocoderError, match=r"there is no file docs/foo; .* only where no folder 'docs' is here"):
        load("docs/foo")


def test_unknown_precisions(tmp_path: Path) -> None:
    unknown: Any = "bf16"
    some: tuple[Any, ...] = (None, tmp_path / "gone.onnx")
    for model in some:
        with pytest.raises(VocoderError, match=r"^unknown precision 'bf16'; known: float32, bfloat16$"):
            load(model, precision=unknown)
    with pytest.raises(VocoderError, match="unknown precision 'float16'"):
        Vocoder(models.checkpoint(), precision="float16")  # type: ignore[arg-type]


def test_unknown_devices(voc: Vocoder) -> None:
    with pytest.raises(VocoderError, match="device 'gpu' cannot be used here"):
        voc.to("gpu")
    with pytest.raises(VocoderError, match="device 'meta' cannot be used here"):
        voc.to("meta")
    if not torch.cuda.is_available():
        with pytest.raises(VocoderError, match="device 'cuda' cannot be used here"):
            voc.to("cuda")


def test_a_gpu_takes_longer_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    voc = Vocoder(models.checkpoint())
    before = voc.chunk_frames
    assert before == voc.generator.chunk_frames
    monkeypatch.setattr(Vocoder, "device", torch.device("cuda"))
    assert voc.chunk_frames == 4 * before
