"""A mel is validated, converted and diagnosed by one function."""

from pathlib import Path

import numpy as np
import pytest

from tests.support import models
from vocoders import MEL_CONFIGS, MelConfig, MelMismatch, VocoderError
from vocoders.inference import checks
from vocoders.inference.checks import prepare_audio, prepare_mel

TARGET = models.MEL_CONFIG
DECIMAL = TARGET.model_copy(update={"log": "log10", "floor": 1e-10})
FLOOR = np.float32(TARGET.log_floor)


def mel(frames: int = 9, batch: int = 1) -> np.ndarray:
    return np.maximum(models.mel(frames, batch).numpy(), FLOOR)


def test_a_mel_of_the_model_is_not_changed() -> None:
    for values in (mel()[0], mel(9, 3)):
        for source in (None, TARGET):
            prepared = prepare_mel(values, TARGET, source)
            assert prepared.values is values
            assert prepared.warning is None


def test_another_log_base_and_floor_are_converted() -> None:
    values = mel(9, 2)
    prepared = prepare_mel(values / np.log(10), TARGET, DECIMAL)
    np.testing.assert_allclose(prepared.values, values, atol=1e-5)
    assert prepared.values.dtype == np.float32
    assert prepared.warning is None


def test_only_an_unstated_mel_config_is_diagnosed() -> None:
    linear = np.exp(mel()[0])
    assert "looks like a linear mel" in str(prepare_mel(linear, TARGET).warning)
    assert prepare_mel(linear, TARGET, TARGET).warning is None


def test_a_mismatch_is_refused_before_anything_else() -> None:
    with pytest.raises(MelMismatch, match="n_mels 80 against 20"):
        prepare_mel(np.zeros((80, 4), np.float32), TARGET, MEL_CONFIGS["hifigan-22k"])


@pytest.mark.parametrize("source", [None, TARGET, DECIMAL])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(20, np.float32), "this one is 1-D"),
        (np.zeros((20, 0), np.float32), "empty"),
        (np.zeros((20, 4), np.int16), "must hold floats, this one holds int16"),
        (np.zeros((5, 20), np.float32), r"it looks transposed, \(frames, n_mels\): pass mel\.T"),
        (np.full((20, 4), np.nan), "80 NaN or infinite values of 80"),
        (np.full((20, 4), 1e300), "80 NaN or infinite values of 80"),  # float32 cannot hold it
    ],
)
def test_bad_mels(values: np.ndarray, message: str, source: MelConfig | None) -> None:
    with pytest.raises(VocoderError, match=message):
        prepare_mel(values, TARGET, source)


def test_a_mapped_mel_stays_in_its_file_and_is_diagnosed_by_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "long.npy", mel(20_000)[0])
    mapped = np.load(tmp_path / "long.npy", mmap_mode="c")
    diagnosed = []
    monkeypatch.setattr(checks, "diagnose", lambda values, _: diagnosed.append(values.shape[-1]))
    assert np.shares_memory(prepare_mel(mapped, TARGET).values, mapped)
    assert 2000 < diagnosed[0] <= 4096
    prepare_mel(mel(4000)[0], TARGET)
    assert diagnosed[1] == 4000


@pytest.mark.parametrize("shape", [(16_000,), (2, 16_000), (2, 3, 1600)])
def test_audio_of_another_rate_is_resampled(shape: tuple[int, ...]) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(shape[-1]) / 16_000).astype(np.float32)
    audio = prepare_audio(np.broadcast_to(tone, shape), 16_000, TARGET)
    assert audio.shape == (*shape[:-1], shape[-1] // 2)
    expected = np.sin(2 * np.pi * 440 * np.arange(shape[-1] // 2) / 8000)
    np.testing.assert_allclose(audio[..., 100:-100], np.broadcast_to(expected, audio.shape)[..., 100:-100], atol=0.01)


def test_bad_audio() -> None:
    for rate in (0, -8000):
        with pytest.raises(VocoderError, match=f"sample rate must be a positive number, in Hz; got {rate}"):
            prepare_audio(np.zeros(100, np.float32), rate, TARGET)
    with pytest.raises(VocoderError, match="63 samples at 16000 Hz, a frame has 32 at 8000 Hz"):
        prepare_audio(np.zeros(63, np.float32), 16_000, TARGET)
    assert len(prepare_audio(np.zeros(64, np.float32), 16_000, TARGET)) == 32
    for kilohertz, hertz in ((22.05, 22050), (16, 16000), (44.1, 44100)):
        with pytest.raises(VocoderError, match=f"looks like kHz: pass {hertz}"):
            prepare_audio(np.zeros(10_000, np.float32), kilohertz, TARGET)  # type: ignore[arg-type]
    stereo = np.zeros((10_000, 2), np.float32)
    with pytest.raises(VocoderError, match=r"it looks like 2 channels, \(samples, channels\): pass audio.mean\(1\)"):
        prepare_audio(stereo, 8000, TARGET)
    assert prepare_audio(stereo.mean(1), 8000, TARGET).shape == (10_000,)
    assert prepare_audio(stereo.T, 8000, TARGET).shape == (2, 10_000)
    with pytest.raises(VocoderError, match=r"samples up to 20000, far beyond full scale, 1: pass audio / 32768"):
        prepare_audio(np.full(100, 20_000.0), 8000, TARGET)
