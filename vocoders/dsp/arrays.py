"""Convert users' arrays, numpy or torch, without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, Union

import numpy as np

from vocoders.errors import VocoderError

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")  # a function's input and output are of one kind
AnyArray = Union[np.ndarray, "Tensor"]


def as_numpy(values: Any) -> np.ndarray:
    """Return an array, list or torch tensor on any device as numpy, without a copy where possible."""
    if _is_tensor(values):
        # numpy has no bfloat16.
        return (values.float() if values.is_floating_point() else values).numpy(force=True)
    return np.asarray(values)


def kind_of(values: Any) -> Callable[[np.ndarray], Any]:
    """Return a function from numpy arrays to the kind of ``values``: tensors on its device, or numpy."""
    if not _is_tensor(values):
        return lambda array: array
    from_numpy, device = sys.modules["torch"].from_numpy, values.device
    return lambda array: from_numpy(array).to(device)


def as_float_array(array: np.ndarray) -> np.ndarray:
    """Return real numbers of any size and byte order as float32; values beyond its range become infinite.

    Copies only what torch cannot take, so a mapped file stays mapped.
    """
    if array.dtype.kind not in "fiub":
        raise VocoderError(f"expected an array of floats, got dtype {array.dtype}")
    if array.dtype == np.float32 and array.flags.writeable and min(array.strides, default=0) >= 0:
        return array
    with np.errstate(over="ignore"):
        return np.array(array, np.float32)


def _is_tensor(values: Any) -> bool:
    torch = sys.modules.get("torch")  # a tensor implies that torch is imported
    return torch is not None and isinstance(values, torch.Tensor)
