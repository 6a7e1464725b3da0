"""RULES: the kind of state of each operation, and its arguments.

An operation without a rule must be pointwise in time, which a trial verifies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import wrap_torch_function

from vocoders.dsp.stft import overlap_add, reflect_pad
from vocoders.nn import fast
from vocoders.nn.alias_free import REACH, alias_free_snake
from vocoders.nn.fast import reflect_pad_2d
from vocoders.nn.layers import trim
from vocoders.streaming.spans import Arguments, Span, name_of, refuse
from vocoders.streaming.states import Delay, Overlap, Pad, State, Sum, Trim, Window, Within

Settings = dict[str, Any]
"""Arguments of a kind's ``run`` and ``trace``."""
ReadArguments = Callable[..., Settings | None]
"""Reads an operation's arguments; None if it is pointwise in time."""


def rule_of(function: Callable[..., Any], arguments: Arguments, spans: list[Span]) -> tuple[type[State], Settings]:
    """Return the kind of state of an operation, and its arguments."""
    if function in RULES:
        if len(spans) > 1 or not arguments[0] or arguments[0][0] is not spans[0]:
            raise refuse(name_of(function), "its first argument, and no other, may be a signal")
        kind, read = RULES[function]
        settings = read(function, *arguments[0], **arguments[1])
        if settings is not None:
            return kind, settings
    return Delay, {"arguments": arguments, "spans": spans}


def as_operation(kind: type[State], read: ReadArguments) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Make a function one operation with this rule."""

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        handed_over = wrap_torch_function(lambda x, *_: (x,))(function)
        RULES[handed_over] = kind, read
        return handed_over

    return register


def conv_arguments(
    function: Callable[..., Tensor],
    x: Span,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Settings | None:
    """Read the arguments of ``torch.conv1d``, ``torch.conv2d`` and the like."""
    axis, axes = x.axis, weight.dim() - 2
    if axis < -axes or x.dim() != weight.dim():  # time is the batch or channel axis
        return None
    stride, dilation = _per_axis(stride, axes), _per_axis(dilation, axes)
    size = (weight.shape[axis] - 1) * dilation[axis] + 1
    if isinstance(padding, str):
        total = (size - 1) * (padding == "same")
        left, right = total // 2, total - total // 2
        others = [(weight.shape[2 + i] - 1) * dilation[i] * (padding == "same") for i in range(axes)]
        if any(total % 2 for i, total in enumerate(others) if i != axes + axis):
            raise refuse(name_of(function), f"padding '{padding}' of an even kernel in another axis than time")
        padding = [total // 2 for total in others]
    else:
        padding = _per_axis(padding, axes)
        left = right = padding[axis]
    padding[axis] = 0

    def convolve(columns: Tensor) -> Tensor:
        return function(columns, weight, bias, stride, padding, dilation, groups)

    settings = {"x": x, "axis": axis, "size": size, "stride": stride[axis], "left": left, "right": right}
    return settings | {"function": convolve, "out_axis": axis}


def conv_transpose_arguments(
    function: Callable[..., Tensor],
    x: Span,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Settings | None:
    """Read the arguments of ``torch.conv_transpose1d``, ``torch.conv_transpose2d`` and the like."""
    axes = weight.dim() - 2
    if x.axis < -axes or x.dim() != weight.dim():
        return None
    stride, padding, extra, dilation = (_per_axis(value, axes) for value in (stride, padding, output_padding, dilation))
    if x.axis != -1 or any(padding[:-1]) or any(extra[:-1]):
        raise refuse(name_of(function), "time must be the last axis, and the only one that is padded")

    def convolve(columns: Tensor) -> Tensor:
        return function(columns, weight, None, stride, [0] * axes, [0] * axes, groups, dilation)

    settings = {"x": x, "axis": -1, "stride": stride[-1], "left": padding[-1], "right": padding[-1] - extra[-1]}
    return settings | {"function": convolve, "bias": None if bias is None else bias.reshape(-1, *[1] * axes)}


def overlap_add_arguments(function: Any, frames: Span, hop_length: int, left: int, right: int) -> Settings | None:
    """Read the arguments of ``dsp.stft.overlap_add``."""
    if frames.axis != -2:
        return None
    settings = {"x": frames, "axis": -2, "stride": hop_length, "left": left, "right": right}
    return settings | {"function": lambda columns: overlap_add(columns, hop_length, 0, 0)}


def unfold_arguments(function: Any, x: Span, dimension: int, size: int, step: int) -> Settings | None:
    """Read the arguments of ``Tensor.unfold``."""
    axis = _from_the_end(dimension, x)
    if axis != x.axis:
        return None
    settings = {"x": x, "axis": axis, "size": size, "stride": step, "out_axis": axis - 1}
    return settings | {"function": lambda columns: columns.unfold(axis, size, step)}


def framing_arguments(function: Callable[..., Tensor], x: Span, size: int, step: int) -> Settings | None:
    """Read the arguments of a framing function, (..., time) -> (..., size, windows), of complete windows."""
    if x.axis != -1:
        return None
    settings = {"x": x, "axis": -1, "size": size, "stride": step, "out_axis": -1, "complete": True}
    return settings | {"function": lambda columns: function(columns, size, step)}


def pad_arguments(
    function: Any, x: Span, pad: Any, mode: str = "constant", value: float | None = None
) -> Settings | None:
    """Read the arguments of ``F.pad``."""
    axis, before = x.axis, 2 * (-x.axis - 1)  # F.pad begins with the last axis
    left, right = (*pad[before : before + 2], 0, 0)[:2]
    if left == right == 0:
        return None
    if any(pad[:before]) or any(pad[before + 2 :]) or left < 0 or right < 0:
        raise refuse("pad", f"padding by {tuple(pad)} of a signal with its time at {axis}; pad one axis at a time")
    if mode not in ("constant", "replicate", "reflect"):
        raise refuse("pad", f"the mode '{mode}' needs the other end of the signal")
    settings = {"x": x, "axis": axis, "left": left, "right": right, "mode": mode}
    return settings | {"pad": lambda x, left, right: F.pad(x, (*[0] * before, left, right), mode, value)}


def reflect_pad_arguments(function: Any, x: Span, left: int, right: int, dim: int = -1) -> Settings | None:
    """Read the arguments of ``dsp.stft.reflect_pad``."""
    axis = _from_the_end(dim, x)
    if axis != x.axis:
        return None
    settings = {"x": x, "axis": axis, "left": left, "right": right, "mode": "reflect"}
    return settings | {"pad": lambda x, left, right: reflect_pad(x, left, right, axis)}


def reflect_pad_2d_arguments(function: Any, x: Span, frames: int, bins: int) -> Settings:
    """Read the arguments of ``nn.fast.reflect_pad_2d``; the bins are padded here."""
    if x.axis != -2:
        raise refuse("reflect_pad_2d", f"time must be axis -2, it is axis {x.axis}")

    def pad(x: Tensor, left: int, right: int) -> Tensor:
        if x.shape[-2] > max(left, right):  # in the channels_last format
            return F.pad(x, (0, 0, left, right), mode="reflect")
        return reflect_pad(x, left, right, -2)

    padded = reflect_pad_2d(x, 0, bins)
    return {"x": padded, "axis": -2, "left": frames, "right": frames, "mode": "reflect", "pad": pad}


def alias_free_snake_arguments(function: Any, x: Span, *parameters: Tensor) -> Settings | None:
    """Read the arguments of ``nn.alias_free.alias_free_snake``."""
    if x.axis != -1:
        return None
    return {"x": x, "reach": REACH, "function": lambda piece: alias_free_snake(piece, *parameters)}


def trim_arguments(function: Any, x: Span, left: int, right: int) -> Settings | None:
    """Read the arguments of ``nn.layers.trim``."""
    return {"x": x, "left": left, "right": right} if x.axis == -1 else None


def cumsum_arguments(function: Any, x: Span, dim: int, *, dtype: torch.dtype | None = None) -> Settings | None:
    """Read the arguments of ``torch.cumsum``."""
    axis = _from_the_end(dim, x)
    return {"x": x, "axis": axis, "dtype": dtype} if axis == x.axis else None


RULES: dict[Any, tuple[type[State], ReadArguments]] = {
    torch.conv1d: (Window, conv_arguments),
    torch.conv2d: (Window, conv_arguments),
    fast.conv1d: (Window, conv_arguments),
    Tensor.unfold: (Window, unfold_arguments),
    torch.conv_transpose1d: (Overlap, conv_transpose_arguments),
    torch.conv_transpose2d: (Overlap, conv_transpose_arguments),
    fast.conv_transpose1d: (Overlap, conv_transpose_arguments),
    overlap_add: (Overlap, overlap_add_arguments),
    F.pad: (Pad, pad_arguments),
    reflect_pad: (Pad, reflect_pad_arguments),
    reflect_pad_2d: (Pad, reflect_pad_2d_arguments),
    trim: (Trim, trim_arguments),
    alias_free_snake: (Within, alias_free_snake_arguments),
    torch.cumsum: (Sum, cumsum_arguments),
    Tensor.cumsum: (Sum, cumsum_arguments),
}

# They describe a signal's layout, not its values.
_PROPERTIES = (
    *("shape", "dtype", "device", "ndim", "layout", "itemsize", "requires_grad", "is_leaf"),
    *("is_cpu", "is_cuda", "is_mps", "is_meta"),
)
DESCRIPTIONS = {
    *(getattr(Tensor, name).__get__ for name in _PROPERTIES),
    *(Tensor.dim, Tensor.size, Tensor.ndimension, Tensor.numel, Tensor.nelement, Tensor.stride, Tensor.__len__),
    *(Tensor.element_size, Tensor.is_contiguous, Tensor.get_device, Tensor.__repr__),
    *(Tensor.is_floating_point, Tensor.is_complex, torch.is_floating_point, torch.is_complex, torch.numel),
    *(Tensor.new_tensor, Tensor.new_zeros, Tensor.new_ones, Tensor.new_full, Tensor.new_empty),
}


def _per_axis(value: Any, axes: int) -> list[int]:
    """Expand a convolution setting to each axis."""
    return [value] * axes if isinstance(value, int) else list(value) if len(value) > 1 else list(value) * axes


def _from_the_end(dim: int, x: Tensor) -> int:
    return dim if dim < 0 else dim - x.dim()
