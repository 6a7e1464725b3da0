"""Reading and resampling of recordings, for all recipes."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import torch

from vocoders.io.audio import check_full_scale


def read_mono(
    file: Path | BinaryIO, start: int = 0, samples: int = -1, dtype: Literal["float32", "float64"] = "float32"
) -> np.ndarray:
    """Read a sound file, or a part of it, as the mean of its channels.

    Args:
        file: the path of a file of any format that libsndfile reads, or the open file.
        start: first sample to read.
        samples: most samples to read; -1 reads to the end.
        dtype: type of the result.

    Returns:
        (samples,), full scale at +-1; shorter where the file ends.

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
