"""Kinds of state: what an operation keeps from one piece of a signal to the next.

``run`` evaluates the next piece, ``trace`` marks a traced graph, ``lower`` replaces a mark by ONNX operators.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vocoders.streaming.builder import END, Builder
from vocoders.streaming.columnwise import columnwise_axis
from vocoders.streaming.marks import Kept, Mark
from vocoders.streaming.spans import Arguments, Span, as_plain, like, map_tensors, name_of, refuse

Function = Callable[[Tensor], Tensor]


class State:
    """State of one operation; a subclass is a kind of state.

    Attributes:
        run: from the next piece to the next piece of the result, and its time axis.
        trace: from a whole signal to the whole result with marks, and its time axis.
        lower: adds ONNX operators, given a builder, a mark, and the names of output and inputs.
        function: the operation.
        axis: time axis of the result, if the operation is verified as pointwise in time.
        first: whether this is the first piece.
        last: whether this is the last piece.
        kept: columns for later pieces.
        count: number of columns; each kind says which.
        keeps: shape of ``kept`` after each piece, for ``trace``.
    """

    run: Callable[..., tuple[Any, int]]
    trace: Callable[..., tuple[Any, int]]
    lower: ClassVar[Callable[..., None]]

    def __init__(self, function: Callable[..., Any], axis: int | None = None) -> None:
        self.function = function
        self.axis = axis
        self.first = True
        self.last = False
        self.kept: dict[int, Tensor] = {}
        self.count: int | None = None
        self.keeps: dict[int, Kept] = {}

    def join(self, x: Tensor, axis: int, key: int = 0) -> Tensor:
        """Return the kept columns followed by ``x``."""
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


class Window(State):
    """Windows, as of a convolution: the end of the signal is kept for later windows.

    Arguments: signal and time axis; size and stride of windows; function from columns to one result per window, and its
    time axis; zeros before and after the whole; whether the function drops an incomplete last window.
    """

    def run(
        self,
        x: Tensor,
        axis: int,
        size: int,
        stride: int,
        function: Function,
        out_axis: int,
        left: int = 0,
        right: int = 0,
        complete: bool = False,
    ) -> tuple[Tensor, int]:
        x = _pad_zeros(self.join(x, axis), axis, left if self.first else 0, right if self.last else 0)
        count = max(0, (x.shape[axis] - size) // stride + 1)
        self.split(x, axis, count * stride)
        windows = x.narrow(axis, 0, (count - 1) * stride + size) if count else zeros(x, axis, size)
        return function(windows).narrow(out_axis, 0, count), out_axis

    def trace(
        self,
        x: Tensor,
        axis: int,
        size: int,
        stride: int,
        function: Function,
        out_axis: int,
        left: int = 0,
        right: int = 0,
        complete: bool = False,
    ) -> tuple[Tensor, int]:
        if self.keeps or left or right:
            x = Mark("Window", axis, left, right, self.keeps.get(0)).put(x, longer=left + right)
        if complete:
            x = Mark("Window", axis, left=size, right=stride, mode="complete").put(x)
        return function(x), out_axis

    @staticmethod
    def lower(build: Builder, mark: Mark, out: str, x: str) -> None:
        if mark.mode == "complete":
            size = build.length(mark, x)
            rest = build.node("Mod", build.node("Sub", size, build.constant([mark.left])), build.constant([mark.right]))
            build.slice(x, mark.axis, 0, build.node("Sub", size, rest), out)
        elif not mark.kept:
            build.pad(mark, x, out)
        else:
            parts = [build.read(mark)]
            if mark.left:
                parts.append(build.zeros(mark, build.times(build.first, mark.left)))
            parts.append(x)
            if mark.right:
                parts.append(build.zeros(mark, build.times(build.last, mark.right)))
            build.node("Concat", *parts, axis=mark.axis, output=out)
            build.keep(mark, out)


class Overlap(State):
    """Overlapping results, as of a transposed convolution: the end, to which later columns add, is kept.

    Arguments: signal and time axis; function from columns to the sum of their results along the last axis; distance of
    results; columns cut off at both ends of the whole; what is added last. ``count``: what remains to be cut at the
    start.
    """

    def run(
        self, x: Tensor, axis: int, function: Function, stride: int, left: int, right: int, bias: Tensor | None = None
    ) -> tuple[Tensor, int]:
        columns = x.shape[axis]
        out = function(x if columns else zeros(x, axis, 1))
        if right > out.shape[-1] - max(columns, 1) * stride:
            raise refuse(name_of(self.function), "more is cut off at the end than windows overlap")
        before = self.kept.pop(0, None)
        if columns == 0:
            out = out[..., :0] if before is None else before
        elif before is not None:
            out[..., : before.shape[-1]] += before
        out = self.split(out, -1, out.shape[-1] - right if self.last else columns * stride)
        to_cut = left if self.count is None else self.count
        cut = min(to_cut, out.shape[-1])
        self.count = to_cut - cut
        out = out[..., cut:]
        return (out if bias is None else out + bias), -1

    def trace(
        self, x: Tensor, axis: int, function: Function, stride: int, left: int, right: int, bias: Tensor | None = None
    ) -> tuple[Tensor, int]:
        out = Mark("Overlap", -1, left, right, self.keeps.get(0)).put(function(x), longer=-left - right)
        return (out if bias is None else out + bias), -1

    @staticmethod
    def lower(build: Builder, mark: Mark, out: str, x: str) -> None:
        if mark.kept:
            parts = build.read(mark), build.zeros(mark, build.times(build.first, mark.columns))
            before = build.node("Concat", *parts, axis=mark.axis)
            head = build.node("Add", build.slice(x, mark.axis, 0, mark.columns), before)
            x = build.node("Concat", head, build.slice(x, mark.axis, mark.columns, END), axis=mark.axis)
            build.keep(mark, x)
        begin, end = build.times(build.first, mark.left), build.end_without(mark.columns, mark.right)
        build.slice(x, mark.axis, begin, end, out)


class Pad(State):
    """Padding of the whole: columns to be mirrored at the end are kept.

    Arguments: signal and time axis; columns before and after; mode "constant", "reflect" or "replicate"; function of a
    signal and both numbers that pads so. ``count``: columns kept.
    """

    def run(
        self, x: Tensor, axis: int, left: int, right: int, mode: str, pad: Callable[[Tensor, int, int], Tensor]
    ) -> tuple[Tensor, int]:
        if self.count is None:
            needed = {"constant": 0, "replicate": 1, "reflect": left + 1}[mode]  # of x, at the left
            x = self.join(x, axis)
            if x.shape[axis] < needed and not self.last:
                return self.split(x, axis, 0), axis
        out = pad(x, left, 0) if self.count is None else x
        self.count = right + 1
        seen = self.join(x.narrow(axis, max(0, x.shape[axis] - self.count), min(x.shape[axis], self.count)), axis)
        if self.last:
            out = torch.cat([out, pad(seen, 0, right).narrow(axis, seen.shape[axis], right)], axis)
        self.split(seen, axis, max(0, seen.shape[axis] - self.count))
        return out, axis

    def trace(
        self, x: Tensor, axis: int, left: int, right: int, mode: str, pad: Callable[[Tensor, int, int], Tensor]
    ) -> tuple[Tensor, int]:
        kept = None if mode == "constant" else self.keeps[0]
        return Mark("Pad", axis, left, right, kept, mode).put(x, longer=left + right), axis

    @staticmethod
    def lower(build: Builder, mark: Mark, out: str, x: str) -> None:
        if mark.mode == "constant":
            build.pad(mark, x, out)
            return
        seen = build.node("Concat", build.read(mark), x, axis=mark.axis)
        build.keep(mark, seen)
        size = build.length(mark, seen)
        begin = build.node("Sub", size, build.length(mark, x))
        left = build.once("Neg", build.times(build.first, mark.left))
        right = build.node("Add", size, build.times(build.last, mark.right))
        before = _columns_beyond(build, mark, seen, size, left, build.constant([0]))
        after = _columns_beyond(build, mark, seen, size, size, right)
        build.node("Concat", before, build.slice(seen, mark.axis, begin, END), after, axis=mark.axis, output=out)


class Trim(State):
    """A cut at both ends of the whole. ``count``: what remains to be cut at the start."""

    def run(self, x: Tensor, left: int, right: int) -> tuple[Tensor, int]:
        # Earlier layers have padded the last piece, so it holds the whole end.
        length = x.shape[-1] - (right if self.last else 0)
        cut = left if self.count is None else self.count
        if length < (cut if self.last else 0):
            raise refuse("trim", "more is cut off at the end than the last piece has")
        self.count = max(0, cut - length)
        return x[..., min(cut, length) : length], -1

    def trace(self, x: Tensor, left: int, right: int) -> tuple[Tensor, int]:
        return Mark("Trim", -1, left, right).put(x, longer=-left - right), -1

    @staticmethod
    def lower(build: Builder, mark: Mark, out: str, x: str) -> None:
        build.slice(x, mark.axis, build.times(build.first, mark.left), build.end_without(0, mark.right), out)


class Within(State):
    """A function whose results depend on ``reach`` columns on both sides.

    It treats a piece's ends as the whole's, so those results are dropped. ``count``: kept columns already returned.
    """

    def run(self, x: Tensor, reach: int, function: Function) -> tuple[Tensor, int]:
        piece, before = self.join(as_plain(x), -1), self.count or 0
        count = piece.shape[-1] - before - (0 if self.last else reach)
        if count <= 0:
            return self.split(piece, -1, 0), -1
        out = function(piece).narrow(-1, before, count)
        self.count = min(before + count, reach)
        self.split(piece, -1, before + count - self.count)
        return out, -1

    def trace(self, x: Tensor, reach: int, function: Function) -> tuple[Tensor, int]:
        y = function(Mark("Window", kept=self.keeps[0]).put(as_plain(x)))
        return Mark("Within", left=reach, right=reach).put(y), -1

    @staticmethod
    def lower(build: Builder, mark: Mark, out: str, x: str) -> None:
        build.slice(x, mark.axis, build.times(build.old, mark.left), build.end_without(mark.right), out)


class Sum(State):
    """A running sum; its last value is kept."""

    def run(self, x: Tensor, axis: int, dtype: torch.dtype | None) -> tuple[Tensor, int]:
        out = x.cumsum(axis, dtype=dtype)
        if (before := self.kept.get(0)) is not None:
            out += before
        if length := x.shape[axis]:
            self.kept[0] = out.narrow(axis, length - 1, 1).clone()
        return out, axis

    def trace(self, x: Tensor, axis: int, dtype: torch.dtype | None) -> tuple[Tensor, int]:
        return Mark("Sum", axis, kept=self.keeps[0]).put(x if dtype is None else x.to(dtype)), axis

    @staticmethod
    def lower(build: Builder, mark: Mark, out: str, x: str) -> None:
        before = build.read(mark), build.zeros(mark, build.first)
        total = build.node("CumSum", x, build.constant(mark.axis))
        build.node("Add", total, build.node("Concat", *before, axis=mark.axis), output=out)
        build.keep(mark, out)


class Delay(State):
    """An operation that is pointwise in time: what one signal is ahead of the others is kept.

    Arguments: the operation's, and the signals among them.
    """

    def run(self, arguments: Arguments, spans: list[Span]) -> tuple[Any, int]:
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
        args, kwargs = map_tensors(arguments, lambda span: zeros(span, span.axis, 1))
        out = self.function(*args, **kwargs)  # some operations refuse empty tensors
        if isinstance(out, Tensor):
            return out.narrow(self.axis, 0, 0), self.axis
        return like(out, [part.narrow(self.axis, 0, 0) for part in out]), self.axis

    def trace(self, arguments: Arguments, spans: list[Span]) -> tuple[Any, int]:
        assert self.axis is not None
        if self.keeps:
            late = [
                Mark("Delay", span.axis, kept=self.keeps[i]).put(span) if i in self.keeps else span
                for i, span in enumerate(spans)
            ]
            parts = iter(late)
            arguments = map_tensors(arguments, lambda _: next(parts))
        return self.function(*arguments[0], **arguments[1]), self.axis

    @staticmethod
    def lower(build: Builder, mark: Mark, out: str, x: str) -> None:
        if not mark.kept:  # x is a window, which keeps these columns
            build.slice(x, mark.axis, mark.left, -mark.right or END, out)
            return
        whole = build.node("Concat", build.read(mark), x, axis=mark.axis)
        build.slice(whole, mark.axis, 0, build.end_without(mark.columns), out)
        build.keep(mark, whole)


KINDS: tuple[type[State], ...] = (Window, Overlap, Pad, Trim, Within, Sum, Delay)


def zeros(x: Tensor, axis: int, columns: int) -> Tensor:
    """Return that many columns of zeros, otherwise like ``x``."""
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
    """Whether x has the layout of ``fast.conv1d``, which PyTorch keeps for images only."""
    return axis == -1 and x.dim() == 3 and x.stride(1) == 1 != x.stride(2)


def _columns_beyond(build: Builder, mark: Mark, x: str, size: str, begin: str, end: str) -> str:
    """Return the mirrored columns from ``begin`` to ``end``, before the first or after the last of x."""
    index = build.node("Range", build.node("Squeeze", begin), build.node("Squeeze", end), build.constant(1))
    top = build.node("Sub", size, build.one)
    if mark.mode == "reflect":
        period = build.node("Max", build.node("Mul", top, build.constant([2])), build.one)
        index = build.node("Mod", index, period)
        index = build.node("Min", index, build.node("Sub", period, index))
    else:
        index = build.node("Min", build.node("Max", index, build.constant([0])), top)
    return build.node("Gather", x, index, axis=mark.axis)
