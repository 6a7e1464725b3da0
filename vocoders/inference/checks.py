"""Validate mels, seeds and audio. Does not import torch."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np

from vocoders.dsp.arrays import as_float_array
from vocoders.dsp.diagnosis import IDENTIFY, Diagnosis, diagnose
from vocoders.dsp.mel import MelConfig, convert_mel
from vocoders.errors import VocoderError
from vocoders.io.audio import FULL_SCALE_LIMIT, full_scale, resample

_BLOCK = 4096  # frames checked at once, and the most that are diagnosed, to bound memory
_MOST_CHANNELS = 8


class PreparedMel(NamedTuple):
    """float32 (n_mels, frames) or (batch, n_mels, frames) in the model's mel config; a warning on unusual values."""

    values: np.ndarray
    warning: Diagnosis | None


def prepare_mel(mel: np.ndarray, target: MelConfig, source: MelConfig | None = None) -> PreparedMel:
    """Validate a mel, (n_mels, frames) or (batch, n_mels, frames), and convert it from ``source`` to ``target``.

    Without ``source`` the values are diagnosed. float32 is not copied, so a mapped mel stays in its file.
    """
    if source is not None:
        source.check_convertible(target)
    if mel.dtype.kind != "f":
        raise VocoderError(f"a mel must hold floats, this one holds {mel.dtype}")
    _check_shape(mel.shape, target)
    values = as_float_array(mel)
    frames = values.shape[-1]
    blocks = (values[..., begin : begin + _BLOCK] for begin in range(0, frames, _BLOCK))
    if damaged := sum(int((~np.isfinite(block)).sum()) for block in blocks):
        raise VocoderError(f"the mel holds {damaged} NaN or infinite values of {values.size}")
    if source is not None:
        return PreparedMel(convert_mel(values, source, target), None)
    every = 1 + values.size // (target.n_mels * _BLOCK)
    return PreparedMel(values, diagnose(values[..., ::every], target))


def _check_shape(shape: tuple[int, ...], mel_config: MelConfig) -> None:
    if len(shape) not in (2, 3):
        raise VocoderError(
            f"a mel must be (n_mels, frames) or (batch, n_mels, frames), this one is {len(shape)}-D: {shape}"
        )
    if 0 in shape:
        raise VocoderError(f"the mel is empty: shape {shape}")
    if shape[-2] != mel_config.n_mels:
        hint = f"; {IDENTIFY}"
        if shape[-1] == mel_config.n_mels:
            hint = f"; it looks transposed, (frames, n_mels): pass mel{'.T' if len(shape) == 2 else '.swapaxes(1, 2)'}"
        raise VocoderError(
            f"the model expects {mel_config.n_mels} bands ({mel_config.name}), this mel has {shape[-2]}: shape "
            f"{shape}{hint}"
        )


def check_seed(seed: Any) -> int:
    """Return a seed as an int, 0 for None; VocoderError unless it is a whole number from 0 to 2^63 - 1."""
    if seed is None:
        return 0
    if not isinstance(seed, Integral) or not 0 <= int(seed) < 2**63:
        raise VocoderError(f"a seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
    return int(seed)


def check_lookahead(lookahead: Any) -> int:
    """Return a lookahead in frames as an int; VocoderError unless it is a whole number from 1 on."""
    if not isinstance(lookahead, Integral) or int(lookahead) < 1:
        raise VocoderError(f"a lookahead must be a whole number of frames from 1 on, got {lookahead!r}")
    return int(lookahead)


def as_mel_config(mel_config: MelConfig | str) -> MelConfig:
    """Return a mel config given as such or by name; VocoderError for anything else."""
    if isinstance(mel_config, str):
        return MelConfig.parse(mel_config)
    if not isinstance(mel_config, MelConfig):
        raise VocoderError(
            f"a mel config must be a MelConfig or a name such as 'hifigan-22k', got {type(mel_config).__name__}"
        )
    return mel_config


def prepare_audio(audio: np.ndarray, sample_rate: int, mel_config: MelConfig) -> np.ndarray:
    """Validate audio (..., samples) and resample it to the rate of a mel config, as float32."""
    if audio.dtype.kind != "f":
        raise VocoderError(f"audio must hold floats in [-1, 1], this holds {audio.dtype}")
    if not isinstance(sample_rate, Real) or not 0 < float(sample_rate) < math.inf:
        raise VocoderError(f"the sample rate must be a positive number, in Hz; got {sample_rate!r}")
    if sample_rate < 1000:
        raise VocoderError(f"a sample rate is in Hz, {sample_rate:g} looks like kHz: pass {round(sample_rate * 1000)}")
    values, target = as_float_array(audio), mel_config.sample_rate
    samples = values.shape[-1] if values.ndim else 1
    if values.ndim == 2 and samples <= _MOST_CHANNELS < len(values):
        raise VocoderError(
            f"audio must be (..., samples), this is {values.shape}; it looks like {samples} channels, (samples, "
            f"channels): pass audio.mean(1) for one, audio.T for each"
        )
    if values.ndim == 0 or samples * target < mel_config.hop_length * sample_rate:
        raise VocoderError(
            f"the audio is shorter than one frame: {samples} samples at {sample_rate} Hz, a frame has "
            f"{mel_config.hop_length} at {target} Hz"
        )
    if not np.isfinite(values).all():
        raise VocoderError("the audio holds NaN or infinite samples")
    peak = float(np.abs(values).max(initial=0.0))
    if peak > FULL_SCALE_LIMIT:
        raise VocoderError(
            f"the audio has samples up to {peak:g}, far beyond full scale, 1: pass audio / {full_scale(peak):g}"
        )
    if sample_rate == target:
        return values
    rows = values.reshape(-1, samples)
    return np.stack([resample(row, sample_rate, target) for row in rows]).reshape(*values.shape[:-1], -1)
