"""The detectors of tones and of clicks against tones and clicks."""

import numpy as np
import pytest
import torch

from recipes.evaluation.artifacts import Click, Line, clicks, stationary_lines
from recipes.evaluation.griffin_lim import griffin_lim
from recipes.evaluation.metrics import Signal
from recipes.evaluation.metrics.signal import levels
from tests.support import signals
from vocoders import load
from vocoders.dsp.mel import MEL_CONFIGS

RATE = 22050
MEL_CONFIG = MEL_CONFIGS["hifigan-22k"]


def lines(real: np.ndarray, fake: np.ndarray, rate: int = RATE) -> list[Line]:
    return stationary_lines(Signal(real.astype(np.float32), rate), Signal(fake.astype(np.float32), rate))


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
@pytest.mark.parametrize("hz", [1234.0, 3000.0, 6890.6])
def test_a_faint_steady_tone_is_found(hz: float, rate: int) -> None:
    real = signals.speech(rate)
    result = lines(real, signals.speech(rate, 1) + signals.sine(rate, hz, -60, 2.4), rate)
    assert len(result) == 1
    assert result[0].hz == pytest.approx(hz, abs=12)
    assert result[0].excess_db > 15


def test_stripes_at_multiples_of_the_frame_rate_are_found() -> None:
    """What transposed convolutions and inverse STFTs of few bins leave behind, loud where the signal is."""
    real = signals.speech(RATE)
    stripes = np.arange(12, 120, 9) * RATE / 256
    loudness = 10 ** (np.interp(np.arange(len(real)), np.arange(481) * 110.25, levels(real, RATE)) / 20)
    pattern = sum(signals.sine(RATE, hz, -25, 2.4) for hz in stripes)
    for fake in (real + loudness * pattern, real + 0.02 * pattern):
        assert [line.hz for line in lines(real, fake)] == pytest.approx(stripes, abs=12)


def test_all_multiples_of_the_frame_rate_are_found() -> None:
    real = signals.noise(RATE, 2.0)
    stripes = np.arange(10, 120) * RATE / 256
    fake = signals.noise(RATE, 2.0, seed=1) + sum(signals.sine(RATE, hz, -30, 2.0) for hz in stripes)
    assert [line.hz for line in lines(real, fake)] == pytest.approx(stripes, abs=12)


def test_what_was_recorded_is_no_line() -> None:
    speech = signals.speech(RATE)
    hum = sum(signals.sine(RATE, 50 * k, -45 - k, 2.4) for k in (1, 2, 3, 5))
    real = speech + hum
    assert lines(real, real) == []
    assert lines(real, signals.speech(RATE, 1) + hum) == []
    assert lines(real, 4 * real) == []  # louder as a whole
    assert lines(real, speech) == []  # and losing it is no line either
    assert [round(line.hz, -1) for line in lines(speech, real)] == [50, 100, 150, 250]


def test_noise_and_sustained_voice_are_no_lines() -> None:
    for seconds in (1.0, 2.0, 4.0):
        noises = [signals.noise(RATE, seconds, seed=seed) for seed in (0, 1)]
        assert lines(noises[0], noises[1]) == []
    sung = signals.voice(RATE, 2.0, glide=0)
    assert lines(sung, signals.voice(RATE, 2.0, glide=0) + 1e-3 * signals.noise(RATE, 2.0, seed=3)) == []


def sharp(real: np.ndarray, fake: np.ndarray, rate: int = RATE) -> list[Click]:
    return clicks(Signal(real.astype(np.float32), rate), Signal(fake.astype(np.float32), rate))


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_jumps_are_found_where_they_are(rate: int) -> None:
    """A segment that does not join, and one that begins and ends in the middle of a wave."""
    real = signals.sine(rate, 300, -10) + 1e-3 * signals.noise(rate, 1.0)
    half, period = rate // 2, rate // 300
    skipped = np.concatenate([real[:half], real[half + period // 4 :], real[-(period // 4) :]])
    assert sharp(real, skipped, rate)[0].seconds == pytest.approx(0.5, abs=1e-3)
    part = real * (abs(np.arange(rate) - half - period // 3) < rate // 4)
    assert [click.seconds for click in sharp(0 * real, part, rate)] == pytest.approx([0.251, 0.751], abs=1e-3)
    late = np.cos(2 * np.pi * 300 * np.arange(rate) / rate) / 3
    assert sharp(real, late, rate)[0].seconds == pytest.approx(0, abs=1e-3)


def test_the_excess_of_a_click() -> None:
    """A sample off by a in silence is 10 log10(68 a^2 / 3) dBFS sharp: squares of 4, 6 and 4; silence counts as -80."""
    silence = np.zeros(RATE)
    click = silence.copy()
    click[5000] = 0.01
    (result,) = sharp(silence, click)
    assert result.seconds == pytest.approx(5000 / RATE)
    assert result.excess_db == pytest.approx(80 - 40 + 13.55, abs=0.01)
    assert sharp(click, click) == []  # it was recorded
    assert sharp(click, -click) == []
    assert sharp(silence, 0.001 * click) == []  # under the noise of 16 bits


def test_what_is_no_click() -> None:
    """Pulses of a voice, the onset and the end of noise, a hiss louder than the recording's."""
    silence = np.zeros(RATE)
    pulses = silence.copy()
    pulses[1000:-1000:220] = 0.3
    assert [click.seconds for click in sharp(silence, pulses)] == []
    hiss = signals.noise(RATE, 1.0)
    assert sharp(silence, hiss * (abs(np.arange(RATE) - 9000) < 4000)) == []
    assert sharp(0.1 * signals.noise(RATE, 1.0, seed=1), hiss) == []


def test_copy_synthesis_has_neither() -> None:
    """Griffin-Lim and the built-in model, of what begins and ends near silence."""
    real = signals.speech(RATE)
    real = real[: len(real) // 256 * 256]
    voc = load()
    mel = voc.analyze(real, RATE)
    for fake in (voc(mel), griffin_lim(torch.from_numpy(mel), MEL_CONFIG).numpy()):
        assert lines(real, fake) == []
        assert sharp(real, fake) == []
