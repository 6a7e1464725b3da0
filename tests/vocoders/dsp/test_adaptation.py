"""Mels of one mel config, approximated by another: against the analysis itself, and piece by piece."""

import numpy as np
import pytest

from tests.support import signals
from vocoders import MEL_CONFIGS, MelConfig
from vocoders.dsp.adaptation import Adapter, MelApproximation, MelConversion, adapter
from vocoders.dsp.analysis import analyze
from vocoders.dsp.mel import mel_frequencies
from vocoders.io.audio import resample

TARGET = MEL_CONFIGS["bigvgan-24k"]


def audio_for(mel_config: MelConfig) -> np.ndarray:
    """Return two seconds of speech-like sound, with the lag of the mel config in front."""
    rate = mel_config.sample_rate
    sound = np.concatenate([signals.speech(48000), signals.noise(48000, 0.5) / 10]).astype(np.float32)
    return np.concatenate([np.zeros(mel_config.usual_lag), resample(sound, 48000, rate)]).astype(np.float32)


def without_lag(mel_config: MelConfig) -> np.ndarray:
    return audio_for(mel_config)[mel_config.usual_lag :]


@pytest.mark.parametrize("name", MEL_CONFIGS)
def test_every_named_mel_config_against_analysis(name: str) -> None:
    source = MEL_CONFIGS[name]
    approximated = MelApproximation(source, TARGET)(analyze(without_lag(source), source))
    lag = round(source.usual_lag * TARGET.sample_rate / source.sample_rate)
    late = np.concatenate([np.zeros(lag), without_lag(TARGET)]).astype(np.float32)
    exact = analyze(late, TARGET)
    frames = min(exact.shape[1], approximated.shape[1]) - 4
    centres = mel_frequencies(TARGET)[1:-1]
    bands = (centres > source.fmin + 100) & (centres < 0.9 * source.fmax)
    difference = approximated[bands, 4:frames] - exact[bands, 4:frames]
    # Windows much longer or shorter than 43 ms show another picture.
    near = 0.035 < source.win_length / source.sample_rate < 0.055
    assert np.abs(difference).mean() < (0.3 if near else 0.7)
    loud = exact[bands, 4:frames] > np.percentile(exact, 60)
    assert abs(difference[loud].mean()) < (0.1 if near else 0.3)  # neither louder nor softer


def test_steady_noise_keeps_its_level() -> None:
    for name in ("vocos-24k", "espnet-24k", "cleanmel-16k", "openvpi-44k", "cosyvoice2-24k"):
        source = MEL_CONFIGS[name]
        noise = resample(signals.noise(48000, 3.0).astype(np.float32) / 10, 48000, source.sample_rate)
        own = resample(signals.noise(48000, 3.0).astype(np.float32) / 10, 48000, 24000)
        approximated = MelApproximation(source, TARGET)(analyze(noise, source)).mean(1)
        exact = analyze(own, TARGET).mean(1)
        centres = mel_frequencies(TARGET)[1:-1]
        bands = (centres > 300) & (centres < 0.8 * min(source.fmax, 12000))
        assert np.abs(approximated - exact)[bands].max() < 0.25, name


def test_frames_lie_in_the_middle_of_their_hops() -> None:
    source = TARGET.model_copy(update={"hop_length": 512})
    ramp = np.tile(np.arange(10, dtype=np.float32) / 10 - 6, (100, 1))
    approximated = MelApproximation(source, TARGET)(ramp)
    assert approximated.shape == (100, 20)
    # Frame i of 256 samples lies at (i + 0.5) / 2 - 0.5 frames of 512.
    expected = ((np.arange(20) + 0.5) / 2 - 0.5).clip(0, 9) / 10 - 6
    np.testing.assert_allclose(approximated[50] - approximated[50, 0], expected - expected[0], atol=0.01)


def test_f0_of_other_frames() -> None:
    approximation = MelApproximation(TARGET.model_copy(update={"hop_length": 512}), TARGET)
    f0 = np.array([0, 0, 100, 120, 120, 0], np.float32)
    np.testing.assert_allclose(
        approximation.adapt_signal(f0, 0, 12), [0, 0, 0, 0, 100, 105, 115, 120, 120, 120, 0, 0], atol=1e-4
    )


@pytest.mark.parametrize("name", ["bigvgan-24k:log=log10", "vocos-24k", "espnet-24k", "cleanmel-16k", "openvpi-44k"])
def test_piece_by_piece_is_the_whole(name: str) -> None:
    source = MelConfig.parse(name)
    adapt = adapter(source, TARGET)
    assert isinstance(adapt, MelConversion if "log10" in name else MelApproximation)
    mel = analyze(without_lag(source), source)
    whole = adapt(mel)
    assert whole.shape == (100, adapt.frames(mel.shape[1]))
    np.testing.assert_allclose(pieces(adapt, mel, [1, 1, 2, 3, 5, 7, 30, 60]), whole, atol=1e-5)
    batch = adapt(np.stack([mel, mel[:, ::-1]]))
    np.testing.assert_allclose(batch[0], whole, atol=1e-5)


def pieces(adapt: Adapter, mel: np.ndarray, sizes: list[int]) -> np.ndarray:
    """Adapt a mel whose frames arrive, and keep only what later frames need."""
    made, come, first, done = [], 0, 0, 0
    waiting = mel[:, :0]
    while come < mel.shape[1]:
        size = sizes.pop(0) if sizes else 25
        waiting = np.concatenate([waiting, mel[:, come : come + size]], 1)
        come = min(come + size, mel.shape[1])
        end = adapt.frames(come) if come == mel.shape[1] else adapt.final_frames(come)
        made.append(adapt(waiting, done, end, first))
        done = end
        dropped = min(adapt.columns_before(end), come) - first
        waiting, first = waiting[:, dropped:], first + dropped
        assert waiting.shape[1] <= 3
    return np.concatenate(made, 1)
