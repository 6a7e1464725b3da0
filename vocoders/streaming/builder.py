"""ONNX operators in the place of marks: they join what the run before has kept with the new columns; see state.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import onnx

LAST = "last"
STATES = {1: "state", 11: "state_f64"}  # by the type of the elements: float32, float64
_END = np.iinfo(np.int64).max  # as the end of a slice


class Mark(NamedTuple):
    """What a mark says; see ``marks.mark``."""

    kind: str
    axis: int
    rank: int
    left: int
    right: int
    shape: list[int]
    batch: int
    dtype: int

    @property
    def kept(self) -> int:
        """Number of columns that are kept."""
        return self.shape[self.axis] if self.shape else 0

    @property
    def values(self) -> int:
        """Number of values that are kept for each item of a batch."""
        return math.prod(self.shape) if self.shape else 0

    def transposed(self, perm: Sequence[int]) -> Mark:
        """Return the mark for the signal before it was transposed."""
        axis = perm[self.axis] - self.rank
        shape = [self.shape[perm.index(i)] for i in range(self.rank)]
        return self._replace(axis=axis, shape=shape, batch=perm[self.batch] if self.batch >= 0 else -1)


class Builder:
    """Makes the nodes of a graph with state. Those that depend on inputs and constants only are made once, in front."""

    def __init__(self, graph: onnx.GraphProto, marks: Iterable[Mark]) -> None:
        self.graph = graph
        self.first_nodes: list[onnx.NodeProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[Any, str] = {}
        self.kept: dict[int, list[str]] = {dtype: [] for dtype in STATES}  # what is to be kept, as (batch, values)
        self.waited: dict[int, list[str]] = {dtype: [] for dtype in STATES}  # the same, what only some streams keep
        self.read_until = dict.fromkeys(STATES, 0)
        self.always = sum(mark.values for mark in marks if mark.dtype == 1 and mark.kind not in ("wait", "extend"))
        self.wait_read_until = self.always
        self.one = self.constant([1])
        self.batch = self.once("Shape", "mel", start=0, end=1)
        self.old = self.once("Min", self.one, self.once("Shape", "state", start=1, end=2))  # 0 in the first run, else 1
        self.first = self.once("Sub", self.one, self.old)
        self.is_last = self.once("Cast", LAST, to=9)

    def constant(self, values: Any) -> str:
        """Return the name of a constant of whole numbers."""
        import onnx

        key = repr(values)
        if key not in self.made:
            self.made[key] = f"c{len(self.made)}"
            self.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, np.int64), self.made[key]))
        return self.made[key]

    def once(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Return the output of a node that depends on inputs and constants only."""
        import onnx

        key = kind, inputs, tuple(sorted((name, str(value)) for name, value in attributes.items()))
        if key not in self.made:
            self.made[key] = f"o{len(self.made)}"
            self.first_nodes.append(onnx.helper.make_node(kind, inputs, [self.made[key]], **attributes))
        return self.made[key]

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return its output."""
        import onnx

        output = output or f"n{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def slice(self, x: str, axis: int, begin: int | str, end: int | str, output: str = "") -> str:
        """Cut columns out of x; names of ends are those of tensors (1,)."""
        begin, end = (value if isinstance(value, str) else self.constant([value]) for value in (begin, end))
        return self.node("Slice", x, begin, end, self.constant([axis]), output=output)

    def times(self, flag: str, count: int) -> str:
        """Return ``count`` where a flag is 1, else 0."""
        return self.once("Mul", flag, self.constant([count])) if count else self.constant([0])

    def end_without(self, count: int | str, at_last: int = 0) -> str:
        """Return the end of a slice that leaves out ``count`` columns, or ``at_last`` in the last run."""
        count = count if isinstance(count, str) else self.constant([-count or _END])
        return self.once("Where", self.is_last, self.constant([-at_last or _END]), count)

    def shape(self, mark: Mark, columns: str) -> str:
        """Return the shape of what is kept, for a number of columns."""
        sizes = [self.constant([size]) for size in mark.shape]
        sizes[mark.axis] = columns
        if mark.batch >= 0:
            sizes[mark.batch] = self.times(self.batch, mark.shape[mark.batch])
        return self.once("Concat", *sizes, axis=0)

    def zeros(self, mark: Mark, columns: str) -> str:
        """Return zeros in the place of what is kept."""
        import onnx

        zero = onnx.helper.make_tensor("zero", mark.dtype, [1], [0])
        return self.once("ConstantOfShape", self.shape(mark, columns), value=zero)

    def read(self, mark: Mark, present: str) -> str:
        """Return what the run before has kept; nothing where ``present`` is 0."""
        if mark.kind == "wait":
            begin = self.wait_read_until
            self.wait_read_until += mark.values
        else:
            begin = self.read_until[mark.dtype]
            self.read_until[mark.dtype] += mark.values
        flat = self.slice(STATES[mark.dtype], 1, begin, begin + mark.values)
        if mark.batch < 0:
            flat = self.slice(flat, 0, 0, 1)
        return self.node("Reshape", flat, self.shape(mark, self.times(present, mark.kept)), allowzero=1)

    def keep(self, mark: Mark, x: str, begin: int | str | None = None) -> None:
        """Keep the columns of ``x`` from ``begin`` on, by default as many as the mark says, for the next run."""
        x = self.slice(x, mark.axis, -mark.kept if begin is None else begin, _END)
        if mark.batch < 0:
            x = self.node("Reshape", x, self.constant([1, -1]))
            x = self.node("Expand", x, self.once("Concat", self.batch, self.one, axis=0))
        else:
            x = self.node("Reshape", x, self.once("Concat", self.batch, self.constant([-1]), axis=0))
        (self.waited if mark.kind == "wait" else self.kept)[mark.dtype].append(x)

    @property
    def waits(self) -> str:
        """1 where F0 is estimated, for which the rest waits, else 0. The first run of a stream decides."""
        zero = self.once("CastLike", self.constant([0]), "f0")
        negative = self.once("Cast", self.once("Less", "f0", zero), to=7)
        some = self.once("Min", self.one, self.once("ReduceSum", self.once("Reshape", negative, self.constant([-1]))))
        more = self.once("Greater", self.once("Shape", "state", start=1, end=2), self.constant([self.always]))
        return self.once("Where", self.once("Cast", self.first, to=9), some, self.once("Cast", more, to=7))

    def waiting(self, count: int) -> str:
        """Return ``count`` as an end of a slice, or no end where nothing waits."""
        condition = self.once("Cast", self.waits, to=9)
        return self.once("Where", condition, self.constant([count]), self.constant([_END]))


def _window(build: Builder, mark: Mark, out: str, x: str) -> None:
    parts = [build.read(mark, build.old)] if mark.kept else []
    if mark.left:
        parts.append(build.zeros(mark, build.times(build.first, mark.left)))
    parts.append(x)
    if mark.right:
        parts.append(build.zeros(mark, build.times(LAST, mark.right)))
    build.node("Concat", *parts, axis=mark.axis, output=out)
    build.keep(mark, out)


def _delay(build: Builder, mark: Mark, out: str, x: str) -> None:
    whole = build.node("Concat", build.read(mark, build.old), x, axis=mark.axis)
    build.slice(whole, mark.axis, 0, build.end_without(mark.kept), out)
    build.keep(mark, whole)


def _part(build: Builder, mark: Mark, out: str, x: str) -> None:
    """Cut a signal, as many columns late as its window has zeros at the end, out of that window."""
    build.slice(x, mark.axis, mark.left, -mark.right or _END, out)


def _overlap(build: Builder, mark: Mark, out: str, x: str) -> None:
    if mark.kept:
        parts = build.read(mark, build.old), build.zeros(mark, build.times(build.first, mark.kept))
        before = build.node("Concat", *parts, axis=mark.axis)
        head = build.node("Add", build.slice(x, mark.axis, 0, mark.kept), before)
        x = build.node("Concat", head, build.slice(x, mark.axis, mark.kept, _END), axis=mark.axis)
        build.keep(mark, x)
    build.slice(x, mark.axis, build.times(build.first, mark.left), build.end_without(mark.kept, mark.right), out)


def _trim(build: Builder, mark: Mark, out: str, x: str) -> None:
    build.slice(x, mark.axis, build.times(build.first, mark.left), build.end_without(0, mark.right), out)


def _inner(build: Builder, mark: Mark, out: str, x: str) -> None:
    build.slice(x, mark.axis, build.times(build.old, mark.left), build.end_without(mark.right), out)


def _steps(build: Builder, mark: Mark, out: str, x: str) -> None:
    axis = mark.rank + mark.axis
    size = build.node("Shape", x, start=axis, end=axis + 1)
    rest = build.node("Mod", build.node("Sub", size, build.constant([mark.left])), build.constant([mark.right]))
    build.slice(x, mark.axis, 0, build.node("Sub", size, rest), out)


def _sum(build: Builder, mark: Mark, out: str, x: str) -> None:
    before = build.read(mark, build.old), build.zeros(mark, build.first)
    total = build.node("CumSum", x, build.constant(mark.axis))
    build.node("Add", total, build.node("Concat", *before, axis=mark.axis), output=out)
    build.keep(mark, out)


def _constant(build: Builder, mark: Mark, out: str, x: str) -> None:
    pads = [build.constant([0])] * (2 * mark.rank)
    pads[mark.rank + mark.axis] = build.times(build.first, mark.left)
    pads[mark.axis] = build.times(LAST, mark.right)
    build.node("Pad", x, build.once("Concat", *pads, axis=0), output=out)


def _mirrored(build: Builder, mark: Mark, out: str, x: str) -> None:
    """Put before and after the new columns what lies there of the whole, gathered from them and from what is kept."""
    axis = mark.rank + mark.axis
    seen = build.node("Concat", build.read(mark, build.old), x, axis=mark.axis)
    build.keep(mark, seen)
    size = build.node("Shape", seen, start=axis, end=axis + 1)
    begin = build.node("Sub", size, build.node("Shape", x, start=axis, end=axis + 1))
    left = build.once("Neg", build.times(build.first, mark.left))
    right = build.node("Add", size, build.times(LAST, mark.right))
    before = _columns_beyond(build, mark, seen, size, left, build.constant([0]))
    after = _columns_beyond(build, mark, seen, size, size, right)
    build.node("Concat", before, build.slice(seen, mark.axis, begin, _END), after, axis=mark.axis, output=out)


def _columns_beyond(build: Builder, mark: Mark, x: str, size: str, begin: str, end: str) -> str:
    """Return the columns from ``begin`` to ``end``, before the first or after the last one of x, which are mirrored."""
    index = build.node("Range", build.node("Squeeze", begin), build.node("Squeeze", end), build.constant(1))
    top = build.node("Sub", size, build.one)
    if mark.kind == "reflect":
        period = build.node("Max", build.node("Mul", top, build.constant([2])), build.one)
        index = build.node("Mod", index, period)
        index = build.node("Min", index, build.node("Sub", period, index))
    else:
        index = build.node("Min", build.node("Max", index, build.constant([0])), top)
    return build.node("Gather", x, index, axis=mark.axis)


def _wait(build: Builder, mark: Mark, out: str, x: str) -> None:
    whole = build.node("Concat", build.read(mark, build.once("Mul", build.old, build.waits)), x, axis=mark.axis)
    build.slice(whole, mark.axis, 0, build.end_without(build.waiting(-mark.kept)), out)
    build.keep(mark, whole, build.waiting(-mark.kept))


def _extend(build: Builder, mark: Mark, out: str, x: str) -> None:
    """Add as many columns as are missing because others would wait for them, in the first run of several."""
    several = build.once("Mul", build.first, build.once("Sub", build.one, LAST))
    here = build.once("Mul", several, build.once("Sub", build.one, build.waits))
    build.node("Concat", x, build.zeros(mark, build.times(here, mark.kept)), axis=mark.axis, output=out)


def _fit(build: Builder, mark: Mark, out: str, x: str, like: str) -> None:
    axis = mark.rank + mark.axis
    build.slice(x, mark.axis, 0, build.node("Shape", like, start=axis, end=axis + 1), out)


REPLACEMENTS: dict[str, Callable[..., None]] = {
    "window": _window,
    "delay": _delay,
    "part": _part,
    "overlap": _overlap,
    "trim": _trim,
    "inner": _inner,
    "steps": _steps,
    "sum": _sum,
    "constant": _constant,
    "reflect": _mirrored,
    "replicate": _mirrored,
    "wait": _wait,
    "extend": _extend,
    "fit": _fit,
}
