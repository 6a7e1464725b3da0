"""How near a synthesised signal is to its recording. Signals are float32 numpy (samples,), full scale at +-1.

Copy synthesis keeps time, so signals are compared instant by instant, without warping. Tracks (F0, envelope,
periodicity, level) hold one value each F0_PERIOD seconds from 0 on. A metric that is not defined, such as the error of
F0 where nothing is voiced, is NaN.
"""

from __future__ import annotations

import warnings
from functools import cached_property

import numpy as np
import torch
from scipy.fft import dct
from scipy.ndimage import maximum_filter1d, uniform_filter

from losses.spectral import MultiResolutionSTFTLoss
from recipes.data.f0_labels import F0_PERIOD, F0_RANGE, label_f0
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT

NAN = float("nan")
LOUD = 40.0  # dB below the loudest instant of a recording where its speech ends and its silence begins


class Signal:
    """A signal and its tracks, each computed when it is first asked for."""

    def __init__(self, audio: np.ndarray, sample_rate: int) -> None:
        self.audio = audio
        self.sample_rate = sample_rate

    @cached_property
    def f0(self) -> np.ndarray:
        return measure_f0(self.audio, self.sample_rate)

    @cached_property
    def cepstrum(self) -> np.ndarray:
        return mel_cepstrum(self.envelope, self.sample_rate)

    @property
    def envelope(self) -> np.ndarray:
        """The power spectrum freed of the harmonics, (frames, bins): WORLD's CheapTrick (Morise 2015)."""
        import pyworld

        times = np.arange(len(self.f0)) * F0_PERIOD
        return pyworld.cheaptrick(self.audio.astype(np.float64), self.f0.astype(np.float64), times, self.sample_rate)

    @cached_property
    def periodicity(self) -> np.ndarray:
        return periodicity(self.audio, self.sample_rate)

    @cached_property
    def loud(self) -> np.ndarray:
        """Where there is speech: the instants whose level is within LOUD of the highest."""
        level = levels(self.audio, self.sample_rate)
        return level > max(level.max() - LOUD, -100.0)

    @property
    def silent(self) -> np.ndarray:
        """As booleans per sample: more than 50 ms away from all that is loud."""
        reach = 2 * round(0.05 / F0_PERIOD) + 1
        instant = np.round(np.arange(len(self.audio)) / (self.sample_rate * F0_PERIOD)).astype(int)
        return ~maximum_filter1d(self.loud, reach)[np.minimum(instant, len(self.loud) - 1)]


def compare(real: Signal, fake: Signal, mel_config: MelConfig) -> dict[str, float]:
    """All metrics of a synthesis against its recording, of as many samples at the rate of ``mel_config``."""
    return {
        "pesq": pesq_wide_band(real, fake),
        "stoi": stoi(real, fake),
        "log_mel_l1": log_mel_distance(real, fake, mel_config),
        "stft_distance": stft_distance(real, fake),
        "mcd_db": mel_cepstral_distortion(real.cepstrum, fake.cepstrum, real.loud),
        **f0_metrics(real.f0, fake.f0),
        "periodicity_error": periodicity_error(real, fake),
        "noise_texture": noise_texture(real, fake),
        "level_db": level_difference(real, fake),
        "above_mel_db": treble_difference(real, fake, mel_config.fmax),
        "silence_dbfs": silence_level(real, fake),
    }


def pesq_wide_band(real: Signal, fake: Signal) -> float:
    """Perceptual quality, 1.04 to 4.64: ITU-T P.862.2 at 16 kHz. NaN where the recording holds no speech."""
    import pesq

    if not real.audio.any():
        return NAN
    if not fake.audio.any():
        return 1.04  # the package fails
    try:
        return float(pesq.pesq(16000, *(at_rate(x.audio, x.sample_rate, 16000) for x in (real, fake)), "wb"))
    except (pesq.NoUtterancesError, pesq.BufferTooShortError):
        return NAN


def stoi(real: Signal, fake: Signal) -> float:
    """Short-time objective intelligibility, at most 1, at 10 kHz (Taal et al. 2011). NaN with under 0.4 s of speech."""
    import pystoi

    if not real.audio.any():
        return NAN
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(real.audio, fake.audio, real.sample_rate))
        except (RuntimeWarning, ValueError):  # too few frames; none at all
            return NAN


def log_mel_distance(real: Signal, fake: Signal, mel_config: MelConfig) -> float:
    """Mean absolute difference of the log-mels, as natural logarithms of magnitudes, to compare across mel configs."""
    mel = LogMelSpectrogram(mel_config)
    logs = [mel_config.natural_log_magnitude(mel(torch.from_numpy(x.audio))) for x in (real, fake)]
    return float((logs[0] - logs[1]).abs().mean())


def stft_distance(real: Signal, fake: Signal) -> float:
    """Spectral convergence plus the mean absolute difference of the natural logarithms, each the mean over three STFTs:
    the loss of Parallel WaveGAN with its resolutions in samples, known as M-STFT since BigVGAN.
    """
    return float(sum(MultiResolutionSTFTLoss()(torch.from_numpy(fake.audio), torch.from_numpy(real.audio))))


def mel_cepstrum(envelope: np.ndarray, sample_rate: int, order: int = 24) -> np.ndarray:
    """Power spectra (frames, bins) -> c_1 ... c_order (frames, order) in ln|H| = c_0 + sum of c_m cos(m w).

    w is the mel scale from 0 to 8 kHz, or half a lower sample rate, stretched to 0 to pi; the all-pass warping of SPTK
    comes near to it with a constant for each rate. Not above 8 kHz, so that models of any rate, and mels that end
    there, compare. c_0, the level, is left out.
    """
    bins, top = envelope.shape[1], min(8000.0, sample_rate / 2)
    mels = (np.arange(bins) + 0.5) / bins * np.log1p(top / 700)
    place = 700 * np.expm1(mels) / (sample_rate / 2) * (bins - 1)
    left = place.astype(int)
    log = 0.5 * np.log(np.maximum(envelope, 1e-20))
    warped = log[:, left] + (place - left) * (log[:, left + 1] - log[:, left])
    return dct(warped, axis=1)[:, 1 : order + 1] / bins


def mel_cepstral_distortion(real: np.ndarray, fake: np.ndarray, frames: np.ndarray) -> float:
    """In dB, the mean over ``frames`` of 10 / ln 10 * sqrt(2 * sum of squared differences) (Kubichek 1993).

    That is the root mean square difference in dB of the two smoothed envelopes, without their levels.
    """
    distance = 10 / np.log(10) * np.sqrt(2 * ((real - fake) ** 2).sum(1))
    return float(distance[frames].mean()) if frames.any() else NAN


def f0_metrics(wanted: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Compare F0 tracks in Hz, 0 = unvoiced, of equal length.

    voicing_error: share of frames of which one track says voiced and the other not. voicing_f1: harmonic mean of
    precision and recall of "voiced". gross_error: share of the frames voiced in both whose F0 is off by more than 20 %.
    f0_rmse_cents: over the others. NaN where there is no such frame.
    """
    both = (wanted > 0) & (found > 0)
    voiced = np.sum(wanted > 0) + np.sum(found > 0)
    ratio = found[both] / wanted[both]
    gross = np.abs(ratio - 1) > 0.2
    cents = 1200 * np.log2(ratio[~gross])
    return {
        "voicing_error": float(np.mean((wanted > 0) != (found > 0))),
        "voicing_f1": float(2 * np.sum(both) / voiced) if voiced else NAN,
        "gross_error": float(np.mean(gross)) if len(gross) else NAN,
        "f0_rmse_cents": float(np.sqrt(np.mean(cents**2))) if len(cents) else NAN,
    }


def measure_f0(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """F0 in Hz, 0 = unvoiced: voicing as the labels have it, F0 by WORLD's Harvest.

    DIO, which the labels are made with, is the better judge of voicing, but its F0 jumps at the ends of voiced
    stretches: by it the same syntheses, Griffin-Lim included, are off 1.4 times as far.
    """
    import pyworld

    voiced = label_f0(audio, sample_rate)
    fine, _ = pyworld.harvest(audio.astype(np.float64), sample_rate, *F0_RANGE, frame_period=F0_PERIOD * 1000)
    return np.where((voiced > 0) & (fine > 0), fine, voiced)


def periodicity(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """How much of the signal repeats, 0 to 1: the highest peak of the normalised cross-correlation of 28 ms with what
    follows them, at 16 kHz, over the lags of F0_RANGE.

    For harmonics over noise it is the harmonics' share of the power (Boersma 1993); no decision on voicing is needed.
    """
    rate, step = 16000, round(16000 * F0_PERIOD)
    shortest, longest = int(rate / F0_RANGE[1]), int(np.ceil(rate / F0_RANGE[0]))
    window, count = 2 * longest, instants(audio, sample_rate)
    total, lags = window + longest + 1, slice(shortest - 1, longest + 2)
    audio = at_rate(audio, sample_rate, rate).astype(np.float64)
    audio = np.pad(audio, (total // 2, max(0, count * step - len(audio)) + total))
    frames = np.lib.stride_tricks.sliding_window_view(audio, total)[: count * step : step]
    size = 1 << (total - 1).bit_length()
    product = np.fft.rfft(frames[:, :window], size).conj() * np.fft.rfft(frames, size)
    energy = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    energy = energy[:, window : total + 1] - energy[:, : total - window + 1]  # of the window begun at each lag
    found = np.fft.irfft(product, size)[:, lags] / np.sqrt(energy[:, :1] * energy[:, lags] + 1e-12)
    # A low hum correlates at every short lag: only peaks count. Between samples, a parabola.
    before, here, after = found[:, :-2], found[:, 1:-1], found[:, 2:]
    peak = (here > before) & (here >= after)
    top = here + (after - before) ** 2 / (8 * np.where(peak, 2 * here - before - after, 1.0))
    return np.where(peak, top, 0.0).max(1).clip(0.0, 1.0)


def periodicity_error(real: Signal, fake: Signal) -> float:
    """Root mean square difference of the periodicities where the recording is loud.

    CARGAN (Morrison et al. 2022) and BigVGAN report the same of their estimator's confidence: not comparable in value.
    """
    difference = (real.periodicity - fake.periodicity)[real.loud]
    return float(np.sqrt(np.mean(difference**2))) if len(difference) else NAN


def noise_texture(real: Signal, fake: Signal) -> float:
    """The spread (``noise_spread``) over the recording's, in its noisy frames: 1 is right, less is buzz."""
    noisy = noisy_frames(real.audio, real.f0, real.sample_rate)
    spread = noise_spread(real.audio, real.sample_rate, noisy) if noisy.any() else 0.0
    return noise_spread(fake.audio, fake.sample_rate, noisy) / spread if spread else NAN


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


def level_difference(real: Signal, fake: Signal) -> float:
    """By how many dB the synthesis is louder than the recording; nothing is below -120 dBFS. NaN where there is only
    silence to compare with.
    """
    real_level, fake_level = (float(decibels(np.mean(x.audio.astype(float) ** 2))) for x in (real, fake))
    return fake_level - real_level if real_level > -120 else NAN


def treble_difference(real: Signal, fake: Signal, hz: float) -> float:
    """By how many dB the synthesis is louder than the recording above ``hz``: with the top of a mel, where the mel is
    blind. NaN where the recording has less than -120 dBFS there, or no frequency lies above.
    """

    def power(signal: Signal) -> float:
        """Mean square of what lies above, by Parseval's theorem."""
        stft = STFT(1024, 256)
        above = stft(torch.from_numpy(signal.audio)).abs()[int(hz / signal.sample_rate * 1024) + 1 : -1]
        return float(2 * above.double().square().sum(0).mean() / (1024 * stft.window.double().square().sum()))

    real_power, fake_power = power(real), power(fake)
    return float(decibels(np.array(fake_power)) - decibels(np.array(real_power))) if real_power > 1e-12 else NAN


def silence_level(real: Signal, fake: Signal) -> float:
    """Root mean square in dBFS (a constant 1 is 0 dBFS) where the recording is silent. NaN where it never is."""
    silent = real.silent
    return float(decibels(np.mean(fake.audio[silent].astype(float) ** 2))) if silent.any() else NAN


def levels(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """The track of the level: dBFS of 25 ms around each instant."""
    centres = np.round(np.arange(instants(audio, sample_rate)) * F0_PERIOD * sample_rate).astype(int)
    half = round(0.0125 * sample_rate)
    energy = np.cumsum(np.pad(audio.astype(float) ** 2, (1, 0)))
    inside = energy[np.minimum(centres + half, len(audio))] - energy[np.maximum(centres - half, 0)]
    return decibels(inside / (2 * half))


def instants(audio: np.ndarray, sample_rate: int) -> int:
    """The length of the tracks of a signal, as WORLD rounds it."""
    return int(1000.0 * len(audio) / sample_rate / (1000.0 * F0_PERIOD)) + 1


def decibels(power: np.ndarray) -> np.ndarray:
    """Of mean squares, not below -120."""
    return 10 * np.log10(np.maximum(power, 1e-12))


def at_rate(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    """Resampled from one rate in Hz to another."""
    from torchaudio.functional import resample

    return resample(torch.from_numpy(audio), source, target).numpy()
