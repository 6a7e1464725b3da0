"""Arrays as every part of the package takes them. Without torch."""

from __future__ import annotations

import numpy as np

from vocoders.errors import VocoderError


def plain(array: np.ndarray) -> np.ndarray:
    """float32 for floats of any size and byte order, int64 for whole numbers; nothing else is taken.

    A copy only where torch could not take the array as it is: one that is mapped from a file stays there.
    """
    if array.dtype.kind not in "fiub":
        raise VocoderError(f"expected an array of floats, got dtype {array.dtype}")
    if array.dtype == np.float32 and array.flags.writeable and min(array.strides, default=0) >= 0:
        return array
    return np.array(array, np.float32 if array.dtype.kind == "f" else np.int64)
