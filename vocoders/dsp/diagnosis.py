"""Diagnose mels: tell values on another scale than a mel config's, and what corrects them.

Thresholds are in nepers below a full-scale sine in the same band, on which all mel configs agree about a recording.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from vocoders.dsp.mel import MelConfig, mel_filter_bank

IDENTIFY = "see 'vocoders identify mel.npy'"

_DECIBEL = math.log(10.0) / 20.0  # nepers
_TYPICAL = (-7.4, -4.1, -1.7)  # median, 95th percentile and maximum of a recorded sentence
_LIKELY = 4.5  # sum of distances from these three; at most 3.4 for recorded sentences
_UNLIKELY = 7.5  # such a sum if nothing else is known; loud music has less
_AS_LIKELY = 0.5  # indecisive difference of such sums
_LONG = 100  # frames for a meaningful range of values


class _Scale(NamedTuple):
    """A linear scale: nepers of a unit and at 0, range of a mel's smallest value, largest value."""

    kind: str
    factor: float
    shift: float
    quiet: tuple[float, float]
    largest: float = math.inf


_SCALES = (
    _Scale("decibels", _DECIBEL, 0.0, (-math.inf, -20)),
    _Scale("log2", math.log(2.0), 0.0, (-math.inf, -12)),
    _Scale("the logarithm of the power, about twice that of the magnitude", 0.5, 0.0, (-math.inf, -12)),
    _Scale("the mel of audio in the range of 16-bit integers", 1.0, -math.log(32768.0), (-math.inf, math.inf)),
    _Scale("a mel normalised from 100 dB to -4 to 4, as by Tacotron 2", 12.5 * _DECIBEL, -30 * _DECIBEL, (-4, -2), 4),
    _Scale("a mel normalised from 100 dB to 0 to 4, as by Tacotron 2", 25 * _DECIBEL, -80 * _DECIBEL, (0, 1), 4),
    _Scale("a mel normalised from 100 dB to -1 to 1, as by Coqui TTS", 50 * _DECIBEL, -30 * _DECIBEL, (-1, -0.5), 1),
    _Scale("a mel normalised from 100 dB to 0 to 1, as by Tacotron", 100 * _DECIBEL, -80 * _DECIBEL, (0, 0.25), 1),
    _Scale("a mel normalised from -12 to 2 to -1 to 1, as by GPT-SoVITS", 7.0, -5.0, (-1, -0.5), 1),
    _Scale("a mel normalised by mean and deviation, as by Matcha-TTS", 2.116101, -5.536622, (-8, -1)),
)


class Guess(NamedTuple):
    """What a mel may be, and the remedy: a mel config for ``MelConfig.parse``, or Python that corrects ``mel``."""

    kind: str
    mel_config: str | None = None
    expression: str | None = None


_BY_BAND = Guess(
    "a mel normalised in each band, by the mean and deviation of that band", None, "mel * std[:, None] + mean[:, None]"
)
_NORMALISED = Guess("a normalised mel; with the mean and deviation of its normalisation", None, "mel * std + mean")
_PCEN = Guess("per-channel energy normalisation, which nothing undoes: vocode recording.wav -o mel.npz")


class Diagnosis(NamedTuple):
    """Why values are unusual for a mel config (half a sentence), and the best guesses."""

    values: str
    guesses: tuple[Guess, ...]

    def sentence(self, state: str = "mel = voc.convert(mel, '{}')", apply: str = "mel = {}") -> str:
        """Return a sentence with the remedies; {} in ``state`` is the mel config, in ``apply`` the expression."""
        parts = []
        for kind, mel_config, expression in self.guesses:
            remedy = state.replace("{}", mel_config) if mel_config else apply.replace("{}", expression or "")
            parts.append(f"{kind}; to convert it: {remedy}" if mel_config or expression else kind)
        return f"{self.values}, {IDENTIFY}: it looks like {', or like '.join(parts)}"

    def __str__(self) -> str:
        return self.sentence()


def diagnose(mel: np.ndarray, mel_config: MelConfig) -> Diagnosis | None:
    """Guess whether a log-mel (..., n_mels, frames) is on another scale than ``mel_config``; None if it may fit."""
    bands = np.moveaxis(mel, -2, 0).reshape(mel_config.n_mels, -1).astype(np.float64)
    low, high = float(bands.min()), float(bands.max())
    if not _unusual(bands, mel_config) or not (guesses := _guess(bands, mel_config)):
        return None
    return Diagnosis(
        f"values from {low:.2f} to {high:.2f} are unusual for {mel_config.name} ({mel_config.log}, floor "
        f"{mel_config.log_floor:.2f})",
        guesses,
    )


@lru_cache(16)
def _full_scale(mel_config: MelConfig) -> np.ndarray:
    """Return the log magnitude of a full-scale sine in the middle of each band, (n_mels, 1)."""
    peaks = np.maximum(mel_filter_bank(mel_config).max(1, keepdims=True), 1e-12)  # a band may be empty
    levels: np.ndarray = np.log(peaks) / mel_config.power + math.log(mel_config.win_length / 2)
    return levels


def _unusual(bands: np.ndarray, mel_config: MelConfig) -> bool:
    """Whether hardly any sound gives such values, (n_mels, frames)."""
    full = _full_scale(mel_config)
    natural = mel_config.natural_log_magnitude(bands)
    levels = natural - full
    lowest, middle, highest = natural.min() - full.mean(), np.median(levels), levels.max()
    if bands.min() < mel_config.log_floor - 0.5 or highest > 2.0:
        return True
    if lowest > -4.4:
        return bool(bands.min() < bands.max())  # a constant says nothing
    # The frames of steady noise or a tone are alike, so their range is small.
    if bands.mean(0).var() < 0.03 * bands.var():
        return False
    low, high = np.percentile(levels, [5, 95])
    cut_off = np.percentile(bands, 5) < mel_config.log_floor + 0.5  # the floor narrows the range
    narrow = high - low < (3.9 if bands.shape[1] >= _LONG else 2.5) and highest > -5.0 and not cut_off
    wide = high - low > 10.5 and middle < -12.5 and not cut_off
    at_other_floor = abs(bands.min() - _other_log(mel_config).log_floor) < 1e-3 and _clipped(bands)
    return bool(lowest > -6.6 or middle > -2.7 or narrow or wide or at_other_floor)


def _clipped(bands: np.ndarray) -> bool:
    """Whether small values were cut off at the smallest."""
    return bool((bands < bands.min() + 1e-3).mean() > 0.01)


def _other_log(mel_config: MelConfig) -> MelConfig:
    return mel_config.model_copy(update={"log": "log10" if mel_config.log == "ln" else "ln"})


def _guess(bands: np.ndarray, mel_config: MelConfig) -> tuple[Guess, ...]:
    """Return the best fits for unusual values (n_mels, frames); none if the mel config fits best."""
    above_floor = bands.min() > mel_config.log_floor - 0.5
    if (
        above_floor and bands.shape[1] >= _LONG and bands.mean(1).var() < 0.05 * bands.var()
    ):  # speech is weak in high bands
        if bands.min() >= 0:
            return (_PCEN,)
        if abs(bands.mean()) < 0.5 and 0.5 < bands.std() < 1.5:
            return (_BY_BAND,)
    ranked = sorted(
        ((_distance(natural, mel_config), guess) for guess, natural in _candidates(bands, mel_config)),
        key=lambda pair: pair[0],
    )
    best = ranked[0][0]
    if best > _LIKELY and above_floor:
        unlikely = _distance(mel_config.natural_log_magnitude(bands), mel_config) > _UNLIKELY
        return (_NORMALISED,) if bands.shape[1] >= _LONG and unlikely else ()
    if ranked[0][1] is None:
        return ()
    return tuple(guess for distance, guess in ranked[:2] if guess and distance <= best + _AS_LIKELY)


def possible_scales(bands: np.ndarray, mel_config: MelConfig) -> Iterator[tuple[Guess | None, np.ndarray, float]]:
    """Yield possible scales of values (n_mels, frames): what to do, natural log magnitudes, distance from speech."""
    for guess, natural in _candidates(bands, mel_config):
        yield guess, natural, _distance(natural, mel_config)


def _distance(natural: np.ndarray, mel_config: MelConfig) -> float:
    """Return the distance of log magnitudes (n_mels, frames) from those of a recorded sentence."""
    levels = natural - _full_scale(mel_config)
    if (natural > natural.min() + 1e-3).any():
        levels = levels[natural > natural.min() + 1e-3]  # without digital silence and clipped values
    return float(np.abs(np.percentile(levels, [50, 95, 100]) - np.maximum(_TYPICAL, levels.min())).sum())


def _candidates(bands: np.ndarray, mel_config: MelConfig) -> Iterator[tuple[Guess | None, np.ndarray]]:
    """Yield possible scales of values (n_mels, frames), None for the mel config's, and the corrected values."""
    low, high = float(bands.min()), float(bands.max())
    if low < 0:
        yield _floor(bands, mel_config), mel_config.natural_log_magnitude(bands)
        other = _other_log(mel_config)
        kind = "log10, not a natural logarithm" if other.log == "log10" else "a natural logarithm, not log10"
        yield Guess(kind, other.text), other.natural_log_magnitude(bands)
    unit = float(mel_config.natural_log_magnitude(np.ones(1))[0])
    for kind, factor, shift, (least, most), largest in _SCALES:
        if least - 0.01 <= low <= most and high <= largest + 0.01:
            sign, constant = "+" if shift > 0 else "-", abs(shift / unit)
            expression = f"mel * {factor / unit:.7g}" + (f" {sign} {constant:.7g}" if shift else "")
            yield Guess(kind, None, expression), bands * factor + shift
    if low >= 0:
        linear = {"a linear mel, not a logarithmic one": "mel"}
        linear |= {"log1p of a linear mel": "np.expm1(mel)"} if high < 20 else {}
        for kind, inner in linear.items():
            values = np.maximum(bands if inner == "mel" else np.expm1(bands), mel_config.floor)
            function = "log" if mel_config.log == "ln" else "log10"
            expression = f"np.{function}(np.maximum({inner}, {mel_config.floor:g}))"
            yield Guess(kind, None, expression), np.log(values) / mel_config.power


def _floor(bands: np.ndarray, mel_config: MelConfig) -> Guess | None:
    """Guess that only the floor differs."""
    low = float(bands.min())
    floor = math.exp(low) if mel_config.log == "ln" else 10.0**low
    stated = mel_config.model_copy(update={"floor": float(f"{max(floor, 1e-300):.1g}")}).text
    if low < mel_config.log_floor - 0.5:
        return Guess("a lower floor than this mel config's", stated)
    if low > mel_config.log_floor + 0.5 and _clipped(bands):
        return Guess("a higher floor than this mel config's, which cut off what is quiet", stated)
    return None
