"""Evaluates a network along time piece by piece: by the code of the whole, nothing computed twice, every result final.

In a pass the pieces of signals are tensors of the type ``Span``, whose operations PyTorch hands over instead of doing
them (``__torch_function__``). A network does the same operations in every pass, so the n-th operation of a pass finds
what the n-th operation of the pass before has kept:

    convolution              the end of its input, which windows to come still need
    transposed convolution,
    overlap-add              the end of its output, to which columns to come still add
    padding                  columns that are to be mirrored at the end
    sum of two branches      what one branch is ahead of the other
    running sum              its last value

At the first and at the last piece each operation does what it does at the ends of the whole, so a layer that pads its
input pads it there and nowhere else. A piece may be empty: at first many operations have nothing to give yet.

Any other operation is taken to treat each column of time by itself; one that does not needs a rule below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vocoders.dsp.stft import overlap_add, reflect_pad
from vocoders.nn.layers import reflect_pad_2d

Arguments = tuple[tuple[Any, ...], dict[str, Any]]  # positional, by keyword


class Incremental:
    """``function``, from signals to a signal, all with time as their last axis, evaluated piece by piece."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self._operations: list[Operation] = []
        self._turn = 0
        self._last = False

    def __call__(self, *pieces: Tensor | None, last: bool = False) -> Tensor:
        """The next piece of each signal, perhaps empty -> the next piece of the result, perhaps empty.

        With ``last`` the signals end here. A signal that is None is None in every pass.
        """
        if last and not self._operations:  # the first piece as well: the whole
            return self.function(*pieces)
        self._turn, self._last = 0, last
        spans = (piece if piece is None else _span(piece, -1, self) for piece in pieces)
        return self.function(*spans).as_subclass(Tensor)

    def do(self, function: Callable[..., Any], arguments: Arguments, spans: list[Span]) -> Any:
        """The next operation of the pass, and the signals among its arguments."""
        if self._turn == len(self._operations):
            self._operations.append(Operation(function))
        operation = self._operations[self._turn]
        if operation.function != function:
            raise RuntimeError(f"passes differ: {function.__name__} where {operation.function.__name__} was before")
        self._turn += 1
        operation.last = self._last
        out, axis = operation(arguments, spans)
        if axis is None:
            return out
        return _span(out, axis, self) if isinstance(out, Tensor) else tuple(_span(part, axis, self) for part in out)


class Span(Tensor):
    """A piece of a signal in a pass of ``network``; ``axis`` is that of time, counted from the last one: -1, -2 ..."""

    axis: int
    network: Incremental

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            arguments = (args, kwargs or {})
            spans: list[Span] = []
            _collect(arguments, spans)
            return spans[0].network.do(func, arguments, spans)


def _span(x: Tensor, axis: int, network: Incremental) -> Span:
    span = x.as_subclass(Span)
    span.axis, span.network = axis, network
    return span


class Operation:
    """One operation of a network, and what it keeps from pass to pass."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.first = True  # in its first pass
        self.last = False  # in the last one
        self.axis: int | None = None  # of time in the result of a columnwise operation
        self.kept: dict[int, Tensor] = {}
        self.count: int | None = None  # of columns

    def __call__(self, arguments: Arguments, spans: list[Span]) -> tuple[Any, int | None]:
        """The result, and the axis of time in it; None for what is no signal, such as a dtype."""
        rule = _RULES.get(self.function)
        result = self.columnwise(arguments, spans) if rule is None else rule(self, *arguments[0], **arguments[1])
        self.first = False
        return result

    def columnwise(self, arguments: Arguments, spans: list[Span]) -> tuple[Any, int | None]:
        """Each column by itself: as many as all its signals have; what some have more of is kept."""
        if self.first:
            self.axis = _axis_of_result(self.function, arguments, spans)
        if len(spans) == 1:
            count, whole = spans[0].shape[spans[0].axis], arguments
        else:
            pieces = [self.join(span, span.axis, i) for i, span in enumerate(spans)]
            count = min(piece.shape[span.axis] for piece, span in zip(pieces, spans, strict=True))
            parts = [self.split(piece, spans[i].axis, count, i) for i, piece in enumerate(pieces)]
            whole = _replace(arguments, iter(parts))
        if count or self.axis is None:
            return self.function(*whole[0], **whole[1]), self.axis
        out = _on_zeros(self.function, arguments, spans, 1)  # some operations refuse what is empty
        if isinstance(out, Tensor):
            return out.narrow(self.axis, 0, 0), self.axis
        return [part.narrow(self.axis, 0, 0) for part in out], self.axis

    def join(self, x: Tensor, axis: int, key: int = 0) -> Tensor:
        """``x`` behind what was kept."""
        kept = self.kept.pop(key, None)
        return x if kept is None else torch.cat([kept, x], axis)

    def split(self, x: Tensor, axis: int, count: int, key: int = 0) -> Tensor:
        """The first ``count`` columns of ``x``; the rest is kept."""
        rest = x.shape[axis] - count
        if rest:
            self.kept[key] = x.narrow(axis, count, rest).clone()  # a view would keep all of x
            x = x.narrow(axis, 0, count)
        return x

    def windows(self, x: Tensor, axis: int, size: int, stride: int, padding: int = 0) -> tuple[Tensor, int]:
        """Columns that hold all whole windows of ``size``, and how many; zeros for a single one where there is none."""
        x = _pad_zeros(self.join(x, axis), axis, padding if self.first else 0, padding if self.last else 0)
        count = max(0, (x.shape[axis] - size) // stride + 1)
        self.split(x, axis, count * stride)
        return (x.narrow(axis, 0, (count - 1) * stride + size) if count else _zeros(x, axis, size)), count

    def overlap(self, x: Tensor, stride: int, count: int, left: int, right: int) -> Tensor:
        """``x``, the sum of ``count`` stretches that start ``stride`` apart, and of earlier ones, as far as final.

        The whole is without its first ``left`` and last ``right`` columns.
        """
        if right > x.shape[-1] - max(count, 1) * stride:
            raise NotImplementedError("more is cut off at the end than stretches overlap")
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
        self, x: Tensor, axis: int, left: int, right: int, needed: int, pad: Callable[[Tensor, int, int], Tensor]
    ) -> Tensor:
        """Padding by ``pad(x, left, right)``, which at the left needs as many columns of x as ``needed``."""
        if self.count is None:
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


Rule = Callable[..., tuple[Any, int | None]]
_RULES: dict[Any, Rule] = {}


def _rule(*functions: Any) -> Callable[[Rule], Rule]:
    """The decorated function does what ``functions`` do: from the operation and their arguments to result and axis."""

    def register(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(functions, rule))
        return rule

    return register


@_rule(torch.conv1d, torch.conv2d)
def _convolution(
    op: Operation, x: Span, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> tuple[Tensor, int]:
    axis, padding = x.axis, list(padding)
    size = (weight.shape[axis] - 1) * dilation[axis] + 1
    windows, count = op.windows(x, axis, size, stride[axis], padding[axis])
    padding[axis] = 0
    return op.function(windows, weight, bias, stride, padding, dilation, groups).narrow(axis, 0, count), axis


@_rule(torch.conv_transpose1d, torch.conv_transpose2d)
def _transposed_convolution(
    op: Operation, x: Span, weight: Tensor, bias: Any, stride: Any, padding: Any, more: Any, groups: int, dilation: Any
) -> tuple[Tensor, int]:
    count = x.shape[-1]
    out = op.function(x if count else _zeros(x, -1, 1), weight, None, stride, 0, 0, groups, dilation)
    out = op.overlap(out, stride[-1], count, padding[-1], padding[-1] - more[-1])
    return (out if bias is None else out + bias.reshape(-1, *[1] * (x.dim() - 2))), -1


@_rule(overlap_add)
def _overlap_add(op: Operation, frames: Span, hop_length: int, left: int, right: int) -> tuple[Tensor, int]:
    count = frames.shape[-2]
    out = overlap_add(frames if count else _zeros(frames, -2, 1), hop_length, 0, 0)
    return op.overlap(out, hop_length, count, left, right), -1


@_rule(Tensor.unfold)
def _unfold(op: Operation, x: Span, dim: int, size: int, step: int) -> tuple[Tensor, int]:
    windows, count = op.windows(x, -1, size, step)
    return windows.unfold(-1, size, step).narrow(-2, 0, count), -2


@_rule(F.pad)
def _pad(op: Operation, x: Span, pad: Any, mode: str = "constant", value: float | None = None) -> tuple[Any, Any]:
    axis, before = x.axis, 2 * (-x.axis - 1)  # F.pad begins with the last axis
    left, right = (*pad[before : before + 2], 0, 0)[:2]
    if left == right == 0:
        return op.columnwise(((x, pad, mode, value), {}), [x])
    if any(pad[:before]) or any(pad[before + 2 :]) or left < 0 or right < 0:
        raise NotImplementedError(f"padding by {pad} of a signal with its time at {axis}")
    others = [0] * before
    return op.pad(
        x, axis, left, right, mode != "constant", lambda x, a, b: F.pad(x, (*others, a, b), mode, value)
    ), axis


@_rule(reflect_pad)
def _reflect_pad(op: Operation, x: Span, left: int, right: int, dim: int = -1) -> tuple[Any, Any]:
    axis = dim if dim < 0 else dim - x.dim()
    if axis != x.axis:
        return op.columnwise(((x, left, right, dim), {}), [x])
    return op.pad(x, axis, left, right, left + 1, lambda x, a, b: reflect_pad(x, a, b, axis)), axis


@_rule(reflect_pad_2d)
def _reflect_pad_2d(op: Operation, x: Span, frames: int, bins: int) -> tuple[Tensor, int]:
    def pad(x: Tensor, left: int, right: int) -> Tensor:
        if x.shape[-2] > max(left, right):  # as below, in the channels_last format
            return F.pad(x, (0, 0, left, right), mode="reflect")
        return reflect_pad(x, left, right, -2)

    return op.pad(reflect_pad_2d(x, 0, bins), -2, frames, frames, frames + 1, pad), -2


@_rule(Tensor.cumsum)
def _cumsum(op: Operation, x: Span, dim: int) -> tuple[Tensor, int]:
    out = x.cumsum(dim)
    if (before := op.kept.get(0)) is not None:
        out += before
    if length := x.shape[dim]:
        op.kept[0] = out.narrow(dim, length - 1, 1).clone()
    return out, dim


def _collect(arguments: Any, spans: list[Span]) -> None:
    """Append all signals in nested tuples, lists and dicts to ``spans``."""
    for item in arguments.values() if isinstance(arguments, dict) else arguments:
        if isinstance(item, Span):
            spans.append(item)
        elif isinstance(item, (tuple, list, dict)):
            _collect(item, spans)


def _replace(arguments: Any, given: Iterator[Tensor]) -> Any:
    """The arguments with the next of ``given`` in the place of each signal."""
    if isinstance(arguments, Span):
        return next(given)
    if type(arguments) in (tuple, list):
        return type(arguments)([_replace(item, given) for item in arguments])
    if isinstance(arguments, dict):
        return {key: _replace(item, given) for key, item in arguments.items()}
    return arguments


def _zeros(x: Tensor, axis: int, columns: int) -> Tensor:
    """As ``x``, of so many columns."""
    shape = list(x.shape)
    shape[axis] = columns
    return x.new_zeros(shape)


def _pad_zeros(x: Tensor, axis: int, left: int, right: int) -> Tensor:
    return F.pad(x, [0, 0] * (-axis - 1) + [left, right]) if left or right else x


def _on_zeros(function: Callable[..., Any], arguments: Arguments, spans: list[Span], columns: int) -> Any:
    """What the function gives for as many columns of zeros."""
    args, kwargs = _replace(arguments, (_zeros(span, span.axis, columns) for span in spans))
    return function(*args, **kwargs)


def _axis_of_result(function: Callable[..., Any], arguments: Arguments, spans: list[Span]) -> int | None:
    """Where the result has its time: the axis that grows with the signals, found by trying one and two columns."""
    shapes = []
    for columns in (1, 2):
        out = _on_zeros(function, arguments, spans, columns)
        out = out[0] if isinstance(out, (tuple, list)) else out
        if not isinstance(out, Tensor):
            return None
        shapes.append(out.shape)
    one, two = shapes
    grown = [i - len(two) for i in range(len(two)) if len(one) == len(two) and one[i] != two[i]]
    if len(grown) != 1 or two[grown[0]] != 2 * one[grown[0]]:
        raise NotImplementedError(f"{function.__name__} has no rule for signals that come piece by piece")
    return grown[0]
