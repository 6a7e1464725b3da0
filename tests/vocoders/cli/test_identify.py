"""The mel config of a mel is found: exactly with its recording, mostly among the first two without."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import ROOT
from vocoders import MEL_CONFIGS, MelConfig
from vocoders.cli.vocoders import vocoders
from vocoders.dsp.analysis import analyze
from vocoders.dsp.evidence import Candidate, rank_mel_configs
from vocoders.inference.identification import EXPLAINED, fit_recording
from vocoders.io.audio import resample

TACOTRON = MEL_CONFIGS["tacotron2-22k"]


@cache
def recording(name: str = "0000") -> tuple[np.ndarray, int]:
    audio, rate = soundfile.read(ROOT / "docs" / "listen" / f"{name}-0-recording.flac", dtype="float32")
    return audio[: 4 * rate], rate


@cache
def mel_of(mel_config: MelConfig, name: str = "0000") -> np.ndarray:
    audio, rate = recording(name)
    return analyze(resample(audio, rate, mel_config.sample_rate), mel_config)


@pytest.mark.parametrize("name", MEL_CONFIGS)
def test_with_the_recording_every_named_mel_config_is_found(name: str) -> None:
    best = fit_recording(mel_of(MEL_CONFIGS[name]), *recording())[0]
    if name == "f5-tts-24k":  # no value of this mel reaches its floor, in which alone vocos-24k differs
        assert best.mel_config.differences(MEL_CONFIGS[name]).keys() <= {"floor"}
    else:
        assert best.mel_config.name == name
    assert (best.error < 1e-3, best.lag, best.expression) == (True, 0, None)


SCALES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normalised": lambda mel: (mel + 5.536622) / 2.116101,
    "normalised in each band": lambda mel: (mel - mel.mean(1, keepdims=True)) / mel.std(1, keepdims=True),
    "clipped": lambda mel: (mel * 20 / np.log(10) / 50 + 0.6).clip(-1, 1),
    "decibels": lambda mel: mel * 20 / np.log(10),
    "16-bit integers": lambda mel: mel + np.log(32768),
    "linear": np.exp,
    "trimmed": lambda mel: mel[:, 30:-40],
}


@pytest.mark.parametrize("scale", SCALES)
def test_scale_and_lag_are_found(scale: str) -> None:
    mel = mel_of(TACOTRON).astype(np.float64)
    given = SCALES[scale](mel)
    best = fit_recording(given, *recording())[0]
    assert best.mel_config.differences(TACOTRON).keys() <= {"floor"}
    assert best.error < 1e-3
    assert best.lag == (30 if scale == "trimmed" else 0)
    right = eval(best.expression or "mel", {"np": np, "mel": given})
    expected = mel[:, 30:-40] if scale == "trimmed" else mel
    inside = (given > given.min() + 0.01) & (given < given.max() - 0.01)
    np.testing.assert_allclose(right[inside], expected[inside], atol=0.01)


def test_another_log_is_a_mel_config() -> None:
    mel_config = MelConfig.parse("tacotron2-22k:log=log10")
    assert fit_recording(mel_of(mel_config), *recording())[0].mel_config == mel_config


def test_fields_are_searched() -> None:
    mel_config = MelConfig.parse("hifigan-22k:mel_scale=htk,mel_norm=none,fmax=7600")
    best = fit_recording(mel_of(mel_config), *recording())[0]
    assert best.error < EXPLAINED
    assert MelConfig.parse(best.mel_config.text).differences(mel_config).keys() <= {"epsilon"}


def found_at(candidates: list[Candidate], name: str) -> int:
    return next(i for i, found in enumerate(candidates) if name in (found.mel_config, *found.alike))


def test_without_the_recording_four_of_five_are_among_the_first_two() -> None:
    places = [
        found_at(rank_mel_configs(mel_of(mel_config, speaker)), name)
        for name, mel_config in MEL_CONFIGS.items()
        for speaker in ("0000", "0001", "0002")
    ]
    assert sum(place < 2 for place in places) >= 0.8 * len(places)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("mel.npy", mel_of(TACOTRON).T[None])
    soundfile.write("x.wav", *recording(), subtype="FLOAT")
    assert vocoders(["identify", "mel.npy"]) == 0
    assert "hifigan-22k, or tacotron2-22k" in capsys.readouterr().out
    assert vocoders(["identify", "mel.npy", "--audio", "x.wav", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["candidates"][0]["mel_config"] == "tacotron2-22k"
    convert, speak = result["command"].split(" && ")
    assert speak == "vocode mel.converted.npy --mel-config tacotron2-22k -o out.wav"
    exec(convert.removeprefix('python -c "').removesuffix('"'), {})
    np.testing.assert_array_equal(np.load("mel.converted.npy"), mel_of(TACOTRON))


BAD: dict[str, np.ndarray] = {
    "no mel": np.zeros(7, np.float32),
    "integers": np.zeros((80, 9), np.int64),
    "NaN": np.full((80, 9), np.nan, np.float32),
    "constant": np.zeros((80, 9), np.float32),
    "33 bands": np.random.default_rng(0).standard_normal((33, 90)),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "mel.npy", BAD[name])
    assert vocoders(["identify", str(tmp_path / "mel.npy")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_another_recording_is_refused_or_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "mel.npy", mel_of(TACOTRON))
    soundfile.write(tmp_path / "short.wav", recording()[0][:9000], recording()[1])
    assert vocoders(["identify", str(tmp_path / "mel.npy"), "--audio", str(tmp_path / "short.wav")]) == 2
    assert "is it the recording" in capsys.readouterr().err
