"""Convert users' arrays, numpy or torch, to those the package computes with. Does not import torch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, Union

import numpy as np

from vocoders.errors import VocoderError

if TYPE_CHECKING:
    from torch import Tensor

Array = TypeVar("Array", np.ndarray, "Tensor")  # input and output of a function are of the same kind
AnyArray = Union[np.ndarray, "Tensor"]


def as_numpy(values: Any) -> np.ndarray:
    """Return an array, a list or a torch tensor on any device as a numpy array, without a copy where possible."""
    if _is_tensor(values):
        # numpy has no bfloat16.
        return (values.float() if values.is_floating_point() else values).numpy(force=True)
    return np.asarray(values)


def kind_of(values: Any) -> Callable[[np.ndarray], Any]:
    """Return a function from numpy arrays to the kind of ``values``: tensors on its device, or numpy arrays."""
    if not _is_tensor(values):
        return lambda array: array
    from_numpy, device = sys.modules["torch"].from_numpy, values.device
    return lambda array: from_numpy(array).to(device)


def as_float_array(array: np.ndarray) -> np.ndarray:
    """Return numbers of any size and byte order as float32.

    It is copied only where torch cannot take it as it is, so a mapped file stays mapped. Values beyond the range of
    float32 become infinite.

    Raises:
        VocoderError: when the array holds anything but real numbers.
    """
    if array.dtype.kind not in "fiub":
        raise VocoderError(f"expected an array of floats, got dtype {array.dtype}")
    if array.dtype == np.float32 and array.flags.writeable and min(array.strides, default=0) >= 0:
        return array
    with np.errstate(over="ignore"):
        return np.array(array, np.float32)


def _is_tensor(values: Any) -> bool:
    torch = sys.modules.get("torch")  # a tensor can only come from a torch that is already imported
    return torch is not None and isinstance(values, torch.Tensor)
