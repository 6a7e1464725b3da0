"""Delay inputs for the F0 estimate in an exported graph that streams.

The generator's other inputs are delayed by the F0 estimator's lookahead. With given F0 nothing is delayed; the
estimator gets more frames, and its unused result is cut to the length of F0.
"""

from __future__ import annotations

from torch import Tensor

from vocoders.streaming.builder import END, Builder
from vocoders.streaming.marks import Kept, Mark


class Wait:
    """Delay x (batch, rows, time) by a number of columns where F0 is estimated."""

    @staticmethod
    def trace(x: Tensor, columns: int) -> Tensor:
        return Mark("Wait", kept=Kept((1, x.shape[1], columns), 0)).put(x)

    @staticmethod
    def lower(build: Builder, mark: Mark, out: str, x: str) -> None:
        present = build.once("Mul", build.old, _waits(build))
        whole = build.node("Concat", build.read(mark, present), x, axis=mark.axis)
        build.slice(whole, mark.axis, 0, build.end_without(_where_waiting(build, -mark.columns)), out)
        build.keep(mark, whole, _where_waiting(build, -mark.columns))


class Extend:
    """Append columns of zeros to x (batch, rows, time) where F0 is given, in the first of several runs."""

    @staticmethod
    def trace(x: Tensor, columns: int) -> Tensor:
        return Mark("Extend", kept=Kept((1, x.shape[1], columns), 0)).put(x)

    @staticmethod
    def lower(build: Builder, mark: Mark, out: str, x: str) -> None:
        several = build.once("Mul", build.first, build.once("Sub", build.one, build.last))
        here = build.once("Mul", several, build.once("Sub", build.one, _waits(build)))
        build.node("Concat", x, build.zeros(mark, build.times(here, mark.columns)), axis=mark.axis, output=out)


class Fit:
    """Cut x to the length of another signal."""

    @staticmethod
    def trace(x: Tensor, like: Tensor) -> Tensor:
        return Mark("Fit").put(x, like=like)

    @staticmethod
    def lower(build: Builder, mark: Mark, out: str, x: str, like: str) -> None:
        build.slice(x, mark.axis, 0, build.length(mark, like), out)


def _waits(build: Builder) -> str:
    """Return 1 where F0 is estimated, else 0; a stream's first run decides."""
    zero = build.once("CastLike", build.constant([0]), "f0")
    negative = build.once("Cast", build.once("Less", "f0", zero), to=7)
    some = build.once("Min", build.one, build.once("ReduceSum", build.once("Reshape", negative, build.constant([-1]))))
    more = build.once("Greater", build.once("Shape", "state", start=1, end=2), build.constant([build.always]))
    return build.once("Where", build.once("Cast", build.first, to=9), some, build.once("Cast", more, to=7))


def _where_waiting(build: Builder, count: int) -> str:
    """Return ``count`` as a slice end, or no end where nothing waits."""
    condition = build.once("Cast", _waits(build), to=9)
    return build.once("Where", condition, build.constant([count]), build.constant([END]))
