"""Read and resample recordings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import torch
from torch import Tensor

from vocoders.io.audio import check_full_scale

_FILTER_ZEROS = 7  # zeros on each side of torchaudio's filter: six, and its roll-off


def read_sound(
    file: Path | BinaryIO,
    channels: int = 1,
    start: int = 0,
    samples: int = -1,
    dtype: Literal["float32", "float64"] = "float32",
) -> np.ndarray:
    """Read a sound file, or part of it: (channels, samples), full scale +-1.

    A file of another number of channels gives its mean, once for each channel. ``samples`` = -1 reads to the end; the
    result may be shorter. Raises soundfile.LibsndfileError for a damaged file, VocoderError for samples far beyond full
    scale.
    """
    audio = soundfile.read(file, samples, start, dtype=dtype, always_2d=True)[0]
    if audio.shape[1] != channels:
        audio = audio.mean(1, keepdims=True).repeat(channels, 1)
    check_full_scale(audio, str(file) if isinstance(file, Path) else "a recording of a shard")
    return np.ascontiguousarray(audio.T)


def resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    """Resample float32 (..., samples) between rates in Hz by torchaudio's windowed sinc."""
    return resample_tensor(torch.from_numpy(audio), source, target).numpy()


def resample_tensor(audio: Tensor, source: int, target: int) -> Tensor:
    """Resample as ``resample``, on the device of the audio."""
    if source == target:
        return audio
    from torchaudio.functional import resample as torchaudio_resample

    return torchaudio_resample(audio, source, target)


def read_resampled(
    file: Path | BinaryIO, source: int, target: int, start: int, end: int, channels: int = 1
) -> np.ndarray:
    """Read samples ``start`` to ``end``, counted after resampling to ``target``.

    Returns float32 (channels, end - start) or shorter.
    """
    if source == target:
        return read_sound(file, channels, start, end - start)
    block, samples = source // math.gcd(source, target), target // math.gcd(source, target)
    # Whole blocks keep the filter's phase; add its reach on both sides.
    reach = math.ceil(_FILTER_ZEROS / min(block, samples))
    first, last = max(start // samples - reach, 0), math.ceil(end / samples) + reach
    audio = read_sound(file, channels, first * block, (last - first) * block)
    return resample(audio, source, target)[:, start - first * samples : end - first * samples]
