"""Mels of another scale are recognised, right ones are not, and the remedy gives the right mel when it is pasted."""

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from tests.support import ROOT, signals
from vocoders import MEL_CONFIGS, MelConfig
from vocoders.dsp.analysis import analyze
from vocoders.dsp.diagnosis import diagnose
from vocoders.dsp.mel import convert_mel
from vocoders.io.audio import resample

SPEECH = ("0000", "0001", "0002")  # of three speakers
HIFIGAN = MEL_CONFIGS["hifigan-22k"]
CONFIGS = [HIFIGAN, MEL_CONFIGS["bigvgan-24k"], MEL_CONFIGS["openvpi-44k"], MEL_CONFIGS["pwg-ljspeech-22k"]]
DB = np.log(10) / 20


@cache
def mel(name: str, mel_config: MelConfig) -> np.ndarray:
    if name in SPEECH:
        audio, rate = soundfile.read(ROOT / "docs" / "listen" / f"{name}-0-recording.flac", dtype="float32")
    else:
        rate = 24000
        audio = SOUNDS[name](rate).astype(np.float32)
    return analyze(resample(audio, rate, mel_config.sample_rate), mel_config)


def chord(rate: int) -> np.ndarray:
    """Four struck strings, one after the other, over a little noise."""
    t = np.arange(rate // 2) / rate
    notes = [
        sum(0.3 / k * np.sin(2 * np.pi * f * k * t) * np.exp(-3 * k * t) for k in range(1, 9)) for f in (220, 277, 330)
    ]
    return np.concatenate(notes) + 1e-4 * signals.noise(rate, 1.5)[: 3 * len(t)]


SOUNDS: dict[str, Callable[[int], np.ndarray]] = {
    "chord": chord,
    "voice": lambda rate: signals.voice(rate, 1.5),
    "saw": lambda rate: 0.5 - (220 * np.arange(rate) / rate) % 1,
    "noise": lambda rate: signals.noise(rate, 1.0),
    "digital zeros": lambda rate: np.zeros(rate),
    "between zeros": lambda rate: np.pad(signals.voice(rate, 1.0), rate // 2),
}


@pytest.mark.parametrize("name", MEL_CONFIGS)
def test_right_mels_are_not_suspected(name: str) -> None:
    mel_config = MEL_CONFIGS[name]
    louder = 1.386 / mel_config.natural_log_magnitude(np.ones(1))[0]  # 12 dB
    for sound in (*SPEECH, *SOUNDS):
        values = mel(sound, mel_config)
        assert diagnose(values, mel_config) is None, sound
        if sound in SPEECH:
            assert diagnose(values + louder, mel_config) is None, sound
            assert diagnose(np.maximum(values - 2 * louder, mel_config.log_floor), mel_config) is None, sound
            for begin in range(0, values.shape[1] - 20, 97):
                assert diagnose(values[:, begin : begin + 20], mel_config) is None, (sound, begin)


def undone(wrong: np.ndarray, mel_config: MelConfig, **names: np.ndarray) -> list[np.ndarray]:
    """What each remedy makes of a mel, pasted as it stands in the sentence."""
    diagnosis = diagnose(wrong, mel_config)
    assert diagnosis is not None
    voc = SimpleNamespace(convert=lambda mel, text: convert_mel(mel, MelConfig.parse(text), mel_config))
    results = []
    for part in str(diagnosis).split(", or like "):
        scope = {"np": np, "voc": voc, "mel": wrong, **names}
        exec(part.split("; to convert it: ")[1], scope)
        results.append(np.asarray(scope["mel"]))
    return results


# From natural logarithms of the magnitude; what the sentence calls it; lowest value that is kept.
WRONG: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str, float]] = {
    "+-4": (lambda x: ((x / DB + 30) / 12.5).clip(-4, 4), "normalised from 100 dB to -4 to 4", -80 * DB),
    "+-1": (lambda x: ((x / DB + 30) / 50).clip(-1, 1), "normalised from 100 dB to -1 to 1", -80 * DB),
    "0-4": (lambda x: ((x / DB + 80) / 25).clip(0, 4), "normalised from 100 dB to 0 to 4", -80 * DB),
    "0-1": (lambda x: ((x / DB + 80) / 100).clip(0, 1), "normalised from 100 dB to 0 to 1", -80 * DB),
    "-12-2": (lambda x: (x.clip(-12, 2) + 12) / 7 - 1, "normalised from -12 to 2", -12),
    "standardised": (lambda x: (x + 5.536622) / 2.116101, "by mean and deviation, as by Matcha-TTS", -50),
    "decibels": (lambda x: x / DB, "decibels", -50),
    "linear": (np.exp, "a linear mel", -50),
    "log1p": (lambda x: np.log1p(np.exp(x)), "log1p of a linear mel", -50),
    "16 bit": (lambda x: x + np.log(32768), "16-bit integers", -50),
}


@pytest.mark.parametrize("mel_config", CONFIGS, ids=lambda mel_config: mel_config.name)
@pytest.mark.parametrize("kind", WRONG)
def test_another_scale_is_named_and_undone(kind: str, mel_config: MelConfig) -> None:
    scale, called, lowest = WRONG[kind]
    unit = mel_config.natural_log_magnitude(np.ones(1))[0]
    for sound in SPEECH:
        right = mel(sound, mel_config).astype(np.float64) * unit
        wrong = scale(right)
        assert called in str(diagnose(wrong, mel_config)), sound
        expected = right.clip(lowest)
        if kind in ("+-4", "+-1", "0-4", "0-1", "-12-2"):
            loud = {"-12-2": 2.0}.get(kind, 20 * DB)
            expected = expected.clip(None, loud)
        errors = [np.abs(result * unit - expected).max() for result in undone(wrong, mel_config)]
        assert min(errors) < 1e-3, (sound, errors)


@pytest.mark.parametrize("mel_config", CONFIGS, ids=lambda mel_config: mel_config.name)
def test_another_logarithm_or_floor_is_a_mel_config(mel_config: MelConfig) -> None:
    for sound in SPEECH:
        right = mel(sound, mel_config).astype(np.float64)
        other = 1 / np.log(10) if mel_config.log == "ln" else np.log(10)
        (result,) = undone(right * other, mel_config)
        np.testing.assert_allclose(result, right, atol=1e-5)
    if mel_config.log == "ln":
        cut = mel(SPEECH[0], mel_config).clip(np.log(0.01))
        assert "a higher floor" in str(diagnose(cut, mel_config))
        assert "log10" not in str(diagnose(cut, mel_config))
        np.testing.assert_array_equal(undone(cut, mel_config)[0], cut)
    lower = mel_config.model_copy(update={"floor": mel_config.floor / 1000})
    audio = np.concatenate([signals.voice(mel_config.sample_rate, 1.0), np.zeros(mel_config.sample_rate // 4)])
    assert "a lower floor" in str(diagnose(analyze(audio.astype(np.float32), lower), mel_config))


@pytest.mark.parametrize("mel_config", CONFIGS, ids=lambda mel_config: mel_config.name)
def test_what_was_normalised_by_band(mel_config: MelConfig) -> None:
    for sound in SPEECH:
        right = mel(sound, mel_config)
        mean, std = right.mean(1), right.std(1) + 1e-3  # bands above the recording are constant
        wrong = (right - mean[:, None]) / std[:, None]
        assert "normalised in each band" in str(diagnose(wrong, mel_config))
        np.testing.assert_allclose(undone(wrong, mel_config, mean=mean, std=std)[0], right, atol=1e-4)

        linear = np.exp(mel_config.natural_log_magnitude(right))
        smooth = np.empty_like(linear)  # PCEN with the defaults of librosa
        state = linear[:, 0]
        for t in range(linear.shape[1]):
            state = smooth[:, t] = 0.975 * state + 0.025 * linear[:, t]
        pcen = (linear / (1e-6 + smooth) ** 0.98 + 2) ** 0.5 - 2**0.5
        assert "which nothing undoes: vocode recording.wav -o mel.npz" in str(diagnose(pcen, mel_config))


def test_the_text_of_a_mel_config_makes_it_again() -> None:
    for mel_config in (
        *MEL_CONFIGS.values(),
        MelConfig.parse("vocos-24k:log=log10,floor=1e-10,window=hann-symmetric"),
        MelConfig(sample_rate=8000, n_fft=128, hop_length=32, win_length=128, n_mels=20, fmin=0.5, fmax=4000, power=2),
    ):
        assert MelConfig.parse(mel_config.text) == mel_config
    assert MelConfig.parse("hifigan-22k:log=log10").text == "hifigan-22k:log=log10"
    assert HIFIGAN.text == "hifigan-22k"
