"""Run a model on mels of another mel config: adapt the mel, synthesise, resample. Does not import torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vocoders.dsp.adaptation import adapter
from vocoders.dsp.mel import MelConfig, list_differences
from vocoders.errors import MelMismatch
from vocoders.facts import Facts
from vocoders.inference.synthesis import Backend, Synthesis
from vocoders.inputs import Input, Values

_DELAY = 0.045  # seconds; the resampler's
_LONGEST_HOP = 0.032  # seconds; beyond these limits nothing was measured
_LOWEST_FMAX = 3000.0  # Hz
_FEWEST_BANDS = 32


def adapted_facts(facts: Facts, mel_config: MelConfig) -> Facts:
    """Return the facts of a model that takes mels of ``mel_config``.

    Raises:
        MelMismatch: when the model cannot take them, not even approximately.
    """
    model = facts.mel_config
    if mel_config.converts_to(model):
        return facts.model_copy(update={"mel_config": mel_config})
    _check(facts, mel_config)
    hop, own = model.hop_length / model.sample_rate, mel_config.hop_length / mel_config.sample_rate
    delay = _DELAY if mel_config.sample_rate != model.sample_rate else 0.0

    def frames(seconds: float) -> int:
        return math.ceil(seconds / own - 1e-9)

    lag = model.usual_lag if facts.lag is None else facts.lag
    changes: dict[str, Any] = {
        "mel_config": mel_config,
        "sample_rate": mel_config.sample_rate,
        "samples_per_frame": mel_config.hop_length,
        "inputs": tuple(item for item in facts.inputs if item.rate != "sample"),
        "lookahead": facts.lookahead and frames(own / 2 + (facts.lookahead + 0.5) * hop + delay),
        "context": facts.context and frames(own / 2 + (facts.context + 0.5) * hop + delay),
        "estimator_lookahead": frames(facts.estimator_lookahead * hop),
        "estimator_context": frames(facts.estimator_context * hop),
        "lag": mel_config.usual_lag + round((lag - model.usual_lag) * mel_config.sample_rate / model.sample_rate),
    }
    return facts.model_copy(update=changes)


def _check(facts: Facts, mel_config: MelConfig) -> None:
    """Refuse a mel config that the model cannot take, and models that cannot take any other."""
    model = facts.mel_config
    problem = None
    if (facts.sample_rate, facts.samples_per_frame) != (model.sample_rate, model.hop_length):
        problem = f"the model's audio has another rate than its mels, {facts.sample_rate} Hz"
    elif mel_config.fmax < _LOWEST_FMAX:
        problem = f"a mel up to {mel_config.fmax:g} Hz says too little, {_LOWEST_FMAX:g} Hz are needed"
    elif mel_config.hop_length > _LONGEST_HOP * mel_config.sample_rate:
        problem = f"its hop of {1000 * mel_config.hop_length / mel_config.sample_rate:.0f} ms is too long"
    elif mel_config.n_mels < _FEWEST_BANDS:
        problem = f"{mel_config.n_mels} bands are too few, {_FEWEST_BANDS} are needed"
    if problem:
        differences = list_differences(mel_config.lasting_differences(model))
        raise MelMismatch(
            f"a mel of mel config {mel_config.name} cannot be approximated for this model ({model.name}): {problem}; "
            f"they differ in {differences}; use a model of its own mel config: vocoders list"
        )


def describe_approximation(mel_config: MelConfig, model: MelConfig) -> str:
    """Say in a sentence what of ``mel_config`` is approximated for a model of another."""
    limit = min(mel_config.fmax, model.fmax)
    lacking = f"; the audio has nothing above {limit:g} Hz" if model.fmax < mel_config.sample_rate / 2 - 500 else ""
    guessed = f"; what the mel lacks above {mel_config.fmax:g} Hz is guessed" if mel_config.fmax < model.fmax else ""
    return (
        f"the mel is approximated for the model ({mel_config.name} as {model.name}): "
        f"{list_differences(mel_config.lasting_differences(model))}{lacking or guessed}"
    )


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
        if model.sample_rate != self.facts.mel_config.sample_rate:
            import soxr

            channels = len(self.seeds) * self.facts.channels
            self._resampler = soxr.ResampleStream(
                model.sample_rate, self.facts.mel_config.sample_rate, channels, dtype="float32"
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
