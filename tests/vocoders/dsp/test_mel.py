"""MelConfig, conversion, and parity of the front-end with librosa in float64."""

import warnings
from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import pytest
import torch

from tests.support import signals
from vocoders import LogMelSpectrogram, MelConfig, MelMismatch, MelWarning, VocoderError
from vocoders.dsp.analysis import analyze
from vocoders.dsp.diagnosis import diagnose
from vocoders.dsp.mel import MEL_CONFIGS, convert_mel, mel_filter_bank

# sample_rate, n_fft, hop, win, n_mels, fmin, fmax, scale, norm, power, padding, log, floor, epsilon, and the window
# where it is not "hann"
FACTS: dict[str, tuple[Any, ...]] = {
    "hifigan-22k": (22050, 1024, 256, 1024, 80, 0, 8000, "slaney", "slaney", 1, "same", "ln", 1e-5, 1e-9),
    "tacotron2-22k": (22050, 1024, 256, 1024, 80, 0, 8000, "slaney", "slaney", 1, "center", "ln", 1e-5, 0),
    "nemo-22k": (
        *(22050, 1024, 256, 1024, 80, 0, 8000, "slaney", "slaney", 1, "same-zeros", "ln", 1e-5, 0),
        "hann-symmetric",
    ),
    "nemo-44k": (
        *(44100, 2048, 512, 2048, 80, 0, 22050, "slaney", "slaney", 1, "same-zeros", "ln", 1e-5, 0),
        "hann-symmetric",
    ),
    "speechbrain-16k": (16000, 1024, 256, 1024, 80, 0, 8000, "slaney", "slaney", 1, "center", "ln", 1e-5, 0),
    "bigvgan-22k": (22050, 1024, 256, 1024, 80, 0, 11025, "slaney", "slaney", 1, "same", "ln", 1e-5, 1e-9),
    "bigvgan-44k-256": (44100, 1024, 256, 1024, 128, 0, 22050, "slaney", "slaney", 1, "same", "ln", 1e-5, 1e-9),
    "gpt-sovits-32k": (32000, 1280, 320, 1280, 100, 0, 16000, "slaney", "slaney", 1, "same", "ln", 1e-5, 1e-8),
    "f5-tts-24k": (24000, 1024, 256, 1024, 100, 0, 12000, "htk", "none", 1, "center", "ln", 1e-5, 0),
    "bigvgan-24k": (24000, 1024, 256, 1024, 100, 0, 12000, "slaney", "slaney", 1, "same", "ln", 1e-5, 1e-9),
    "bigvgan-44k": (44100, 2048, 512, 2048, 128, 0, 22050, "slaney", "slaney", 1, "same", "ln", 1e-5, 1e-9),
    "openvpi-44k": (44100, 2048, 512, 2048, 128, 40, 16000, "slaney", "slaney", 1, "same", "ln", 1e-5, 0),
    "vocos-24k": (24000, 1024, 256, 1024, 100, 0, 12000, "htk", "none", 1, "center", "ln", 1e-7, 0),
    "espnet-24k": (24000, 2048, 300, 1200, 80, 80, 7600, "slaney", "slaney", 1, "center", "log10", 1e-10, 0),
    "pwg-ljspeech-22k": (22050, 1024, 256, 1024, 80, 80, 7600, "slaney", "slaney", 1, "center", "log10", 1e-10, 0),
    "speecht5-16k": (16000, 1024, 256, 1024, 80, 80, 7600, "slaney", "slaney", 1, "center", "log10", 1e-10, 0),
    "audioldm-16k": (16000, 1024, 160, 1024, 64, 0, 8000, "slaney", "slaney", 1, "center", "ln", 1e-5, 0),
    "cleanmel-16k": (16000, 512, 128, 512, 80, 0, 8000, "slaney", "slaney", 2, "center", "ln", 1e-5, 0),
    "cosyvoice2-24k": (24000, 1920, 480, 1920, 80, 0, 8000, "slaney", "slaney", 1, "same", "ln", 1e-5, 1e-9),
    "wavehax-24k": (24000, 1024, 240, 1024, 100, 0, 8000, "slaney", "slaney", 1, "same-zeros", "ln", 1e-5, 0),
}


def reference(audio: np.ndarray, facts: tuple[Any, ...]) -> np.ndarray:
    """The log-mel by librosa, float64, from the figures of the mel config alone."""
    rate, n_fft, hop, win, n_mels, fmin, fmax, scale, norm, power, padding, log, floor, epsilon, *window = facts
    center = padding == "center"
    if not center:
        pad = (n_fft - hop) // 2
        audio = np.pad(audio, pad, mode="reflect" if padding == "same" else "constant")
    spectrum = librosa.stft(
        audio,
        n_fft=n_fft,
        hop_length=hop,
        win_length=win,
        window=np.hanning(win) if window else "hann",  # numpy's is the symmetric one
        center=center,
        pad_mode="reflect",
        dtype=np.complex128,
    )
    magnitude = np.sqrt(np.abs(spectrum) ** 2 + epsilon) ** power
    bank = librosa.filters.mel(
        sr=rate,
        n_fft=n_fft,
        n_mels=n_mels,
        fmin=fmin,
        fmax=fmax,
        htk=scale == "htk",
        norm=None if norm == "none" else norm,
        dtype=np.float64,
    )
    mel = np.maximum(bank @ magnitude, floor)
    return np.log(mel) if log == "ln" else np.log10(mel)


def test_the_table_of_mel_configs_is_complete() -> None:
    assert set(FACTS) == set(MEL_CONFIGS)
    for name, facts in FACTS.items():
        assert tuple(MEL_CONFIGS[name].model_dump().values()) == (*facts, "hann")[:15]
        assert MEL_CONFIGS[name].name == name


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("signal", [signals.noise, signals.chirp, signals.voice])
def test_parity_with_librosa_in_float64(name: str, signal: Callable[[int], np.ndarray]) -> None:
    audio = signal(FACTS[name][0])
    mel = LogMelSpectrogram(MEL_CONFIGS[name], torch.float64)(torch.from_numpy(audio)).numpy()
    expected = reference(audio, FACTS[name])
    assert mel.shape == expected.shape
    np.testing.assert_allclose(mel, expected, atol=1e-8)


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("signal", [signals.noise, signals.chirp, signals.voice])
def test_analysis_by_numpy_equals_librosa_and_the_module(name: str, signal: Callable[[int], np.ndarray]) -> None:
    """Also of the shortest audio, where the padding mirrors it more than once."""
    mel_config = MEL_CONFIGS[name]
    audio = signal(mel_config.sample_rate).astype(np.float32)
    np.testing.assert_allclose(analyze(audio, mel_config), reference(audio.astype(float), FACTS[name]), atol=1e-5)
    module = LogMelSpectrogram(mel_config, torch.float64)
    for samples in (mel_config.hop_length, 3 * mel_config.hop_length + 5):
        pair = np.stack([audio[:samples], audio[-samples:]])
        np.testing.assert_allclose(analyze(pair, mel_config), module(torch.from_numpy(pair)).numpy(), atol=1e-5)


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("signal", [signals.noise, signals.chirp, signals.voice])
def test_parity_with_librosa_in_float32(name: str, signal: Callable[[int], np.ndarray]) -> None:
    """Down to 70 dB below the loudest value, as the docstring has it; below, float32 rounds."""
    mel_config = MEL_CONFIGS[name]
    audio = signal(mel_config.sample_rate).astype(np.float32)
    mel = LogMelSpectrogram(mel_config)(torch.from_numpy(audio)).numpy()
    assert mel.dtype == np.float32
    expected = reference(audio.astype(np.float64), FACTS[name])
    decibels = expected * mel_config.power**-1 * (20 if mel_config.log == "log10" else 20 / np.log(10))
    near = decibels > decibels.max() - 70
    assert near.mean() > 0.03
    np.testing.assert_allclose(mel[near], expected[near], atol=1e-4)


@pytest.mark.parametrize("name", FACTS)
def test_number_of_frames(name: str) -> None:
    mel_config = MEL_CONFIGS[name]
    mel = LogMelSpectrogram(mel_config)
    for samples in (mel_config.hop_length, 7 * mel_config.hop_length - 1, 20 * mel_config.hop_length):
        expected = samples // mel_config.hop_length + (mel_config.padding == "center")
        assert mel(torch.randn(2, 3, samples)).shape == (2, 3, mel_config.n_mels, expected)


@pytest.mark.parametrize("win_length", [64, 50])
def test_the_windows_are_what_their_formulas_say(win_length: int) -> None:
    """An impulse in the middle of a frame comes through the window at its place: |STFT| is the window there."""
    mel_config = MelConfig.parse(f"nemo-22k:n_fft=64,hop_length=16,win_length={win_length},n_mels=4")
    for window, period in (("hann-symmetric", win_length - 1), ("hann", win_length)):
        changed = mel_config.model_copy(update={"window": window, "floor": 1e-12})
        linear = mel_filter_bank(changed).sum(1)
        for place in (32, 40, 57):
            audio = np.zeros(128, np.float32)
            audio[place - 24] = 1.0  # frame 0 begins 24 samples before the audio
            within = place - (64 - win_length) // 2
            value = 0.5 - 0.5 * np.cos(2 * np.pi * within / period) if 0 <= within < win_length else 0.0
            expected = np.log(np.maximum(value * linear, 1e-12))
            np.testing.assert_allclose(analyze(audio, changed)[:, 0], expected, atol=1e-4)
            module = LogMelSpectrogram(changed, torch.float64)
            np.testing.assert_allclose(module(torch.from_numpy(audio))[:, 0], expected, atol=1e-4)


def test_a_mel_of_another_window_is_another_mel() -> None:
    symmetric = MelConfig.parse("hifigan-22k:window=hann-symmetric")
    assert symmetric.differences(MEL_CONFIGS["hifigan-22k"]) == {"window": ("hann-symmetric", "hann")}
    with pytest.raises(MelMismatch, match="window hann-symmetric against hann"):
        convert_mel(np.zeros((80, 4)), symmetric, MEL_CONFIGS["hifigan-22k"])
    with pytest.raises(VocoderError, match="window"):
        MelConfig.parse("hifigan-22k:window=hamming")


def test_a_gradient_reaches_the_audio_and_autocast_changes_nothing() -> None:
    audio = torch.randn(1, 4096).mul_(0.1).requires_grad_()
    mel = LogMelSpectrogram(MEL_CONFIGS["hifigan-22k"])
    plain = mel(audio)
    (gradient,) = torch.autograd.grad(plain.sum(), audio)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).any()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mel(audio), plain)


def test_silence_has_the_floor_and_finite_gradients() -> None:
    audio = torch.zeros(1, 4096, requires_grad=True)
    for mel_config in MEL_CONFIGS.values():
        mel = LogMelSpectrogram(mel_config)(audio)
        if mel_config.epsilon == 0:
            assert torch.allclose(mel, torch.tensor(mel_config.log_floor))
        (gradient,) = torch.autograd.grad(mel.sum(), audio)
        assert torch.isfinite(gradient).all()


def test_filter_bank_equals_librosa() -> None:
    mel_config = MEL_CONFIGS["vocos-24k"]
    expected = librosa.filters.mel(
        sr=24000, n_fft=1024, n_mels=100, fmin=0, fmax=12000, htk=True, norm=None, dtype=float
    )
    np.testing.assert_allclose(mel_filter_bank(mel_config), expected, atol=1e-12)


def test_conversion_of_log_base_and_floor_is_exact() -> None:
    source = MEL_CONFIGS["hifigan-22k"]
    target = source.model_copy(update={"log": "log10", "floor": 1e-3})
    linear = np.geomspace(1e-5, 5, 80 * 7).reshape(80, 7)
    converted = convert_mel(torch.from_numpy(np.log(linear)), source, target)
    np.testing.assert_allclose(converted.numpy(), np.log10(np.maximum(linear, 1e-3)), atol=1e-12)
    back = convert_mel(converted, target, source)
    np.testing.assert_allclose(back.numpy(), np.log(np.maximum(linear, 1e-3)), atol=1e-12)
    same = torch.randn(80, 3)
    assert convert_mel(same, source, source) is same


def test_conversion_neither_overflows_nor_rounds() -> None:
    natural = MEL_CONFIGS["hifigan-22k"].model_copy(update={"floor": 1e-50})
    decimal = natural.model_copy(update={"log": "log10"})
    result = convert_mel(torch.tensor([-45.0, 0.0, 60.0]), decimal, natural)
    np.testing.assert_allclose(result.numpy(), np.log(10) * np.array([-45.0, 0.0, 60.0]), rtol=1e-6)


def test_a_mismatch_names_each_field_with_both_values() -> None:
    source, target = MEL_CONFIGS["hifigan-22k"], MEL_CONFIGS["bigvgan-24k"]
    with pytest.raises(MelMismatch) as caught:
        convert_mel(torch.zeros(80, 4), source, target)
    text = str(caught.value)
    with pytest.raises(MelMismatch) as caught:
        source.check_convertible(target)
    assert str(caught.value) == text
    source.check_convertible(source.model_copy(update={"log": "log10", "floor": 1e-3}))
    for part in ("sample_rate 22050 against 24000", "n_mels 80 against 100", "fmax 8000.0 against 12000.0"):
        assert part in text
    assert "hop_length" not in text
    assert "log " not in text


def test_parse() -> None:
    assert MelConfig.parse("hifigan-22k") == MEL_CONFIGS["hifigan-22k"]
    changed = MelConfig.parse("hifigan-22k:log=log10,floor=1e-10")
    assert changed.differences(MEL_CONFIGS["hifigan-22k"]) == {"log": ("log10", "ln"), "floor": (1e-10, 1e-5)}
    assert changed.name == "custom"
    with pytest.raises(VocoderError, match=r"unknown mel config 'hifigan'; known: hifigan-22k"):
        MelConfig.parse("hifigan")
    with pytest.raises(VocoderError, match="did you mean 'floor'"):
        MelConfig.parse("hifigan-22k:flor=1")
    with pytest.raises(VocoderError, match="fmax 99999"):
        MelConfig.parse("hifigan-22k:fmax=99999")
    for wrong in ("floor=inf", "epsilon=nan", "power=²", "power=3", "n_fft=1023", "n_fft=0", "fmax=abc", "log"):
        with pytest.raises(VocoderError, match="mel config 'hifigan-22k:"):
            MelConfig.parse(f"hifigan-22k:{wrong}")


def test_bands_without_a_bin_draw_a_warning() -> None:
    empty = MelConfig.parse("hifigan-22k:n_fft=400,win_length=400,hop_length=100,n_mels=128")
    with pytest.warns(MelWarning, match="of the 128 bands hold no bin of an FFT of 400") as caught:
        bank = mel_filter_bank(empty)
    assert str(caught[0].message).startswith(f"{(bank.max(1) == 0).sum()} of")
    better = MelConfig.parse(str(caught[0].message).rsplit(" ", 1)[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for mel_config in (*MEL_CONFIGS.values(), better):
            assert mel_filter_bank(mel_config).max(1).min() > 0


def test_what_a_mel_of_another_kind_looks_like() -> None:
    mel_config = MEL_CONFIGS["hifigan-22k"]
    audio = torch.from_numpy(np.concatenate([signals.voice(22050), signals.noise(22050) / 30, np.zeros(4000)]))
    mel = LogMelSpectrogram(mel_config, torch.float64)(audio).numpy()
    assert diagnose(mel, mel_config) is None
    assert diagnose(mel - 2.5, mel_config.model_copy(update={"floor": 1e-7})) is None
    for wrong, looks in ((np.exp(mel), "linear"), (mel / np.log(10), "log10"), (20 * mel / np.log(10), "decibels")):
        assert looks in str(diagnose(wrong, mel_config))
    decimal = mel_config.model_copy(update={"log": "log10"})
    assert diagnose(mel / np.log(10), decimal) is None
    assert "natural logarithm" in str(diagnose(mel, decimal))
