"""How near a synthesised signal is to its recording. Signals are float32 numpy (samples,) in [-1, 1]."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from recipes.data import F0_PERIOD, F0_RANGE, label_f0
from vocoders.mel import MelSpec, MelSpectrogram
from vocoders.stft import STFT


def pitch_metrics(wanted: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Compare F0 tracks in Hz, 0 = unvoiced, of equal length.

    voicing_error: share of frames of which one track says voiced and the other not. gross_error: share of the frames
    voiced in both whose F0 is off by more than 20 %. f0_rmse_cents: over the others. NaN where there is no such frame.
    """
    both = (wanted > 0) & (found > 0)
    ratio = found[both] / wanted[both]
    gross = np.abs(ratio - 1) > 0.2
    cents = 1200 * np.log2(ratio[~gross])
    return {
        "voicing_error": float(np.mean((wanted > 0) != (found > 0))),
        "gross_error": float(np.mean(gross)) if len(gross) else float("nan"),
        "f0_rmse_cents": float(np.sqrt(np.mean(cents**2))) if len(cents) else float("nan"),
    }


def measure_f0(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """F0 in Hz, 0 = unvoiced, each F0_PERIOD: voicing as the labels have it, F0 by WORLD's Harvest.

    DIO, which the labels are made with, is the better judge of voicing, but its F0 jumps at the ends of voiced
    stretches: by it the same syntheses, Griffin-Lim included, are off 1.4 times as far.
    """
    import pyworld

    voiced = label_f0(audio, sample_rate)
    fine, _ = pyworld.harvest(audio.astype(np.float64), sample_rate, *F0_RANGE, frame_period=F0_PERIOD * 1000)
    return np.where((voiced > 0) & (fine > 0), fine, voiced)


def pesq_wide_band(real: np.ndarray, fake: np.ndarray, sample_rate: int) -> float:
    """ITU-T P.862.2 at 16 kHz; NaN where it finds no speech."""
    import pesq
    from torchaudio.functional import resample

    real, fake = (resample(torch.from_numpy(x), sample_rate, 16000).numpy() for x in (real, fake))
    if not real.any():
        return float("nan")
    try:
        return float(pesq.pesq(16000, real, fake, "wb"))
    except (pesq.NoUtterancesError, pesq.BufferTooShortError):
        return float("nan")


def noise_spread(audio: np.ndarray, sample_rate: int, noisy: np.ndarray) -> float:
    """Spread in dB of the log spectrum around its local mean from 2 to 8 kHz in the STFT frames ``noisy``.

    About 5.6 dB for Gaussian noise, whose magnitudes are Rayleigh distributed; less for a synthesiser that replaces
    noise by something smooth, which is heard as buzz and PESQ does not notice.
    """
    decibels = 20 * STFT(1024, 256)(torch.from_numpy(audio)).abs().clamp_min(1e-5).log10().numpy()
    texture = decibels - uniform_filter(decibels, (15, 5))
    low, high = (int(hz / sample_rate * 1024) for hz in (2000, 8000))
    return float(np.std(texture[low:high, noisy]))


def noisy_frames(audio: np.ndarray, f0: np.ndarray, sample_rate: int) -> np.ndarray:
    """The STFT frames (hop 256) well inside unvoiced stretches and within 40 dB of the loudest frame, as booleans."""
    frames = len(audio) // 256
    label = np.arange(frames) * 256 / sample_rate / F0_PERIOD
    near = np.clip(label[:, None].astype(int) + np.arange(-3, 7), 0, len(f0) - 1)
    level = 10 * np.log10(audio[: frames * 256].reshape(frames, 256).astype(float).__pow__(2).mean(1) + 1e-12)
    return ~(f0[near] > 0).any(1) & (level > level.max() - 40)


def compare(real: np.ndarray, fake: np.ndarray, spec: MelSpec) -> dict[str, float]:
    """All metrics of a synthesis against its recording."""
    rate = spec.sample_rate
    f0_real, f0_fake = measure_f0(real, rate), measure_f0(fake, rate)
    mel = MelSpectrogram(spec)
    noisy = noisy_frames(real, f0_real, rate)
    spread = noise_spread(real, rate, noisy) if noisy.any() else 0.0
    return {
        "pesq": pesq_wide_band(real, fake, rate),
        "log_mel_l1": float((mel(torch.from_numpy(real)) - mel(torch.from_numpy(fake))).abs().mean()),
        **pitch_metrics(f0_real, f0_fake),
        "noise_texture": noise_spread(fake, rate, noisy) / spread if spread else float("nan"),
    }
