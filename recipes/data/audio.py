"""Read and resample recordings."""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import torch

from vocoders.io.audio import check_full_scale

_FILTER_ZEROS = 7  # zeros on each side of torchaudio's filter: six, and its roll-off


def read_mono(
    file: Path | BinaryIO, start: int = 0, samples: int = -1, dtype: Literal["float32", "float64"] = "float32"
) -> np.ndarray:
    """Read a sound file, or part of it, as the mean of its channels: (samples,), full scale +-1.

    ``samples`` = -1 reads to the end; the result may be shorter. Raises soundfile.LibsndfileError for a damaged file,
    VocoderError for samples far beyond full scale.
    """
    audio = soundfile.read(file, samples, start, dtype=dtype, always_2d=True)[0].mean(1)
    check_full_scale(audio, str(file) if isinstance(file, Path) else "a recording of a shard")
    return audio


def resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    """Resample float32 (samples,) between rates in Hz by torchaudio's windowed sinc."""
    from torchaudio.functional import resample as torchaudio_resample

    return torchaudio_resample(torch.from_numpy(audio), source, target).numpy()


def read_resampled(file: Path | BinaryIO, source: int, target: int, start: int, end: int) -> np.ndarray:
    """Read samples ``start`` to ``end``, counted after resampling to ``target``: float32 (end - start,) or shorter."""
    if source == target:
        return read_mono(file, start, end - start)
    block, samples = source // math.gcd(source, target), target // math.gcd(source, target)
    # Whole blocks keep the filter's phase; add its reach on both sides.
    reach = math.ceil(_FILTER_ZEROS / min(block, samples))
    first, last = max(start // samples - reach, 0), math.ceil(end / samples) + reach
    audio = read_mono(file, first * block, (last - first) * block)
    return resample(audio, source, target)[start - first * samples : end - first * samples]
