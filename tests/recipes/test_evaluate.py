"""Metrics against what is known by construction, Griffin-Lim, and the command."""

import json
from pathlib import Path

import corpus
import numpy as np
import pytest
import signals
import torch

from recipes.evaluate import main, mean
from recipes.griffin_lim import griffin_lim, linear_magnitude
from recipes.metrics import compare, measure_f0, noise_spread, noisy_frames, pitch_metrics
from vocoders import MelSpectrogram
from vocoders.mel import CONVENTIONS, mel_filter_bank

SPEC = CONVENTIONS["hifigan-22k"]


def speech_like(seed: int = 0) -> np.ndarray:
    """Vowel, noise, vowel, silence: float32, 22050 Hz."""
    noise = 0.3 * signals.noise(22050, 0.6, seed=seed)
    parts = [signals.voice(22050, 0.8), noise, signals.voice(22050, 0.8, f0=200), np.zeros(2205)]
    return np.concatenate(parts).astype(np.float32)


def test_pitch_metrics_by_hand() -> None:
    wanted = np.array([0, 0, 100, 100, 100, 100, 200, 200.0])
    found = np.array([0, 50, 0, 100, 200, 100 * 2 ** (12 / 1200), 200, 200])
    metrics = pitch_metrics(wanted, found)
    assert metrics["voicing_error"] == pytest.approx(2 / 8)
    assert metrics["gross_error"] == pytest.approx(1 / 5)
    assert metrics["f0_rmse_cents"] == pytest.approx(np.sqrt(12**2 / 4))


def test_what_is_not_defined_is_not_perfect() -> None:
    metrics = pitch_metrics(np.full(9, 200.0), np.zeros(9))
    assert metrics["voicing_error"] == 1
    assert np.isnan(metrics["gross_error"])
    assert np.isnan(metrics["f0_rmse_cents"])
    assert mean([metrics, pitch_metrics(np.full(9, 200.0), np.full(9, 200.0))])["f0_rmse_cents"] == 0
    silent = np.zeros(22050, np.float32)
    assert np.isnan(compare(silent, silent, SPEC)["pesq"])


def test_a_recording_against_itself() -> None:
    audio = speech_like()
    metrics = compare(audio, audio, SPEC)
    assert metrics["pesq"] > 4.6
    assert metrics["log_mel_l1"] == 0
    assert metrics["voicing_error"] == metrics["gross_error"] == metrics["f0_rmse_cents"] == 0
    assert metrics["noise_texture"] == pytest.approx(1)


def test_another_noise_has_the_same_texture_and_a_smooth_one_less() -> None:
    real, other = speech_like(0), speech_like(1)
    assert compare(real, other, SPEC)["noise_texture"] == pytest.approx(1, abs=0.05)
    smooth = griffin_lim(MelSpectrogram(SPEC)(torch.from_numpy(real)), SPEC).numpy()
    assert compare(real[: len(smooth)], smooth, SPEC)["noise_texture"] < 0.85


def test_gaussian_noise_has_rayleigh_spread() -> None:
    audio = signals.noise(22050, 2.0).astype(np.float32)
    noisy = noisy_frames(audio, np.zeros(401), 22050)
    assert noisy.mean() > 0.95
    assert noise_spread(audio, 22050, noisy) == pytest.approx(5.57, abs=0.35)


def test_noisy_frames_avoid_voiced_and_silent_ones() -> None:
    audio = speech_like()
    noisy = noisy_frames(audio, measure_f0(audio, 22050), 22050)
    times = np.flatnonzero(noisy) * 256 / 22050
    assert len(times) > 20
    assert times.min() > 0.78
    assert times.max() < 1.42


def test_a_detuned_copy_is_off_by_as_many_cents() -> None:
    up = 2 ** (50 / 1200)
    real, fake = (signals.voice(22050, 1.0, f0=hz, glide=0).astype(np.float32) for hz in (150, 150 * up))
    inside = slice(20, -20)
    f0_real, f0_fake = measure_f0(real, 22050)[inside], measure_f0(fake, 22050)[inside]
    assert pitch_metrics(f0_real, f0_fake)["f0_rmse_cents"] == pytest.approx(50, abs=1)


def test_linear_magnitude_has_the_mel() -> None:
    mel = MelSpectrogram(SPEC)(torch.from_numpy(speech_like()))
    magnitude = linear_magnitude(mel, SPEC)
    assert (magnitude >= 0).all()
    again = SPEC.compress(torch.from_numpy(mel_filter_bank(SPEC)).float() @ magnitude)
    assert float((again - mel).abs().mean()) < 0.05


@pytest.mark.parametrize("name", ["hifigan-22k", "tacotron2-22k", "cleanmel-16k", "espnet-24k"])
def test_griffin_lim_restores_the_mel(name: str) -> None:
    spec = CONVENTIONS[name]
    audio = torch.from_numpy(signals.voice(spec.sample_rate, 0.6)).float()
    mel = MelSpectrogram(spec)(audio)
    fake = griffin_lim(mel, spec)
    again = MelSpectrogram(spec)(fake)[..., : mel.shape[-1]]
    unit = spec.natural_log_magnitude(torch.ones(1)).item()
    loud = mel > mel.max() - 6 / unit
    assert float((again - mel)[loud].abs().mean()) * unit < 0.3


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = corpus.make(tmp_path / "corpus")
    out, image = tmp_path / "out.json", tmp_path / "image.png"
    assert main(["--data", str(data), "--list", "valid.txt", "--json", str(out), "--picture", str(image)]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("| system | pesq | log_mel_l1 |")
    assert [row.split("|")[1].strip() for row in table[2:]] == [
        "openvoices-22k",
        "griffin-lim",
        "openvoices-22k: F0 from the mel",
    ]
    results = json.loads(out.read_text())
    assert results["clips"] == ["3.flac"]
    assert results["mean"]["griffin-lim"] == results["per_clip"]["griffin-lim"][0]
    assert image.read_bytes().startswith(b"\x89PNG")
    assert main(["--data", str(tmp_path / "corpus"), "--list", "none.txt"]) == 2
    (tmp_path / "void").mkdir()
    assert main(["--data", str(tmp_path / "void")]) == 2
    assert "holds no recordings" in capsys.readouterr().err
    (tmp_path / "void" / "junk.wav").write_text("no sound")
    assert main(["--data", str(tmp_path / "void")]) == 2
    assert "cannot read the recording" in capsys.readouterr().err
