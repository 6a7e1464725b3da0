"""Run a model on mels of another mel config: adapt the mel, synthesise, resample. Does not import torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vocoders.dsp.adaptation import adapter
from vocoders.dsp.mel import MelConfig, list_differences
from vocoders.errors import MelMismatch, VocoderError
from vocoders.facts import Facts
from vocoders.inference.synthesis import Backend, Synthesis
from vocoders.inputs import Input, Values

_DELAY = 1000  # samples of the model; the resampler's, as measured
# Least and most of a mel config that can be approximated. Little is left of speech beyond the first three.
_LIMITS = {
    "hop_length in ms": (2.0, 32.0),
    "n_mels": (32, 256),
    "fmax": (3000, 48000),
    "sample_rate": (8000, 96000),
    "n_fft": (128, 16384),
}


def adapted_facts(facts: Facts, mel_config: MelConfig, model_rate: bool = False) -> Facts:
    """Return the facts of a model that takes mels of ``mel_config``; with ``model_rate`` it keeps its sample rate.

    Raises:
        MelMismatch: when the model cannot take them, not even approximately.
        VocoderError: when a frame is no whole number of samples at the model's rate.
    """
    model = facts.mel_config
    if mel_config.converts_to(model):
        return facts.model_copy(update={"mel_config": mel_config})
    _check(facts, mel_config)
    hop, own = model.hop_length / model.sample_rate, mel_config.hop_length / mel_config.sample_rate
    rate = model.sample_rate if model_rate else mel_config.sample_rate
    if mel_config.hop_length * rate % mel_config.sample_rate:
        raise VocoderError(
            f"at the model's rate, {rate} Hz, a frame of {mel_config.name} is no whole number of samples; synthesise "
            f"at {mel_config.sample_rate} Hz and resample"
        )
    delay = 0.0
    if rate != model.sample_rate:
        delay = _DELAY / model.sample_rate * max(1.0, model.sample_rate / rate / 1.5)

    def frames(seconds: float) -> int:
        return math.ceil(seconds / own - 1e-9)

    def reach(count: int | None) -> int | None:  # of the model's frames, also 0
        return None if count is None else frames(own / 2 + (count + 0.5) * hop + delay)

    lag = model.usual_lag if facts.lag is None else facts.lag
    changes: dict[str, Any] = {
        "mel_config": mel_config,
        "sample_rate": rate,
        "samples_per_frame": mel_config.hop_length * rate // mel_config.sample_rate,
        "inputs": tuple(item for item in facts.inputs if item.rate != "sample"),
        "lookahead": reach(facts.lookahead),
        "context": reach(facts.context),
        "estimator_lookahead": frames(facts.estimator_lookahead * hop),
        "estimator_context": frames(facts.estimator_context * hop),
        "lag": round(
            (mel_config.usual_lag / mel_config.sample_rate + (lag - model.usual_lag) / model.sample_rate) * rate
        ),
    }
    return facts.model_copy(update=changes)


def _check(facts: Facts, mel_config: MelConfig) -> None:
    """Refuse a mel config that the model cannot take, and models that cannot take any other."""
    model, problem = facts.mel_config, None
    if (facts.sample_rate, facts.samples_per_frame) != (model.sample_rate, model.hop_length):
        problem = f"the model's audio, {facts.sample_rate} Hz, has another rate than its mels"
    values = mel_config.model_dump() | {"hop_length in ms": 1000 * mel_config.hop_length / mel_config.sample_rate}
    for name, (least, most) in _LIMITS.items():
        if not least <= values[name] <= most:
            problem = f"{name} must be from {least:g} to {most:g}, it is {values[name]:g}"
    if problem:
        differences = list_differences(mel_config.lasting_differences(model))
        raise MelMismatch(
            f"a mel of mel config {mel_config.name} cannot be approximated for this model ({model.name}): {problem}; "
            f"they differ in {differences}; use a model of its own mel config, see 'vocoders list'"
        )


def describe_approximation(mel_config: MelConfig, model: MelConfig) -> str:
    """Say in a sentence what of ``mel_config`` is approximated for a model of another."""
    differences = list_differences(mel_config.lasting_differences(model))
    more = ""
    if mel_config.sample_rate > model.sample_rate:
        more = f"; the audio has nothing above {model.sample_rate / 2:g} Hz"
    elif mel_config.fmax < model.fmax:
        more = f"; what is above {mel_config.fmax:g} Hz is guessed"
    return f"the mel is approximated for the model, {mel_config.name} as {model.name}: {differences}{more}"


class AdaptedSynthesis(Synthesis):
    """Synthesis of a batch of utterances whose mels are adapted to the model."""

    def __init__(
        self,
        vocoder: Backend,
        inner: Synthesis,
        seeds: Sequence[int],
        given: Collection[str] = (),
        constants: Values | None = None,
    ) -> None:
        """Start a synthesis; ``inner`` is the model's own."""
        super().__init__(vocoder, seeds, given, constants)
        model = inner.facts.mel_config
        self._inner = inner
        self._adapter = adapter(self.facts.mel_config, model)
        self._mel = np.empty((len(self.seeds), self.facts.mel_config.n_mels, 0), np.float32)  # still needed
        self._signals: dict[str, np.ndarray] = {}  # likewise
        self._first = 0  # frames before these
        self._adapted = 0  # frames that the model took
        self._resampler: Any = None
        if inner.facts.sample_rate != self.facts.sample_rate:
            import soxr

            channels = len(self.seeds) * self.facts.channels
            self._resampler = soxr.ResampleStream(
                inner.facts.sample_rate, self.facts.sample_rate, channels, dtype="float32"
            )
        self._waiting = self.nothing()  # audio beyond the frames that came
        self._samples = 0

    def _advance(self, mel: np.ndarray, signals: Values, last: bool) -> np.ndarray:
        come = self.frames + mel.shape[2]
        self._mel = np.concatenate([self._mel, mel], 2)
        end = self._adapter.frames(come) if last else self._adapter.final_frames(come)
        mels = self._adapter(self._mel, self._adapted, end, self._first)
        values = {item.name: self._adapt(item, signals, end) for item in self.facts.inputs if item.name in signals}
        self._adapted = end
        dropped = min(self._adapter.columns_before(end), come) - self._first
        self._mel = self._mel[..., dropped:]
        self._signals = {name: value[..., dropped:] for name, value in self._signals.items()}
        self._first += dropped
        audio = self._inner.advance(mels, values, last).reshape(len(self.seeds), self.facts.channels, -1)
        return self._limit(self._resample(audio, last), come)

    def _adapt(self, item: Input, signals: Mapping[str, np.ndarray], end: int) -> np.ndarray:
        """Adapt an input's new values (batch, channels, length)."""
        value = signals[item.name]
        if item.rate == "sample":  # only of exact conversions
            return value
        self._signals[item.name] = np.concatenate([self._signals.get(item.name, value[..., :0]), value], 2)
        return self._adapter.adapt_signal(self._signals[item.name], self._adapted, end, self._first)

    def _resample(self, audio: np.ndarray, last: bool) -> np.ndarray:
        if self._resampler is None:
            return audio
        rows = audio.reshape(len(self.seeds) * self.facts.channels, audio.shape[2])
        resampled = self._resampler.resample_chunk(np.ascontiguousarray(rows.T), last)  # (samples, channels)
        return np.ascontiguousarray(resampled.T).reshape(*audio.shape[:2], len(resampled))

    def _limit(self, audio: np.ndarray, come: int) -> np.ndarray:
        """Return the audio of the frames that came, and keep what is beyond."""
        audio = np.concatenate([self._waiting, audio], 2)
        end = come * self.facts.samples_per_frame - self._samples
        self._waiting = audio[..., end:]
        self._samples += min(end, audio.shape[2])
        return audio[..., :end]
