"""The operations of a network that is evaluated piece by piece, and their rules; see streaming.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import wrap_torch_function

from vocoders.dsp.stft import overlap_add, reflect_pad
from vocoders.nn import cpu_kernels
from vocoders.nn.alias_free import REACH, alias_free_snake
from vocoders.nn.layers import reflect_pad_2d, trim
from vocoders.streaming.columnwise import columnwise_axis
from vocoders.streaming.spans import Arguments, Span, as_plain, like, map_tensors, name_of, refuse


class Operation:
    """One operation of a network, and what it keeps from pass to pass.

    Attributes:
        function: what it is.
        axis: of time in its result where it treats each column by itself, once that is verified.
        first: whether this is its first pass.
        last: whether this is the last one.
        kept: columns for later passes.
        count: of columns; rules say which.
    """

    def __init__(self, function: Callable[..., Any], axis: int | None = None) -> None:
        self.function = function
        self.axis = axis
        self.first = True
        self.last = False
        self.kept: dict[int, Tensor] = {}
        self.count: int | None = None

    def __call__(self, arguments: Arguments, spans: list[Span]) -> tuple[Any, int | None]:
        """Return the result, and the axis of time in it; None for what is no signal, such as a dtype."""
        if self.function in DESCRIPTIONS:
            return self.function(*arguments[0], **arguments[1]), None
        rule = _RULES.get(self.function)
        if rule is None:
            result: tuple[Any, int | None] = self.columnwise(arguments, spans)
        elif len(spans) > 1 or not arguments[0] or arguments[0][0] is not spans[0]:
            raise refuse(name_of(self.function), "its first argument, and no other, may be a signal")
        else:
            result = rule(self, *arguments[0], **arguments[1])
        self.first = False
        return result

    def columnwise(self, arguments: Arguments, spans: list[Span]) -> tuple[Any, int]:
        """Treat each column by itself: as many as all signals have; what some have more of is kept."""
        if self.axis is None:
            self.axis = columnwise_axis(self.function, arguments, spans)
        if len(spans) == 1:
            count, whole = spans[0].shape[spans[0].axis], arguments
        else:
            pieces = [self.join(span, span.axis, i) for i, span in enumerate(spans)]
            count = min(piece.shape[span.axis] for piece, span in zip(pieces, spans, strict=True))
            parts = iter([self.split(piece, spans[i].axis, count, i) for i, piece in enumerate(pieces)])
            whole = map_tensors(arguments, lambda _: next(parts))
        if count:
            return self.function(*whole[0], **whole[1]), self.axis
        args, kwargs = map_tensors(arguments, lambda span: _zeros(span, span.axis, 1))
        out = self.function(*args, **kwargs)  # some operations refuse what is empty
        if isinstance(out, Tensor):
            return out.narrow(self.axis, 0, 0), self.axis
        return like(out, [part.narrow(self.axis, 0, 0) for part in out]), self.axis

    def join(self, x: Tensor, axis: int, key: int = 0) -> Tensor:
        """Return what was kept, followed by ``x``."""
        kept = self.kept.pop(key, None)
        if kept is None:
            return x
        return torch.cat([kept.mT, x.mT], 1).mT if _channels_together(x, axis) else torch.cat([kept, x], axis)

    def split(self, x: Tensor, axis: int, count: int, key: int = 0) -> Tensor:
        """Return the first ``count`` columns of ``x`` and keep the rest."""
        rest = x.shape[axis] - count
        if rest:
            self.kept[key] = x.narrow(axis, count, rest).clone()  # a view would keep all of x
            x = x.narrow(axis, 0, count)
        return x

    def windows(
        self, x: Tensor, axis: int, size: int, stride: int, left: int = 0, right: int = 0
    ) -> tuple[Tensor, int]:
        """Return the columns of all whole windows, and how many windows; zeros for a single one where there is none.

        Args:
            x: the next columns.
            axis: of time.
            size: of a window.
            stride: between windows.
            left: zeros before the whole.
            right: zeros after it.
        """
        x = _pad_zeros(self.join(x, axis), axis, left if self.first else 0, right if self.last else 0)
        count = max(0, (x.shape[axis] - size) // stride + 1)
        self.split(x, axis, count * stride)
        return (x.narrow(axis, 0, (count - 1) * stride + size) if count else _zeros(x, axis, size)), count

    def whole_steps(self, x: Tensor, size: int, step: int) -> Tensor:
        """Return the columns of windows that start ``step`` apart, without those of one that is not complete."""
        return x  # ``windows`` returns no others

    def results(self, x: Tensor, axis: int, count: int) -> Tensor:
        """Return the results ``x`` of ``count`` windows."""
        return x.narrow(axis, 0, count)

    def overlap(self, x: Tensor, stride: int, count: int, left: int, right: int) -> Tensor:
        """Add ``x``, the sum of ``count`` windows that start ``stride`` apart, to earlier ones; return what is final.

        The whole is without its first ``left`` and last ``right`` columns.
        """
        if right > x.shape[-1] - max(count, 1) * stride:
            raise refuse(name_of(self.function), "more is cut off at the end than windows overlap")
        before = self.kept.pop(0, None)
        if count == 0:
            x = x[..., :0] if before is None else before
        elif before is not None:
            x[..., : before.shape[-1]] += before
        x = self.split(x, -1, x.shape[-1] - right if self.last else count * stride)
        cut = min(left if self.count is None else self.count, x.shape[-1])
        self.count = (left if self.count is None else self.count) - cut
        return x[..., cut:]

    def pad(
        self, x: Tensor, axis: int, left: int, right: int, mode: str, pad: Callable[[Tensor, int, int], Tensor]
    ) -> Tensor:
        """Pad by ``pad(x, left, right)``, which does it by the ``mode`` "constant", "replicate" or "reflect"."""
        if self.count is None:
            needed = {"constant": 0, "replicate": 1, "reflect": left + 1}[mode]  # columns of x, at the left
            x = self.join(x, axis)
            if x.shape[axis] < needed and not self.last:
                return self.split(x, axis, 0)
        out = pad(x, left, 0) if self.count is None else x
        self.count = right + 1  # columns that are kept to be mirrored at the end
        seen = self.join(x.narrow(axis, max(0, x.shape[axis] - self.count), min(x.shape[axis], self.count)), axis)
        if self.last:
            out = torch.cat([out, pad(seen, 0, right).narrow(axis, seen.shape[axis], right)], axis)
        self.split(seen, axis, max(0, seen.shape[axis] - self.count))
        return out

    def within(self, x: Tensor, reach: int, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply ``function``, each column of whose result depends on ``reach`` columns on each side."""
        piece, before = self.join(x, -1), self.count or 0  # columns whose results are out already
        count = piece.shape[-1] - before - (0 if self.last else reach)
        if count <= 0:
            return self.split(piece, -1, 0)
        # The first and the last columns of a piece take its ends for those of the whole.
        out = function(piece).narrow(-1, before, count)
        self.count = min(before + count, reach)
        self.split(piece, -1, before + count - self.count)
        return out

    def trim(self, x: Tensor, left: int, right: int) -> Tensor:
        """Cut off both ends of the whole; the last piece has all of its end where the layers before have padded it."""
        length = x.shape[-1] - (right if self.last else 0)
        cut = left if self.count is None else self.count
        if length < (cut if self.last else 0):
            raise refuse("trim", "more is cut off at the end than the last piece has")
        self.count = max(0, cut - length)
        return x[..., min(cut, length) : length]

    def running_sum(self, x: Tensor, axis: int, dtype: torch.dtype | None) -> Tensor:
        """Add up all columns until each one."""
        out = x.cumsum(axis, dtype=dtype)
        if (before := self.kept.get(0)) is not None:
            out += before
        if length := x.shape[axis]:
            self.kept[0] = out.narrow(axis, length - 1, 1).clone()
        return out


# What tells how a signal is laid out, and nothing of its values.
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

Rule = Callable[..., tuple[Any, int | None]]
_RULES: dict[Any, Rule] = {}


def _rule(*functions: Any) -> Callable[[Rule], Rule]:
    """Register what evaluates ``functions``: from the operation and their arguments to result and axis of time."""

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(functions, rule))
        return rule

    return register


@_rule(torch.conv1d, torch.conv2d, cpu_kernels.conv1d)
def _convolution(
    op: Operation,
    x: Span,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, int]:
    axis, axes = x.axis, weight.dim() - 2
    if axis < -axes or x.dim() != weight.dim():  # time is the batch, or the channels
        return op.columnwise(((x, weight, bias, stride, padding, dilation, groups), {}), [x])
    stride, dilation = _per_axis(stride, axes), _per_axis(dilation, axes)
    size = (weight.shape[axis] - 1) * dilation[axis] + 1
    if isinstance(padding, str):
        total = (size - 1) * (padding == "same")
        left, right = total // 2, total - total // 2
        others = [(weight.shape[2 + i] - 1) * dilation[i] * (padding == "same") for i in range(axes)]
        if any(total % 2 for i, total in enumerate(others) if i != axes + axis):
            raise refuse(name_of(op.function), f"padding '{padding}' of an even kernel in another axis than time")
        padding = [total // 2 for total in others]
    else:
        padding = _per_axis(padding, axes)
        left = right = padding[axis]
    windows, count = op.windows(x, axis, size, stride[axis], left, right)
    padding[axis] = 0
    return op.results(op.function(windows, weight, bias, stride, padding, dilation, groups), axis, count), axis


def as_convolution(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Hand over ``function``, which takes the arguments of ``torch.conv1d`` and does the same, as one operation."""
    handed_over = wrap_torch_function(lambda x, *_: (x,))(function)
    _RULES[handed_over] = _convolution
    return handed_over


@_rule(torch.conv_transpose1d, torch.conv_transpose2d, cpu_kernels.conv_transpose1d)
def _transposed_convolution(
    op: Operation,
    x: Span,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> tuple[Tensor, int]:
    axes = weight.dim() - 2
    if x.axis < -axes or x.dim() != weight.dim():
        arguments = (x, weight, bias, stride, padding, output_padding, groups, dilation)
        return op.columnwise((arguments, {}), [x])
    stride, padding, extra, dilation = (_per_axis(value, axes) for value in (stride, padding, output_padding, dilation))
    if x.axis != -1 or any(padding[:-1]) or any(extra[:-1]):
        raise refuse(name_of(op.function), "time must be the last axis, and the only one that is padded")
    count = x.shape[-1]
    out = op.function(x if count else _zeros(x, -1, 1), weight, None, stride, [0] * axes, [0] * axes, groups, dilation)
    out = op.overlap(out, stride[-1], count, padding[-1], padding[-1] - extra[-1])
    return (out if bias is None else out + bias.reshape(-1, *[1] * axes)), -1


@_rule(overlap_add)
def _overlap_add(op: Operation, frames: Span, hop_length: int, left: int, right: int) -> tuple[Tensor, int]:
    if frames.axis != -2:
        return op.columnwise(((frames, hop_length, left, right), {}), [frames])
    count = frames.shape[-2]
    out = overlap_add(frames if count else _zeros(frames, -2, 1), hop_length, 0, 0)
    return op.overlap(out, hop_length, count, left, right), -1


@_rule(Tensor.unfold)
def _unfold(op: Operation, x: Span, dimension: int, size: int, step: int) -> tuple[Tensor, int]:
    axis = _from_the_end(dimension, x)
    if axis != x.axis:
        return op.columnwise(((x, dimension, size, step), {}), [x])
    windows, count = op.windows(x, axis, size, step)
    return op.results(windows.unfold(axis, size, step), axis - 1, count), axis - 1


def _framing(op: Operation, x: Span, size: int, step: int) -> tuple[Tensor, int]:
    if x.axis != -1:
        return op.columnwise(((x, size, step), {}), [x])
    windows, count = op.windows(x, -1, size, step)
    return op.results(op.function(op.whole_steps(windows, size, step), size, step), -1, count), -1


def as_framing(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Hand over ``function(x, size, step)``, (..., time) -> (..., size, windows) as of ``unfold``, as one operation."""
    handed_over = wrap_torch_function(lambda x, *_: (x,))(function)
    _RULES[handed_over] = _framing
    return handed_over


@_rule(F.pad)
def _pad(op: Operation, x: Span, pad: Any, mode: str = "constant", value: float | None = None) -> tuple[Any, Any]:
    axis, before = x.axis, 2 * (-x.axis - 1)  # F.pad begins with the last axis
    left, right = (*pad[before : before + 2], 0, 0)[:2]
    if left == right == 0:
        return op.columnwise(((x, pad, mode, value), {}), [x])
    if any(pad[:before]) or any(pad[before + 2 :]) or left < 0 or right < 0:
        raise refuse("pad", f"padding by {tuple(pad)} of a signal with its time at {axis}; pad one axis at a time")
    if mode not in ("constant", "replicate", "reflect"):
        raise refuse("pad", f"the mode '{mode}' needs the other end of the signal")
    others = [0] * before
    return op.pad(x, axis, left, right, mode, lambda x, a, b: F.pad(x, (*others, a, b), mode, value)), axis


@_rule(reflect_pad)
def _reflect_pad(op: Operation, x: Span, left: int, right: int, dim: int = -1) -> tuple[Any, Any]:
    axis = _from_the_end(dim, x)
    if axis != x.axis:
        return op.columnwise(((x, left, right, dim), {}), [x])
    return op.pad(x, axis, left, right, "reflect", lambda x, a, b: reflect_pad(x, a, b, axis)), axis


@_rule(reflect_pad_2d)
def _reflect_pad_2d(op: Operation, x: Span, frames: int, bins: int) -> tuple[Tensor, int]:
    if x.axis != -2:
        raise refuse("reflect_pad_2d", f"time must be axis -2, it is axis {x.axis}")

    def pad(x: Tensor, left: int, right: int) -> Tensor:
        if x.shape[-2] > max(left, right):  # as below, in the channels_last format
            return F.pad(x, (0, 0, left, right), mode="reflect")
        return reflect_pad(x, left, right, -2)

    return op.pad(reflect_pad_2d(x, 0, bins), -2, frames, frames, "reflect", pad), -2


@_rule(alias_free_snake)
def _alias_free_snake(op: Operation, x: Span, *parameters: Tensor) -> tuple[Tensor, int]:
    if x.axis != -1:
        return op.columnwise(((x, *parameters), {}), [x])
    return op.within(as_plain(x), REACH, lambda piece: alias_free_snake(piece, *parameters)), -1


@_rule(trim)
def _trim(op: Operation, x: Span, left: int, right: int) -> tuple[Tensor, int]:
    if x.axis != -1:
        return op.columnwise(((x, left, right), {}), [x])
    return op.trim(x, left, right), -1


@_rule(Tensor.cumsum, torch.cumsum)
def _cumsum(op: Operation, x: Span, dim: int, *, dtype: torch.dtype | None = None) -> tuple[Tensor, int]:
    axis = _from_the_end(dim, x)
    if axis != x.axis:
        return op.columnwise(((x, dim), {"dtype": dtype}), [x])
    return op.running_sum(x, axis, dtype), axis


def _per_axis(value: Any, axes: int) -> list[int]:
    """Return a setting of a convolution for each of its axes."""
    return [value] * axes if isinstance(value, int) else list(value) if len(value) > 1 else list(value) * axes


def _from_the_end(dim: int, x: Tensor) -> int:
    return dim if dim < 0 else dim - x.dim()


def _zeros(x: Tensor, axis: int, columns: int) -> Tensor:
    """Return as many columns of zeros, otherwise like ``x``."""
    shape = list(x.shape)
    shape[axis] = columns
    return x.new_zeros(shape)


def _pad_zeros(x: Tensor, axis: int, left: int, right: int) -> Tensor:
    if not (left or right):
        return x
    if _channels_together(x, axis):
        return F.pad(x.mT, (0, 0, left, right)).mT
    return F.pad(x, [0, 0] * (-axis - 1) + [left, right])


def _channels_together(x: Tensor, axis: int) -> bool:
    """Whether x has the layout of ``cpu_kernels.conv1d``, which PyTorch itself keeps for images only."""
    return axis == -1 and x.dim() == 3 and x.stride(1) == 1 != x.stride(2)
