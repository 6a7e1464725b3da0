"""Metrics against what is known by construction."""

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from recipes.data.f0_labels import F0_PERIOD
from recipes.evaluation.griffin_lim import griffin_lim
from recipes.evaluation.metrics import (
    HAS_PESQ,
    Signal,
    band_periodicity,
    compare,
    f0_metrics,
    log_mel_distance,
    mel_cepstral_distortion,
    periodicity_error,
    pesq_wide_band,
    stft_distance,
    texture,
    treble_difference,
)
from recipes.evaluation.metrics.noise import inner_frames, spread
from recipes.evaluation.metrics.periodicity import BANDS
from recipes.evaluation.metrics.signal import levels, measure_f0, mel_cepstrum, periodicity
from tests.support import signals
from vocoders import LogMelSpectrogram, MelConfig
from vocoders.dsp.mel import MEL_CONFIGS

RATE = 22050
MEL_CONFIG = MEL_CONFIGS["hifigan-22k"]
needs_pesq = pytest.mark.skipif(not HAS_PESQ, reason="needs the extra pesq")


def against_itself(change: np.ndarray | float = 0.0) -> dict[str, float]:
    real = signals.speech(RATE)
    return compare(Signal(real, RATE), Signal((real + change).astype(np.float32), RATE), MEL_CONFIG)


def test_a_recording_against_itself() -> None:
    output = against_itself()
    perfect = {"stoi": 1, "voicing_f1": 1, "noise_texture": 1, "voiced_texture": 1}
    for name, value in output.items():
        if name not in ("pesq", "silence_dbfs", *BANDS):
            assert value == pytest.approx(perfect.get(name, 0), abs=1e-6), name


@needs_pesq
def test_pesq() -> None:
    """Highest for a copy, 1.04 for silence, lower with noise, and not defined without speech."""
    clean, noisy, noisier = (against_itself(level * signals.noise(RATE, 2.4, seed=9)) for level in (0.0, 0.02, 0.2))
    assert clean["pesq"] > 4.6
    assert clean["pesq"] > noisy["pesq"] > noisier["pesq"]
    loud, silent = Signal(signals.speech(RATE)[:RATE], RATE), Signal(np.zeros(RATE, np.float32), RATE)
    assert pesq_wide_band(loud, silent) == 1.04
    assert np.isnan(pesq_wide_band(silent, silent))


def test_noise_makes_all_worse() -> None:
    clean, noisy, noisier = (against_itself(level * signals.noise(RATE, 2.4, seed=9)) for level in (0.0, 0.02, 0.2))
    for name in ("stoi", "voiced_texture", *BANDS):
        assert clean[name] > noisy[name] > noisier[name], name
    for name in ("log_mel_l1", "stft_distance", "mcd_db", "periodicity_error", "silence_dbfs"):
        assert clean[name] < noisy[name] < noisier[name], name


def test_what_is_not_defined_is_not_perfect() -> None:
    output = f0_metrics(np.full(9, 200.0), np.zeros(9))
    assert output["voicing_error"] == 1
    assert output["voicing_f1"] == 0
    assert np.isnan(output["gross_error"])
    assert np.isnan(output["f0_rmse_cents"])
    assert np.isnan(f0_metrics(np.zeros(9), np.zeros(9))["voicing_f1"])


def test_silence_and_what_is_too_short() -> None:
    silent = Signal(np.zeros(RATE, np.float32), RATE)
    output = compare(silent, silent, MEL_CONFIG)
    undefined = {"pesq", "stoi", "mcd_db", "periodicity_error", "noise_texture", "level_db", "voicing_f1"}
    undefined |= {"gross_error", "f0_rmse_cents", "above_mel_db", "voiced_texture", *BANDS}
    assert {name for name, value in output.items() if np.isnan(value)} == undefined
    assert output["silence_dbfs"] == -120
    for samples in (256, 1024, 4096):
        short = Signal(signals.speech(RATE)[:samples], RATE)
        output = compare(short, short, MEL_CONFIG)
        assert np.isnan(output["pesq"])
        assert np.isnan(output["stoi"])
        assert output["log_mel_l1"] == output["stft_distance"] == 0
    loud = Signal(signals.speech(RATE)[:RATE], RATE)
    output = compare(loud, Signal(np.zeros(RATE, np.float32), RATE), MEL_CONFIG)
    assert output["stoi"] < 0.1
    assert output["voicing_f1"] == output["noise_texture"] == 0
    assert output["level_db"] < -80
    assert np.isnan(output["silence_dbfs"])  # the recording never is


def test_f0_metrics_by_hand() -> None:
    reference = np.array([0, 0, 100, 100, 100, 100, 200, 200.0])
    estimate = np.array([0, 50, 0, 100, 200, 100 * 2 ** (12 / 1200), 200, 200])
    result = f0_metrics(reference, estimate)
    assert result["voicing_error"] == pytest.approx(2 / 8)
    precision, recall = 5 / 6, 5 / 6
    assert result["voicing_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert result["gross_error"] == pytest.approx(1 / 5)
    assert result["f0_rmse_cents"] == pytest.approx(np.sqrt(12**2 / 4))


def test_a_detuned_copy_is_off_by_as_many_cents() -> None:
    up = 2 ** (50 / 1200)
    real, fake = (signals.voice(RATE, 1.0, f0=hz, glide=0).astype(np.float32) for hz in (150, 150 * up))
    inside = slice(20, -20)
    f0_real, f0_fake = measure_f0(real, RATE)[inside], measure_f0(fake, RATE)[inside]
    assert f0_metrics(f0_real, f0_fake)["f0_rmse_cents"] == pytest.approx(50, abs=1)


def test_levels() -> None:
    real = signals.speech(RATE)
    output = compare(Signal(real, RATE), Signal(real / 2, RATE), MEL_CONFIG)
    half = 20 * np.log10(0.5)
    assert output["level_db"] == pytest.approx(half, abs=1e-4)
    assert output["mcd_db"] == pytest.approx(0, abs=0.05)  # which is blind to level
    # The last 0.2 s but for the 50 ms next to speech: noise of 0.1 * 1e-4.
    assert output["silence_dbfs"] == pytest.approx(-100 + half, abs=0.3)
    track = levels(signals.sine(RATE, 1000, 0).astype(np.float32), RATE)
    assert len(track) == 201
    assert track[10:-10] == pytest.approx(-3.01, abs=0.01)


def test_the_level_above_the_mel() -> None:
    """What the filter takes from above 8 kHz is what is missing there, and nothing is missing in all."""
    real = signals.noise(RATE, 1.0).astype(np.float32)
    spectrum = np.fft.rfft(real)
    spectrum[np.fft.rfftfreq(RATE, 1 / RATE) > 8000] /= 4
    dull = Signal(np.fft.irfft(spectrum).astype(np.float32), RATE)
    output = compare(Signal(real, RATE), dull, MEL_CONFIG)
    assert output["above_mel_db"] == pytest.approx(20 * np.log10(1 / 4), abs=0.2)
    assert output["log_mel_l1"] < 0.01
    hum = signals.sine(RATE, 1000, -6) * np.hanning(RATE)
    noise, low = Signal(real, RATE), Signal(hum.astype(np.float32), RATE)
    assert np.isnan(treble_difference(low, noise, 8000))  # nothing to compare with
    assert treble_difference(noise, low, 8000) < -60
    assert np.isnan(treble_difference(noise, dull, RATE / 2))


def test_stft_distance_of_half_the_signal() -> None:
    """|X - X / 2| / |X| = 1 / 2, and ln 2 apart; a loud signal stays clear of the floor under magnitudes."""
    real = signals.noise(RATE, 1.0).astype(np.float32)
    distance = stft_distance(Signal(real, RATE), Signal(real / 2, RATE))
    assert distance == pytest.approx(0.5 + np.log(2), abs=1e-4)


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_mel_cepstral_distortion_of_a_ripple(rate: int) -> None:
    """A ripple of 6 dB over the mel axis has a root mean square of 6 / sqrt(2) dB, whatever it is added to."""
    hz = np.linspace(0, rate / 2, 1025)
    mel = np.log1p(hz / 700) / np.log1p(8000 / 700)
    flat = np.exp(-hz / 3000)[None].repeat(3, 0)
    ripple = flat * 10 ** (6 * np.cos(np.pi * 7 * mel) / 10)
    far = flat * 10 ** (6 * np.cos(np.pi * 40 * mel) / 10)  # finer than order 24 resolves
    louder = flat * 100
    everywhere = np.ones(3, bool)
    for envelope, expected in ((ripple, 6 / np.sqrt(2)), (far, 0), (louder, 0)):
        output = mel_cepstral_distortion(mel_cepstrum(flat, rate), mel_cepstrum(envelope, rate), everywhere)
        assert output == pytest.approx(expected, abs=0.02)
    assert np.isnan(mel_cepstral_distortion(mel_cepstrum(flat, rate), mel_cepstrum(far, rate), ~everywhere))


def test_mel_cepstral_distortion_of_a_filter() -> None:
    """1 + 0.9 z^-1 over 1 - 0.5 z^-1, whose response is known: signal and formula agree."""
    real = signals.speech(RATE)
    fake = lfilter([1, 0.9], [1, -0.5], real)
    z = np.exp(-1j * np.pi * np.linspace(0, 1, 2049))
    response = np.abs((1 + 0.9 * z) / (1 - 0.5 * z)) ** 2
    one = np.ones(1, bool)
    expected = mel_cepstral_distortion(mel_cepstrum(np.ones((1, 2049)), RATE), mel_cepstrum(response[None], RATE), one)
    a, b = Signal(real, RATE), Signal(fake, RATE)
    b.f0 = a.f0
    voiced = a.loud & (a.f0 > 0)
    assert expected > 3
    assert mel_cepstral_distortion(a.cepstrum, b.cepstrum, voiced) == pytest.approx(expected, rel=0.1)


def test_periodicity_is_the_share_of_the_harmonics() -> None:
    t = np.arange(RATE) / RATE
    harmonics = np.sum([np.sin(2 * np.pi * 170 * k * t) for k in range(1, 8)], axis=0)
    harmonics = harmonics / harmonics.std()
    white = np.random.default_rng(0).standard_normal(RATE)
    inside = slice(10, -10)
    for share in (1.0, 0.8, 0.5):
        mixed = (0.1 * (share**0.5 * harmonics + (1 - share) ** 0.5 * white)).astype(np.float32)
        # White noise reaches beyond the 8 kHz that are looked at.
        seen = share / (share + (1 - share) * 8000 / (RATE / 2))
        output = periodicity(mixed, RATE)
        assert len(output) == round(1 / F0_PERIOD) + 1
        assert output[inside].mean() == pytest.approx(seen, abs=0.05)
    assert periodicity((0.1 * white).astype(np.float32), RATE).mean() < 0.25
    assert periodicity(np.zeros(RATE, np.float32), RATE).max() == 0
    hum = signals.sine(RATE, 20, -20).astype(np.float32)  # slower than any F0
    assert periodicity(hum, RATE)[inside].mean() < 0.1


def test_periodicity_error_of_a_voice_half_drowned() -> None:
    """Nearly 1 becomes about one half."""
    voice = signals.voice(RATE, 1.0, glide=0)
    drowned = voice + voice.std() * np.random.default_rng(0).standard_normal(RATE) * (RATE / 16000) ** 0.5
    real, fake = (Signal(x.astype(np.float32), RATE) for x in (voice, drowned))
    assert periodicity_error(real, fake) == pytest.approx(0.5, abs=0.06)


def test_another_noise_has_the_same_texture_and_a_smooth_one_less() -> None:
    real, other = Signal(signals.speech(RATE, 0), RATE), Signal(signals.speech(RATE, 1), RATE)
    assert texture(real, other, voiced=False) == pytest.approx(1, abs=0.05)
    smooth = griffin_lim(LogMelSpectrogram(MEL_CONFIG)(torch.from_numpy(real.audio)), MEL_CONFIG).numpy()
    shortened = Signal(real.audio[: len(smooth)], RATE)
    assert texture(shortened, Signal(smooth, RATE), voiced=False) < 0.85


def test_gaussian_noise_has_rayleigh_spread() -> None:
    audio = signals.noise(RATE, 2.0).astype(np.float32)
    noisy = inner_frames(audio, np.zeros(401), RATE, voiced=False)
    assert noisy.mean() > 0.95
    assert spread(audio, RATE, noisy) == pytest.approx(5.57, abs=0.35)


def test_frames_lie_inside_voiced_or_unvoiced_stretches() -> None:
    """The speech is voiced from 0 to 0.8 s and from 1.4 to 2.2 s, then silent."""
    audio = signals.speech(RATE)
    voiced, unvoiced = (
        np.flatnonzero(inner_frames(audio, measure_f0(audio, RATE), RATE, voiced)) * 256 / RATE
        for voiced in (True, False)
    )
    assert len(unvoiced) > 20
    assert unvoiced.min() > 0.78
    assert unvoiced.max() < 1.42
    assert len(voiced) > 80
    assert not ((voiced > 0.79) & (voiced < 1.41)).any()
    assert voiced.max() < 2.21


def harmonics(share: float, hz: float = 170.0) -> Signal:
    """Make equal harmonics up to the half of the rate, and white noise: ``share`` of the power at every frequency."""
    t = np.arange(2 * RATE) / RATE
    tone = np.sum([np.cos(2 * np.pi * hz * k * t + k * k) for k in range(1, int(RATE / 2 / hz))], axis=0)
    white = np.random.default_rng(0).standard_normal(len(t))
    mixed = share**0.5 * tone / tone.std() + (1 - share) ** 0.5 * white
    signal = Signal((0.1 * mixed).astype(np.float32), RATE)
    signal.f0 = np.full(401, hz)
    return signal


@pytest.mark.parametrize(("share", "tolerance"), [(1.0, 0.01), (0.8, 0.03), (0.5, 0.05)])
def test_the_periodicity_of_each_band_is_the_share_of_its_harmonics(share: float, tolerance: float) -> None:
    mixed = harmonics(share)
    for shown in (mixed, Signal(mixed.audio / 100, RATE)):  # of any level
        assert list(band_periodicity(mixed, shown).values()) == pytest.approx([share] * 3, abs=tolerance)


def test_noise_in_one_band_takes_the_periodicity_of_that_band_alone() -> None:
    clean, noisy = harmonics(1.0), harmonics(0.0)
    hz = np.fft.rfftfreq(2 * RATE, 1 / RATE)
    mixed = np.where((hz > 4150) & (hz < 8100), *(np.fft.rfft(x.audio) for x in (noisy, clean)))
    output = band_periodicity(clean, Signal(np.fft.irfft(mixed).astype(np.float32), RATE))
    assert output["periodicity_1k"] == pytest.approx(1, abs=0.01)
    assert output["periodicity_2k"] == pytest.approx(1, abs=0.03)
    assert output["periodicity_4k"] < 0.1


def test_a_slightly_detuned_copy_is_as_periodic() -> None:
    """1 % is a third of a cycle at 6 kHz."""
    assert min(band_periodicity(harmonics(1.0), harmonics(1.0, hz=170 * 1.01)).values()) > 0.98


def test_bands_above_half_the_rate_have_no_periodicity() -> None:
    low = Signal(signals.voice(12000, 1.0, glide=0).astype(np.float32), 12000)
    output = band_periodicity(low, low)
    assert output["periodicity_2k"] > 0.8
    assert np.isnan(output["periodicity_4k"])


def test_noise_between_the_harmonics_lowers_the_voiced_texture() -> None:
    """Towards that of Gaussian noise, about 5.6 dB."""
    clean, noise = harmonics(1.0), harmonics(0.0)
    frames = inner_frames(clean.audio, clean.f0, RATE, voiced=True)
    expected = 5.57 / spread(clean.audio, RATE, frames)
    assert expected < 0.9
    assert texture(clean, noise, voiced=True) == pytest.approx(expected, abs=0.05)
    assert expected < texture(clean, harmonics(0.9), voiced=True) < 1


def test_log_mel_distance_is_the_same_unit_for_every_mel_config() -> None:
    """Half the amplitude is ln 2, also where the mel config takes log10 or powers."""
    audio = signals.noise(22050, 1.0).astype(np.float32)
    for change in ("", ":log=log10", ":power=2", ":power=2,log=log10"):
        mel_config = MelConfig.parse(f"hifigan-22k{change}")
        output = log_mel_distance(Signal(audio, 22050), Signal(audio / 2, 22050), mel_config)
        assert output == pytest.approx(np.log(2), rel=1e-3)
