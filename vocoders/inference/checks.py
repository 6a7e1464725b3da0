"""What synthesis is given, checked: mels and F0 tracks. Without torch."""

from __future__ import annotations

import warnings

import numpy as np

from vocoders.dsp.arrays import plain
from vocoders.dsp.mel import MelConfig, diagnose
from vocoders.errors import MelWarning, VocoderError

# What any vocoder answers to what it cannot do.
NEEDS_F0 = "this model needs f0 and has no estimator of its own; pass f0, in Hz per frame"
NOT_FINITE = "the model's output is not finite: the mel's values are out of all range, or the model is damaged"
CANNOT_STREAM = (
    "this model cannot stream: it normalises over the whole utterance, so that the first sample depends on the last "
    "frame; synthesise the whole mel, or use a model with framewise_norm"
)
STREAM_OVER = "this stream is over; another utterance needs another stream"
STREAM_EMPTY = "the stream ended before its first frame"


def check_mel(mel: np.ndarray, mel_config: MelConfig) -> np.ndarray:
    """A log-mel as float32, (n_mels, frames) or (batch, n_mels, frames). Raises VocoderError when it does not fit."""
    values, shape = plain(mel), mel.shape
    if values.dtype != np.float32:
        raise VocoderError(f"a mel must hold floats, this one holds {mel.dtype}")
    if len(shape) not in (2, 3):
        raise VocoderError(
            f"a mel must be (n_mels, frames) or (batch, n_mels, frames), this one is {len(shape)}-D: {shape}"
        )
    if 0 in shape:
        raise VocoderError(f"the mel is empty: shape {shape}")
    if shape[-2] != mel_config.n_mels:
        hint = ""
        if shape[-1] == mel_config.n_mels:
            hint = f"; it looks transposed, (frames, n_mels): pass mel{'.T' if len(shape) == 2 else '.swapaxes(1, 2)'}"
        raise VocoderError(
            f"the model expects {mel_config.n_mels} bands ({mel_config.name}), this mel has {shape[-2]}: shape "
            f"{shape}{hint}"
        )
    blocks = (values[..., begin : begin + 4096] for begin in range(0, shape[-1], 4096))  # in memory that does not grow
    if damaged := sum(int((~np.isfinite(block)).sum()) for block in blocks):
        raise VocoderError(f"the mel holds {damaged} NaN or infinite values of {values.size}")
    return values


def warn_about_mel(mel: np.ndarray, mel_config: MelConfig) -> None:
    """Warn the caller's caller with MelWarning when the values look like another mel config's."""
    if doubt := diagnose(mel, mel_config):
        warnings.warn(doubt, MelWarning, stacklevel=3)


def check_f0(f0: np.ndarray, batch: int, frames: int, mel_config: MelConfig) -> np.ndarray:
    """F0 in Hz per frame, 0 = unvoiced: (frames,), (batch, frames) or (batch, 1, frames) -> float32 (batch, 1, frames).

    Raises VocoderError when it does not fit, or holds anything but frequencies below half the sample rate.
    """
    values = plain(f0)
    if values.shape not in ((frames,), (batch, frames), (batch, 1, frames)) or values.size != batch * frames:
        raise VocoderError(
            f"f0 must hold one value a frame, {frames} for each of {batch} mels; it has shape {values.shape}"
        )
    values = values.reshape(batch, 1, frames).astype(np.float32)
    low, high, limit = float(values.min()), float(values.max()), mel_config.sample_rate / 2
    if not 0 <= low <= high <= limit:  # NaN compares false
        raise VocoderError(f"f0 must be in Hz, from 0 (unvoiced) to {limit:g}; it holds {low:g} to {high:g}")
    return values
