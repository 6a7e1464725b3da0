"""Marks in an exported graph: where an operation of a stream keeps columns from one piece to the next.

``Incremental`` evaluates a network piece by piece in torch; its operations know what they keep. Here the same
operations and rules run once more while torch.export traces the network, and put a mark in the place where they would
keep something. ``state.py`` replaces the marks by ONNX operators that take a state and return the next one. So there is
one definition of each network, and one of what a stream does with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vocoders.streaming.incremental import Incremental
from vocoders.streaming.rules import DESCRIPTIONS, Operation
from vocoders.streaming.spans import Arguments, Span, collect_spans, name_of, refuse

MARK = "vocoders::Mark"


class Kept(NamedTuple):
    """What an operation keeps of one signal after each run, a constant number of columns."""

    shape: tuple[int, ...]
    """For a batch of one."""
    batch: int | None
    """Axis that grows with the batch; None where none does."""


def mark(
    x: Tensor,
    kind: str,
    axis: int = -1,
    kept: Kept | None = None,
    left: int = 0,
    right: int = 0,
    like: Tensor | None = None,
) -> Tensor:
    """Return ``x`` with a mark, for a signal of its whole length; ``state.py`` has what it becomes.

    Args:
        x: the signal.
        kind: "window": what is kept before it, and zeros at both ends. "delay": as many columns late as are kept.
            "overlap": with what is kept added to its first columns, and without its ends. "sum": its running sum.
            "constant", "reflect", "replicate": padded. "trim": without its ends.
            "inner": without the columns next to what was kept and next to what is to come. "steps": ``left`` columns
            and whole steps of ``right``, without the rest. "wait", "extend", "fit": see ``StatefulGraph``.
        axis: of time, counted from the last one.
        kept: what is kept for the next run.
        left: columns that the whole gets, or loses, at its start.
        right: at its end.
        like: signal whose length ``x`` gets.
    """
    size = list(x.shape)
    size[axis] = size[axis] + _growth(kind) * (left + right)
    attributes: dict[str, Any] = {"kind": kind, "axis": axis, "rank": x.dim(), "left": left, "right": right}
    if kept is not None:
        attributes |= {"shape": list(kept.shape), "batch": -1 if kept.batch is None else kept.batch}
    return torch.onnx.ops.symbolic(MARK, [x] if like is None else [x, like], attributes, dtype=x.dtype, shape=size)


def _growth(kind: str) -> int:
    """Return what ``left`` and ``right`` mean for the length of the whole: it grows by them, stays or shrinks."""
    return {"overlap": -1, "trim": -1, "inner": 0, "steps": 0}.get(kind, 1)


class Marking(Operation):
    """An operation that marks what it keeps."""

    def __init__(self, operation: Operation, kept: dict[int, Kept]) -> None:
        super().__init__(operation.function, operation.axis)
        self.keeps = kept

    def join(self, x: Tensor, axis: int, key: int = 0) -> Tensor:
        return mark(x, "delay", axis, self.keeps[key]) if key in self.keeps else x

    def split(self, x: Tensor, axis: int, count: int, key: int = 0) -> Tensor:
        return x

    def windows(
        self, x: Tensor, axis: int, size: int, stride: int, left: int = 0, right: int = 0
    ) -> tuple[Tensor, int]:
        if self.keeps or left or right:
            x = mark(x, "window", axis, self.keeps.get(0), left, right)
        return x, 1

    def whole_steps(self, x: Tensor, size: int, step: int) -> Tensor:
        return mark(x, "steps", left=size, right=step)

    def results(self, x: Tensor, axis: int, count: int) -> Tensor:
        return x

    def overlap(self, x: Tensor, stride: int, count: int, left: int, right: int) -> Tensor:
        return mark(x, "overlap", -1, self.keeps.get(0), left, right)

    def pad(
        self, x: Tensor, axis: int, left: int, right: int, mode: str, pad: Callable[[Tensor, int, int], Tensor]
    ) -> Tensor:
        return mark(x, mode, axis, None if mode == "constant" else self.keeps[0], left, right)

    def within(self, x: Tensor, reach: int, function: Callable[[Tensor], Tensor]) -> Tensor:
        y = function(mark(x, "window", kept=self.keeps[0]))
        return mark(y, "inner", left=reach, right=reach)

    def trim(self, x: Tensor, left: int, right: int) -> Tensor:
        return mark(x, "trim", -1, None, left, right)

    def running_sum(self, x: Tensor, axis: int, dtype: torch.dtype | None) -> Tensor:
        return mark(x if dtype is None else x.to(dtype), "sum", axis, self.keeps[0])


class _HandOver(TorchFunctionMode):
    """Hands over the operations on signals, whose tensors have types of their own in an export."""

    def __init__(self, network: Marked) -> None:
        super().__init__()
        self.network = network

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = (args, kwargs or {})
        spans: list[Span] = []
        collect_spans(arguments, spans)
        return self.network.execute(func, arguments, spans) if spans else func(*args, **(kwargs or {}))


class Marked(Incremental):
    """A function from signals to a signal, traced for the whole with marks. An exported graph holds the result."""

    def __init__(self, function: Callable[..., Tensor], operations: Sequence[Marking]) -> None:
        super().__init__(function)
        self.operations = list(operations)

    def __call__(self, *pieces: Tensor | None, last: bool = True) -> Tensor:
        with _HandOver(self):
            return self._pass(pieces, last)

    def execute(self, function: Callable[..., Any], arguments: Arguments, spans: list[Span]) -> Any:
        if function in DESCRIPTIONS:  # an export answers some of them without handing them over
            return function(*arguments[0], **arguments[1])
        return super().execute(function, arguments, spans)


def what_is_kept(
    function: Callable[..., Tensor], draw: Callable[[int, int], list[Tensor | None]], frames: int
) -> list[Marking]:
    """Evaluate a function piece by piece and return its operations, which know what they keep.

    Args:
        function: from signals to a signal.
        draw: makes signals for it, of a batch and a number of frames.
        frames: of the first piece, of which the function can make some audio.

    Raises:
        VocoderError: when it cannot be evaluated piece by piece, or does not keep the same number of columns always.
    """
    one, two = (_shapes_kept(function, [draw(batch, count) for count in (frames, 1, 2)]) for batch in (1, 2))
    markings = []
    for (operation, *shapes), (_, *of_two) in zip(one, two, strict=True):
        if any(others != shapes[0] for others in shapes):
            raise refuse(name_of(operation.function), "it does not keep the same number of columns after each piece")
        kept = {}
        for key, shape in shapes[0].items():
            grown = [axis for axis, size in enumerate(shape) if size != of_two[0][key][axis]]
            kept[key] = Kept(tuple(shape), grown[0] if grown else None)
        if operation.function not in DESCRIPTIONS:
            markings.append(Marking(operation, kept))
    return markings


@torch.inference_mode()
def _shapes_kept(function: Callable[..., Tensor], pieces: list[list[Tensor | None]]) -> list[tuple[Any, ...]]:
    """Return each operation of a function, and the shapes of what it keeps after each piece."""
    network, shapes = Incremental(function), []
    for piece in pieces:
        network(*piece)
        shapes.append([{key: x.shape for key, x in operation.kept.items()} for operation in network.operations])
    return list(zip(network.operations, *shapes, strict=True))
