"""Find the mel config, scale and lag of a mel by its recording, by computing candidates. Does not import torch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

from vocoders.dsp.analysis import analyze
from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.errors import MelWarning, VocoderError
from vocoders.io.audio import resample

EXPLAINED = 0.02  # nepers; a larger error is another mel config

_SECONDS, _SEARCHED = 12.0, 4.0  # of the recording that are compared, and compared in a search
_SILENT = 1e-12  # floor of computed mels
_RATES = (16000, 22050, 24000, 32000, 44100, 48000)
_HOPS = (80, 100, 120, 128, 160, 200, 220, 240, 256, 275, 276, 300, 320, 400, 441, 480, 512, 551, 600, 640, 882, 1024)
_WINDOWS = (400, 480, 640, 800, 882, 1000, 1024, 1100, 1102, 1200, 1920, 2048)
_FFT_SIZES = (400, 512, 1024, 1920, 2048, 4096)
_FMIN = (0, 20, 30, 40, 50, 55, 60, 80, 90, 95, 100, 125)
_FMAX = (4000, 5500, 6000, 7000, 7500, 7600, 8000, 10000, 11000, 11025, 12000, 16000, 20000, 22050, 24000)
_UNITS = (1.0, 1 / math.log(10), 20 / math.log(10), 10 / math.log(10), 1 / math.log(2))  # of a neper


class Fit(NamedTuple):
    """A mel config and a scale that may explain a mel: mel = scale * (the mel in ``mel_config``) + offset.

    Attributes:
        mel_config: the mel config.
        error: mean absolute difference of the natural logarithm of magnitudes above the floor, nepers.
        lag: frames that the recording has before the mel's first one.
        scale: 0-D, or (n_mels, 1) for a scale of each band.
        offset: of the same shape.
        logarithm: Python that makes logarithms of ``mel``: "mel" itself if it holds them.
    """

    mel_config: MelConfig
    error: float
    lag: int
    scale: np.ndarray
    offset: np.ndarray
    logarithm: str = "mel"

    @property
    def expression(self) -> str | None:
        """Python that makes a mel of ``mel_config`` from ``mel``; None where it is one."""
        text = self.logarithm
        if np.any(self.offset):
            text += f" - {_literal(self.offset)}"
        if np.any(self.scale != 1):
            text = f"({text}) / {_literal(self.scale)}" if " " in text else f"{text} / {_literal(self.scale)}"
        return None if text == "mel" else text


def fit_recording(mel: np.ndarray, audio: np.ndarray, sample_rate: int) -> list[Fit]:
    """Find the mel config of a mel by its recording.

    Named mel configs are tried first. If none of them explains the mel, the fields are searched.

    Args:
        mel: (n_mels, frames), on any scale.
        audio: float (samples,) in [-1, 1], what the mel was computed from.
        sample_rate: the recording's, Hz.

    Returns:
        What was found, the best first; at least one.

    Raises:
        VocoderError: when no mel config has so many bands and frames of this recording.
    """
    recording = _Recording(audio, sample_rate)
    frames = math.ceil(mel.shape[1] * min(1.0, _SECONDS / recording.seconds))
    logarithms = dict(_logarithms(mel[:, :frames].astype(np.float64)))
    named = [config for config in MEL_CONFIGS.values() if config.n_mels == len(mel)]
    fits = _rank(recording, logarithms, named, False)
    if not fits or fits[0].error > EXPLAINED:
        others = [config.model_copy(update={"mel_norm": norm}) for config in named for norm in ("slaney", "none")]
        fits = _rank(recording, logarithms, others, False) + _rank(recording, logarithms, others, True)
        fits = _simplest_first(fits)
    if not fits or fits[0].error > EXPLAINED:
        fits = _simplest_first(_search(recording, mel.astype(np.float64)) + fits)
    if not fits:
        raise VocoderError(
            f"the mel has {mel.shape[1]} frames and the recording {recording.seconds:.2f} s, which fit no mel config; "
            f"is it the recording that the mel was made of?"
        )
    return fits


class _Recording:
    """A recording and its mels."""

    def __init__(self, audio: np.ndarray, sample_rate: int, seconds: float = _SECONDS) -> None:
        self.seconds = len(audio) / sample_rate
        self.audio, self.sample_rate = audio[: math.ceil(seconds * sample_rate)], sample_rate
        self.at = lru_cache(8)(lambda rate: resample(self.audio, sample_rate, rate))

    def log_mel(self, mel_config: MelConfig) -> np.ndarray | None:
        """Compute natural logarithms (n_mels, frames) with hardly a floor; None for too short a recording."""
        audio = self.at(mel_config.sample_rate)
        if len(audio) <= mel_config.n_fft:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MelWarning)
            return analyze(audio, mel_config.model_copy(update={"log": "ln", "floor": _SILENT})).astype(np.float64)


def _logarithms(mel: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what makes logarithms of the values, and these."""
    yield "mel", mel
    if mel.min() >= 0:
        yield "np.log(np.maximum(mel, 1e-5))", np.log(np.maximum(mel, 1e-5))
        if mel.max() < 20:
            yield "np.log(np.maximum(np.expm1(mel), 1e-5))", np.log(np.maximum(np.expm1(mel), 1e-5))


def _rank(
    recording: _Recording, logarithms: dict[str, np.ndarray], configs: Iterable[MelConfig], by_band: bool
) -> list[Fit]:
    """Return the fits of mel configs, the simplest of the best first."""
    fits = []
    for config in configs:
        computed = recording.log_mel(config)
        if computed is not None:
            tried = [_fit(values, computed, config, text, by_band) for text, values in logarithms.items()]
            fits += [fit for fit in tried if fit is not None]
    return _simplest_first(fits)


def _simplest_first(fits: list[Fit]) -> list[Fit]:
    """Sort by error, for equal ones by simplicity; drop repeated mel configs."""

    def key(fit: Fit) -> tuple[float, bool, int, bool]:
        good = fit.error <= EXPLAINED
        level = round(fit.error / 5e-4) if good and fit.scale.ndim == 0 else round(fit.error / 5e-4) + 40 * good
        return level, fit.expression is not None, len(fit.mel_config.text.split(",")), ":" in fit.mel_config.text

    best: dict[str, Fit] = {}
    for fit in sorted(fits, key=key):
        best.setdefault(fit.mel_config.text, fit)
    return list(best.values())


def _fit(values: np.ndarray, computed: np.ndarray, config: MelConfig, logarithm: str, by_band: bool) -> Fit | None:
    """Fit lag and scale of values (n_mels, frames) to computed natural logarithms (n_mels, other frames)."""
    lag = _lag(values.mean(0), computed.mean(0))
    if lag is None:
        return None
    first, end = max(0, -lag), min(values.shape[1], computed.shape[1] - lag)
    given, own = values[:, first:end], computed[:, first + lag : end + lag]
    margin = 1e-3 * (values.max() - values.min())
    inside = (given > values.min() + margin) & (given < values.max() - margin) & (own > math.log(_SILENT) + 0.1)
    if inside.sum() < 100:
        return None
    if by_band:
        scale, offset = _lines(own, given, inside)
    else:
        scale, offset = (np.array(part) for part in _snap(own[inside], given[inside]))
    if (scale <= 0).any():
        return None
    error = float((np.abs(given - scale * own - offset) / scale)[inside].mean()) / config.power
    if not by_band:
        low = float((values.min() - offset) / scale)
        config = _with_floor(config, low, float((values <= values.min() + margin).mean()))
    unit = 1.0 if config.log == "ln" else math.log(10)
    if scale.ndim == 0 and not offset and scale in _UNITS[:2]:
        config, scale, unit = config.model_copy(update={"log": "ln" if scale == 1 else "log10"}), np.array(1.0), 1.0
    return Fit(config, error, lag, scale * unit, offset, logarithm)


def _lag(given: np.ndarray, own: np.ndarray) -> int | None:
    """Return by how many frames loudness (frames) comes later in ``own``; None if it is much shorter."""
    spare = len(own) - len(given)
    if spare < -4 or given.std() == 0:
        return None

    def likeness(lag: int) -> float:
        first, end = max(0, -lag), min(len(given), len(own) - lag)
        a, b = given[first:end], own[first + lag : end + lag]
        return float(np.corrcoef(a, b)[0, 1]) if a.std() * b.std() > 0 else -1.0

    return max(range(-4, max(spare, 0) + 5), key=likeness) if len(given) > 20 else 0


def _line(own: np.ndarray, given: np.ndarray) -> tuple[float, float]:
    """Return slope and offset of given values by own ones, without outliers."""
    if len(own) < 10 or own.std() == 0:
        return 1.0, float((given - own).mean()) if len(own) else 0.0
    kept = np.ones(len(own), bool)
    for _ in range(3):
        slope, offset = np.polyfit(own[kept], given[kept], 1)
        apart = np.abs(given - slope * own - offset)
        kept = apart <= 3 * np.median(apart) + 1e-9
    return float(slope), float(offset)


def _lines(own: np.ndarray, given: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slopes and offsets (n_mels, 1) of the lines of all bands; slope 1 where next to nothing is inside."""
    count = np.maximum(inside.sum(1, keepdims=True), 1)
    mean_own, mean_given = ((part * inside).sum(1, keepdims=True) / count for part in (own, given))
    apart = (own - mean_own) * inside
    variance = (apart**2).sum(1, keepdims=True)
    few = (count < 10) | (variance == 0)
    slope = np.where(few, 1.0, (apart * (given - mean_given)).sum(1, keepdims=True) / np.where(few, 1.0, variance))
    return slope, mean_given - slope * mean_own


def _snap(own: np.ndarray, given: np.ndarray) -> tuple[float, float]:
    """Return slope and offset of the line; those of a common unit if they are as good."""
    slope, offset = _line(own, given)
    error = np.abs(given - slope * own - offset).mean()
    for unit in _UNITS:
        if abs(slope / unit - 1) < 0.02:
            shift = float(np.median(given - unit * own))
            shift = 0.0 if abs(shift) < 0.02 * unit else shift
            if np.abs(given - unit * own - shift).mean() < 1.1 * error + 1e-3 * unit:
                return unit, shift
    return slope, offset


def _with_floor(config: MelConfig, low: float, clipped: float) -> MelConfig:
    """State the floor of a mel whose smallest natural logarithm is ``low``, reached by a share of its values."""
    floor = math.log(config.floor)
    if clipped > 0.005 and abs(low - floor) > 0.02:
        return config.model_copy(update={"floor": float(f"{math.exp(low):.2g}")})
    if low < floor - 0.02:
        return config.model_copy(update={"floor": 10.0 ** math.floor(low / math.log(10) + 1e-6)})
    return config


def _search(whole: _Recording, mel: np.ndarray) -> list[Fit]:
    """Search the fields of the mel config, from the likeliest hops; each step takes the best of all choices."""
    recording = _Recording(whole.audio, whole.sample_rate, _SEARCHED)
    logarithms = dict(_logarithms(mel[:, : math.ceil(mel.shape[1] * min(1.0, _SEARCHED / whole.seconds))]))

    def best(configs: Iterable[MelConfig]) -> list[Fit]:
        fits = _rank(recording, logarithms, configs, True)
        return sorted(fits, key=lambda fit: fit.error)

    named = [config for config in MEL_CONFIGS.values() if config.n_mels == len(mel)]
    reached: list[Fit] = []
    for configs in (named, _starts(whole, mel)):
        for fit in best(configs)[:2]:
            for _ in range(3):
                before = fit.error
                for choices in (_fmax, _sizes, _windows, _fmin, _details):
                    fit = min([fit, *best(choices(fit.mel_config))[:1]], key=lambda fit: fit.error)
                if fit.error > before - 1e-4:
                    break
            reached.append(fit)
            if fit.error <= EXPLAINED:
                break
        if min((fit.error for fit in reached), default=math.inf) <= EXPLAINED:
            break
    found = [
        fit.mel_config.model_copy(update={"mel_norm": n, "floor": 1e-5}) for fit in reached for n in ("slaney", "none")
    ]
    frames = math.ceil(mel.shape[1] * min(1.0, _SECONDS / whole.seconds))
    logarithms = dict(_logarithms(mel[:, :frames]))
    return _rank(whole, logarithms, found, False) + _rank(whole, logarithms, found, True)


def _starts(recording: _Recording, mel: np.ndarray) -> Iterator[MelConfig]:
    """Yield mel configs of all rates and hops that give so many frames, or more, if silence was cut off the mel."""
    for rate in {*(rate for rate in _RATES if rate < recording.sample_rate), recording.sample_rate}:
        ratio = recording.seconds * rate / mel.shape[1]
        hops = {hop for hop in {*_HOPS, rate // 200, rate // 100, rate // 80} if 0.8 * ratio < hop < 1.03 * ratio}
        exact = {hop for hop in hops if abs(recording.seconds * rate / hop - mel.shape[1]) < 2}
        for hop in exact or hops or {round(ratio)}:
            n_fft = 2 ** math.ceil(math.log2(4 * hop) - 0.1)
            config = {"sample_rate": rate, "n_fft": n_fft, "hop_length": hop, "win_length": n_fft, "n_mels": len(mel)}
            for fmax in {min(8000.0, rate / 2), rate / 2}:
                yield MelConfig.model_validate(config | {"fmin": 0.0, "fmax": fmax, "padding": "center"})


def _fmax(config: MelConfig) -> Iterator[MelConfig]:
    limit = config.sample_rate / 2
    for scale, fmax in product(("slaney", "htk"), {fmax for fmax in (*_FMAX, limit) if fmax <= limit}):
        yield config.model_copy(update={"mel_scale": scale, "fmax": float(fmax)})


def _fmin(config: MelConfig) -> Iterator[MelConfig]:
    for scale, fmin in product(("slaney", "htk"), _FMIN):
        yield config.model_copy(update={"mel_scale": scale, "fmin": float(fmin)})


def _sizes(config: MelConfig) -> Iterator[MelConfig]:
    for n_fft, padding in product({*_FFT_SIZES, 4 * config.hop_length}, ("same", "center")):
        for win in {n_fft, config.win_length}:
            if config.hop_length <= win <= n_fft:
                yield config.model_copy(update={"n_fft": n_fft, "win_length": win, "padding": padding})


def _windows(config: MelConfig) -> Iterator[MelConfig]:
    for win in {*_WINDOWS, config.n_fft // 2, 4 * config.hop_length}:
        if config.hop_length <= win <= config.n_fft:
            yield config.model_copy(update={"win_length": win})


def _details(config: MelConfig) -> Iterator[MelConfig]:
    for padding, power, window in product(("same", "same-zeros", "center"), (1, 2), ("hann", "hann-symmetric")):
        yield config.model_copy(update={"padding": padding, "power": power, "window": window})


def _literal(values: np.ndarray) -> str:
    """Write a number, or those of all bands, as Python."""
    if values.ndim == 0:
        return f"{float(values):.7g}"
    return f"np.array([{', '.join(f'{value:.5g}' for value in values[:, 0])}])[:, None]"
