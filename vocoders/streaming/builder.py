"""Add ONNX operators that join the kept columns of the previous run with new ones; see lowering.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from vocoders.streaming.marks import Mark

if TYPE_CHECKING:
    import onnx

STATES = {1: "state", 11: "state_f64"}  # by ONNX element type: float32, float64
END = np.iinfo(np.int64).max  # end of a slice


class Builder:
    """Builds the nodes of a graph with state.

    Attributes:
        first_nodes: nodes of inputs and constants only, each made once, before the others.
        nodes: the others.
        kept: tensors kept for the next run, (batch, values), by element type.
        waited: those kept only where F0 is estimated; they follow ``kept``.
        first: 1 in an utterance's first run, else 0.
        old: 0 in the first run, else 1.
        last: 1 in the last run, else 0.
        batch: batch size; (1,), as the flags.
    """

    def __init__(self, graph: onnx.GraphProto, marks: Iterable[Mark]) -> None:
        self.graph = graph
        self.first_nodes: list[onnx.NodeProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.made: dict[Any, str] = {}
        self.kept: dict[int, list[str]] = {dtype: [] for dtype in STATES}
        self.waited: dict[int, list[str]] = {dtype: [] for dtype in STATES}
        self.read_until = dict.fromkeys(STATES, 0)
        self.always = sum(mark.values for mark in marks if mark.dtype == 1 and mark.kind not in ("Wait", "Extend"))
        self.wait_read_until = self.always
        self.last = "last"
        self.one = self.constant([1])
        self.batch = self.once("Shape", "mel", start=0, end=1)
        self.old = self.once("Min", self.one, self.once("Shape", "state", start=1, end=2))
        self.first = self.once("Sub", self.one, self.old)
        self.is_last = self.once("Cast", self.last, to=9)

    def constant(self, values: Any) -> str:
        """Return the name of an integer constant."""
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
        """Slice columns of x; ends given by name are tensors (1,)."""
        begin, end = (value if isinstance(value, str) else self.constant([value]) for value in (begin, end))
        return self.node("Slice", x, begin, end, self.constant([axis]), output=output)

    def times(self, flag: str, count: int) -> str:
        """Return ``count`` if a flag is 1, else 0."""
        return self.once("Mul", flag, self.constant([count])) if count else self.constant([0])

    def end_without(self, count: int | str, at_last: int = 0) -> str:
        """Return the slice end that drops ``count`` columns, or ``at_last`` in the last run."""
        count = count if isinstance(count, str) else self.constant([-count or END])
        return self.once("Where", self.is_last, self.constant([-at_last or END]), count)

    def length(self, mark: Mark, x: str) -> str:
        """Return the number of columns of x, (1,)."""
        axis = mark.rank + mark.axis
        return self.node("Shape", x, start=axis, end=axis + 1)

    def pad(self, mark: Mark, x: str, output: str) -> None:
        """Put zeros before the first and after the last columns of the whole."""
        pads = [self.constant([0])] * (2 * mark.rank)
        pads[mark.rank + mark.axis] = self.times(self.first, mark.left)
        pads[mark.axis] = self.times(self.last, mark.right)
        self.node("Pad", x, self.once("Concat", *pads, axis=0), output=output)

    def zeros(self, mark: Mark, columns: str) -> str:
        """Return ``columns`` zeros in the shape of the kept columns."""
        import onnx

        zero = onnx.helper.make_tensor("zero", mark.dtype, [1], [0])
        return self.once("ConstantOfShape", self._shape(mark, columns), value=zero)

    def read(self, mark: Mark, present: str = "") -> str:
        """Return the columns kept by the previous run, or none where ``present`` is 0 (default: in the first run)."""
        if mark.kind == "Wait":
            begin = self.wait_read_until
            self.wait_read_until += mark.values
        else:
            begin = self.read_until[mark.dtype]
            self.read_until[mark.dtype] += mark.values
        flat = self.slice(STATES[mark.dtype], 1, begin, begin + mark.values)
        if not self._grows(mark):
            flat = self.slice(flat, 0, 0, 1)
        shape = self._shape(mark, self.times(present or self.old, mark.columns))
        return self.node("Reshape", flat, shape, allowzero=1)

    def keep(self, mark: Mark, x: str, begin: int | str | None = None) -> None:
        """Keep the columns of ``x`` from ``begin`` on, by default as many as the mark says."""
        x = self.slice(x, mark.axis, -mark.columns if begin is None else begin, END)
        if self._grows(mark):
            x = self.node("Reshape", x, self.once("Concat", self.batch, self.constant([-1]), axis=0))
        else:
            x = self.node("Reshape", x, self.constant([1, -1]))
            x = self.node("Expand", x, self.once("Concat", self.batch, self.one, axis=0))
        (self.waited if mark.kind == "Wait" else self.kept)[mark.dtype].append(x)

    def _grows(self, mark: Mark) -> bool:
        """Whether the kept columns grow with the batch."""
        return mark.kept is not None and mark.kept.batch is not None

    def _shape(self, mark: Mark, columns: str) -> str:
        """Return the shape of that many kept columns."""
        assert mark.kept is not None
        sizes = [self.constant([size]) for size in mark.kept.shape]
        sizes[mark.axis] = columns
        if mark.kept.batch is not None:
            sizes[mark.kept.batch] = self.times(self.batch, mark.kept.shape[mark.kept.batch])
        return self.once("Concat", *sizes, axis=0)
