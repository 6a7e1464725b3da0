"""Marks: nodes of a traced graph that say what an operation keeps; lowering.py replaces them by ONNX operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    import onnx

OPERATOR = "Mark"
_DOMAIN = "vocoders"


class Kept(NamedTuple):
    """What an operation keeps of a signal after each run, always as many columns."""

    shape: tuple[int, ...]
    """For a batch of one."""
    batch: int | None
    """Axis that grows with the batch, if any."""


class Mark(NamedTuple):
    """One mark."""

    kind: str
    """Class whose ``lower`` replaces it."""
    axis: int = -1
    """Time axis, counted from the end."""
    left: int = 0
    """Columns at the start; the class says what becomes of them."""
    right: int = 0
    """Columns at the end."""
    kept: Kept | None = None
    mode: str = ""
    """For kinds with several modes."""
    rank: int = 0
    """Number of axes of the signal, set by ``put``."""
    dtype: int = 0
    """ONNX element type, set by ``read``."""

    def put(self, x: Tensor, longer: int = 0, like: Tensor | None = None) -> Tensor:
        """Mark a traced whole signal, lengthened by ``longer`` columns; ``like`` is another signal for ``lower``."""
        size = list(x.shape)
        size[self.axis] += longer
        attributes: dict[str, Any] = {"kind": self.kind, "mode": self.mode, "axis": self.axis, "rank": x.dim()}
        attributes |= {"left": self.left, "right": self.right}
        if self.kept is not None:
            attributes["shape"] = list(self.kept.shape)
            attributes["batch"] = -1 if self.kept.batch is None else self.kept.batch
        inputs = [x] if like is None else [x, like]
        return torch.onnx.ops.symbolic(f"{_DOMAIN}::{OPERATOR}", inputs, attributes, dtype=x.dtype, shape=size)

    @classmethod
    def read(cls, node: onnx.NodeProto, dtype: int) -> Mark:
        """Read the mark in an ONNX node."""
        import onnx

        values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        shape, batch = values.pop("shape", None), values.pop("batch", -1)
        kept = None if shape is None else Kept(tuple(shape), None if batch < 0 else batch)
        values |= {name: values[name].decode() for name in ("kind", "mode")}
        return cls(**values, kept=kept, dtype=dtype)

    @property
    def columns(self) -> int:
        """Number of kept columns."""
        return self.kept.shape[self.axis] if self.kept else 0

    @property
    def values(self) -> int:
        """Number of kept values per item."""
        return math.prod(self.kept.shape) if self.kept else 0

    def before_transpose(self, perm: Sequence[int]) -> Mark:
        """Return the mark for the signal before a Transpose."""
        kept = self.kept
        if kept is not None:
            shape = tuple(kept.shape[perm.index(i)] for i in range(self.rank))
            kept = Kept(shape, None if kept.batch is None else perm[kept.batch])
        return self._replace(axis=perm[self.axis] - self.rank, kept=kept)
