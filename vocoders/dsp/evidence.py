"""Rank the named mel configs by the evidence in a mel alone: bands, scale, floor, and the shape of the bands."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from vocoders.dsp.analysis import analyze
from vocoders.dsp.diagnosis import possible_scales
from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.errors import VocoderError

LIKELY = 3.0  # largest usual score of the right mel config

_FRAMES = 4096  # at the beginning, which are looked at
_SHORT = 50  # frames; fewer say nothing about the bands
_SECONDS = 3.0  # of the signal that stands for speech
_UNSEEN = ("padding", "epsilon", "window")  # fields that leave no trace in a mel
# Mean log magnitude of the louder 70 % of frames, median of seven speakers, nepers at Hz
_SPECTRUM = {
    0: -1.5,
    50: -0.7,
    120: 0.3,
    250: 1.3,
    450: 1,
    900: -0.15,
    1800: -0.75,
    3500: -1.3,
    7000: -2.3,
    24000: -4.5,
}


class Candidate(NamedTuple):
    """A mel config that a mel may be of.

    Attributes:
        mel_config: the mel config as text.
        score: distance from speech in this mel config, without unit; the smallest is the likeliest.
        alike: names that differ from it only in fields that a mel does not show.
        scale: what the values are if not such a mel.
        expression: Python that makes such a mel from ``mel``; None where it is one.
    """

    mel_config: str
    score: float
    alike: tuple[str, ...] = ()
    scale: str | None = None
    expression: str | None = None


def orient(mel: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return an array of one mel as (n_mels, frames), and whether it was transposed.

    Args:
        mel: (n_mels, frames) or (frames, n_mels), also with a batch axis of 1.

    Raises:
        VocoderError: for another shape, an empty array, or values that are no finite floats.
    """
    if mel.ndim == 3 and 1 in (len(mel), mel.shape[-1]):
        mel = mel[0] if len(mel) == 1 else mel[..., 0]
    if mel.ndim != 2 or 0 in mel.shape:
        raise VocoderError(f"a mel is (n_mels, frames), this array is {mel.shape}")
    if mel.dtype.kind != "f" or not np.isfinite(mel).all():
        raise VocoderError(f"a mel holds finite floats, this array holds {mel.dtype}, or NaN or infinite values")
    known = {mel_config.n_mels for mel_config in MEL_CONFIGS.values()}
    rows, columns = (size in known for size in mel.shape)
    transposed = columns if rows != columns else not rows and mel.shape[0] > mel.shape[1]
    return (mel.T if transposed else mel), transposed


def rank_mel_configs(mel: np.ndarray) -> list[Candidate]:
    """Rank the named mel configs by how likely a mel of speech is of them; what it does not show is not guessed.

    Args:
        mel: float (n_mels, frames), on any scale.

    Returns:
        The candidates, the likeliest first.

    Raises:
        VocoderError: when no named mel config has so many bands, or the mel is constant.
    """
    bands = mel[:, :_FRAMES].astype(np.float64)
    named = {name: mel_config for name, mel_config in MEL_CONFIGS.items() if mel_config.n_mels == len(bands)}
    if not named:
        known = sorted({mel_config.n_mels for mel_config in MEL_CONFIGS.values()})
        raise VocoderError(
            f"no named mel config has {len(bands)} bands, only {', '.join(map(str, known))}; "
            f"the recording tells the mel config: --audio recording.wav"
        )
    if bands.min() == bands.max():
        raise VocoderError(f"all values of the mel are {bands.min():g}, which tells nothing about its mel config")
    found: dict[str, tuple[Candidate, MelConfig]] = {}
    for candidate, mel_config in sorted(
        ((_judge(bands, mel_config), mel_config) for mel_config in named.values()), key=lambda pair: pair[0].score
    ):
        for name, (first, other) in found.items():
            same_scale = (first.scale, first.expression) == (candidate.scale, candidate.expression)
            if same_scale and set(mel_config.differences(other)) <= set(_UNSEEN):
                found[name] = (first._replace(alike=(*first.alike, mel_config.name)), other)
                break
        else:
            found[mel_config.name] = (candidate, mel_config)
    return [_most_used_first(candidate) for candidate, _ in found.values()]


def _most_used_first(candidate: Candidate) -> Candidate:
    """Put the first of the table before those that are alike."""
    if ":" in candidate.mel_config:
        return candidate
    first, *rest = sorted((candidate.mel_config, *candidate.alike), key=list(MEL_CONFIGS).index)
    return candidate._replace(mel_config=first, alike=tuple(rest))


def _judge(bands: np.ndarray, mel_config: MelConfig) -> Candidate:
    """Return the likeliest scale of values (n_mels, frames) for a mel config."""
    low, floor = float(bands.min()), mel_config.log_floor
    judged = []
    for guess, natural, distance in possible_scales(bands, mel_config):
        score = 0.3 * distance + _shape_distance(natural, mel_config)
        if guess is None:
            score -= abs(low - floor) < 2e-3  # the floor is seen
        else:
            score += 0.5  # the fewer assumptions, the likelier
        text = (guess.mel_config if guess else None) or mel_config.text
        judged.append(Candidate(text, score, (), guess and guess.kind, guess and guess.expression))
    return min(judged, key=lambda candidate: candidate.score)


def _shape_distance(natural: np.ndarray, mel_config: MelConfig) -> float:
    """Compare natural log magnitudes (n_mels, frames) with those of noise and pulses that have speech's spectrum.

    The levels of the bands tell range, mel scale and norm. What single bands do apart from their neighbours tells which
    bins of the transform they share, and so its size and the sample rate.
    """
    if natural.shape[1] < _SHORT:
        return 0.0
    own, typical = _curves(natural), _typical_curves(mel_config)
    level = own[0] - typical[0]
    shape = 2 * np.abs(level - np.median(level)).mean() + 0.15 * abs(np.median(level))
    return float(shape + sum(np.abs(_rough(a) - _rough(b)).mean() for a, b in zip(own, typical, strict=True)))


def _curves(natural: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return by band the level, and the log variance of its change to the next band and to the next frame."""
    loudness = natural.mean(0)
    loud = natural[:, loudness >= np.percentile(loudness, 30)]
    changes = (np.log(np.diff(loud, axis=axis).var(1) + 1e-5) for axis in (0, 1))
    return loud.mean(1), *changes


def _rough(curve: np.ndarray) -> np.ndarray:
    """Return a curve without its mean over nine bands."""
    return curve - np.convolve(np.pad(curve, 4, mode="edge"), np.full(9, 1 / 9), "valid")


@lru_cache(32)
def _typical_curves(mel_config: MelConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    audio = _speech_like(mel_config.sample_rate)
    return _curves(mel_config.natural_log_magnitude(analyze(audio, mel_config)).astype(np.float64))


def _speech_like(rate: int) -> np.ndarray:
    """Make pulses of a gliding F0 and noise in turn, with the spectrum of speech: float32 (samples,)."""
    samples, random = int(rate * _SECONDS), np.random.default_rng(0)
    t, noise = np.arange(samples) / rate, random.standard_normal(samples)
    f0 = 150 * 2 ** (0.8 * np.sin(2 * np.pi * 0.37 * t) + 0.2 * np.sin(2 * np.pi * 1.3 * t))
    pulses = np.diff(np.floor(np.cumsum(f0) / rate), prepend=0) * np.sqrt(rate / 150)
    excitation = np.where(np.sin(2 * np.pi * 0.9 * t) > -0.4, pulses + 0.3 * noise, 0.5 * noise)
    shape = np.exp(np.interp(np.fft.rfftfreq(samples, 1 / rate), list(_SPECTRUM), list(_SPECTRUM.values())))
    audio = np.fft.irfft(np.fft.rfft(excitation) * shape, samples) * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * t))
    return (0.3 * audio / np.abs(audio).max() + 1e-5 * noise).astype(np.float32)
