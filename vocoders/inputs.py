"""Inputs of a generator beside the mel. Does not import torch.

A value is an array (batch, channels, length); the length is the number of frames or of samples, or 1, by the rate of
the input.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import Field

from vocoders.config import Config
from vocoders.dsp.arrays import as_float_array
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.noise import white_noise
from vocoders.errors import VocoderError

Values = dict[str, np.ndarray]
Value = TypeVar("Value", bound=Any)  # an array or a tensor

UNKNOWN = -1.0
"""Value to be estimated by the model."""


class Input(Config):
    """One input of a generator beside the mel.

    Attributes:
        name: the parameter of ``Generator.synthesize``.
        rate: "frame" and "sample" for a signal, "utterance" for one vector such as a speaker embedding.
        channels: numbers at a time.
    """

    name: str
    rate: Literal["frame", "sample", "utterance"]
    channels: int = Field(1, gt=0, le=1 << 16)

    @property
    def is_signal(self) -> bool:
        """Whether its length depends on the mel."""
        return self.rate != "utterance"

    def columns(self, frames: int, samples_per_frame: int) -> int:
        """Return its length."""
        return {"frame": frames, "sample": frames * samples_per_frame, "utterance": 1}[self.rate]


F0 = Input(name="f0", rate="frame")  # Hz, 0 = unvoiced
NOISE = Input(name="noise", rate="sample")  # standard normal
PHASE = Input(name="phase", rate="utterance")  # cycles, of the first harmonic at the first sample


def accepted(inputs: Sequence[Input]) -> list[Input]:
    """Return the accepted inputs: the model's, and F0, ignored by models without it."""
    return [*inputs] if F0 in inputs else [*inputs, F0]


def check_names(inputs: Sequence[Input], given: Iterable[str]) -> None:
    """Check the names of given inputs."""
    known = [item.name for item in accepted(inputs)]
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            raise VocoderError(f"unknown input '{name}' ({hint})")


def required(inputs: Sequence[Input], estimated: Collection[str]) -> list[Input]:
    """Return the inputs that are neither estimated nor drawn."""
    return [item for item in inputs if item.name not in estimated and item not in (NOISE, PHASE)]


def check_given(inputs: Sequence[Input], estimated: Collection[str], given: Collection[str]) -> None:
    """Check that all needed inputs are given, and no unknown ones."""
    check_names(inputs, given)
    for item in required(inputs, estimated):
        if item.name not in given:
            what = f"{item.channels} numbers" if item.channels > 1 else "one number"
            per = "for the utterance" if item.rate == "utterance" else f"per {item.rate}"
            unit = " (Hz)" if item == F0 else f"; in a file: the array {item.name} beside mel in an .npz"
            raise VocoderError(
                f"this model needs {item.name} and has no estimator of its own; pass {item.name}=, {what} {per}{unit}"
            )


def check_value(item: Input, value: np.ndarray, batch: int, columns: int, mel_config: MelConfig) -> np.ndarray:
    """Return a checked input as float32 (batch, channels, columns).

    An axis of one channel, the length of an utterance-rate input, and a batch of one may be missing.
    """
    values = as_float_array(value)
    middle = [(item.channels,)] + [()] * (item.channels == 1)
    last = [(columns,)] + [()] * (not item.is_signal)
    first = [(batch,)] + [()] * (batch == 1)
    allowed = {(*a, *b, *c) for a in first for b in middle for c in last}
    if values.shape not in allowed:
        shortest = (batch,) * (batch > 1) + (item.channels,) * (item.channels > 1) + (columns,) * item.is_signal
        per = {"frame": "one value per frame", "sample": "one value per sample", "utterance": "one value"}[item.rate]
        expected, got = f"shape {shortest}", f"shape {values.shape}"
        if len(shortest) == values.ndim == 1:
            expected, got = str(shortest[0]), str(len(values))
        raise VocoderError(f"{item.name} must hold {per}: expected {expected}, got {got}")
    values = values.reshape(batch, item.channels, columns)
    if item == F0:
        _check_f0(values, mel_config)
    elif not np.isfinite(values).all():
        raise VocoderError(f"{item.name} holds NaN or infinite values")
    return values


def _check_f0(values: np.ndarray, mel_config: MelConfig) -> None:
    """Check that F0 lies between 0 and half the sample rate."""
    low, high, limit = float(values.min()), float(values.max()), mel_config.sample_rate / 2
    if not 0 <= low <= high <= limit:  # False for NaN
        raise VocoderError(f"f0 must be in Hz, from 0 (unvoiced) to {limit:g}; it holds {low:g} to {high:g}")


def cut(
    inputs: Sequence[Input], values: Mapping[str, Value], first: int, end: int, samples_per_frame: int
) -> dict[str, Value]:
    """Cut out frames ``first`` to ``end`` of signals."""
    pieces = {}
    for item in inputs:
        if item.name in values:
            value = values[item.name]
            begin, stop = item.columns(first, samples_per_frame), item.columns(end, samples_per_frame)
            pieces[item.name] = value[..., begin:stop] if item.is_signal else value
    return pieces


def constants_of(inputs: Sequence[Input], values: Mapping[str, Value]) -> dict[str, Value]:
    """Return the utterance-rate values."""
    return {item.name: values[item.name] for item in inputs if item.name in values and not item.is_signal}


def signals_of(inputs: Sequence[Input], values: Mapping[str, Value]) -> dict[str, Value]:
    """Return the values of signals."""
    return {item.name: values[item.name] for item in inputs if item.name in values and item.is_signal}


def draw(inputs: Sequence[Input], given: Collection[str], first: int, end: int, seeds: Sequence[int]) -> Values:
    """Draw the noise of samples ``first`` to ``end``, unless given.

    Returns float32 (batch, 1, samples) by name, (1, 1, samples) for equal seeds.
    """
    if NOISE not in inputs or NOISE.name in given:
        return {}
    seeds = seeds if len(set(seeds)) > 1 else seeds[:1]
    return {NOISE.name: np.stack([white_noise(first, end, seed)[None] for seed in seeds])}


def fill_constants(inputs: Sequence[Input], constants: Values, batch: int) -> Values:
    """Return the utterance-rate values, with phase 0 if not given."""
    if PHASE not in inputs or PHASE.name in constants:
        return constants
    return constants | {PHASE.name: np.zeros((batch, 1, 1))}


def constants_after(
    inputs: Sequence[Input], values: Values, count: int, mel_config: MelConfig, next_f0_share: float
) -> Values:
    """Return the utterance-rate values ``count`` frames later; the phase follows from F0.

    With a ``next_f0_share`` (see ``Generator``) F0 holds one frame more.
    """
    constants = constants_of(inputs, values)
    if PHASE in inputs:
        f0 = values[F0.name].astype(np.float64)
        f0 += next_f0_share * np.diff(f0, append=f0[..., -1:])
        cycles = f0[..., :count] * mel_config.hop_length / mel_config.sample_rate
        constants[PHASE.name] = (values[PHASE.name] + cycles.sum(2, keepdims=True)) % 1.0
    return constants
