"""Reading and resampling of recordings, for all recipes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import torch

from vocoders.io.audio import check_full_scale

_FILTER_ZEROS = 7  # of the filter of torchaudio's resampling, on each side of its middle: six, and its roll-off


def read_mono(
    file: Path | BinaryIO, start: int = 0, samples: int = -1, dtype: Literal["float32", "float64"] = "float32"
) -> np.ndarray:
    """Read a sound file, or a part of it, as the mean of its channels: (samples,), full scale at +-1.

    ``samples`` = -1 reads to the end; the result is shorter where the file ends.

    Raises:
        soundfile.LibsndfileError: when the file cannot be decoded.
        VocoderError: when its samples are far beyond full scale.
    """
    audio = soundfile.read(file, samples, start, dtype=dtype, always_2d=True)[0].mean(1)
    check_full_scale(audio, str(file) if isinstance(file, Path) else "a recording of a shard")
    return audio


def resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    """Resample float32 (samples,) from one rate in Hz to another, by torchaudio's windowed sinc."""
    from torchaudio.functional import resample as torchaudio_resample

    return torchaudio_resample(torch.from_numpy(audio), source, target).numpy()


def read_resampled(file: Path | BinaryIO, source: int, target: int, start: int, end: int) -> np.ndarray:
    """Read the samples ``start`` to ``end``, at the rate ``target``, of a recording that is resampled from ``source``.

    Returns:
        float32 (end - start,); shorter where the recording ends.

    Raises:
        soundfile.LibsndfileError: when the file cannot be decoded.
    """
    if source == target:
        return read_mono(file, start, end - start)
    block, samples = source // math.gcd(source, target), target // math.gcd(source, target)
    # Whole blocks, of as many samples after resampling, keep the phase of the filter; around them, what it reaches.
    reach = math.ceil(_FILTER_ZEROS / min(block, samples))
    first, last = max(start // samples - reach, 0), math.ceil(end / samples) + reach
    audio = read_mono(file, first * block, (last - first) * block)
    return resample(audio, source, target)[start - first * samples : end - first * samples]
