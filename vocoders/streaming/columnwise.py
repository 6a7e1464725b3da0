"""Test numerically whether an operation is pointwise in time.

Shapes do not tell: group norm, pooling, softmax over time, flips and LSTMs keep the length. So an operation is
evaluated on random columns, all at once and in groups; both results must be equal apart from rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from vocoders.nn import fast
from vocoders.streaming.spans import Arguments, Span, map_tensors, name_of, refuse

_GROUPS = (1, 2, 3)  # columns at a time; pieces of a single column occur
# Rounding, relative to the largest magnitude; a dependence on other columns is far larger.
_TOLERANCES = {torch.float64: 1e-6, torch.complex128: 1e-6, torch.float32: 1e-3, torch.complex64: 1e-3}
_LOW_PRECISION = 0.05

_CONSUMING = {fast.convnext_tail}  # they overwrite a signal that nothing else uses

Values = Literal["normal", "large", "unit"]


def columnwise_axis(function: Callable[..., Any], arguments: Arguments, spans: list[Span]) -> int:
    """Verify that an operation is pointwise in time; return the time axis of its result, counted from the end.

    For a sequence of tensors, their common axis. Works on copies; on "meta" only shapes are compared.
    """
    name, source, compared = name_of(function), torch.Generator().manual_seed(0), False
    for values in ("normal", "large", "unit"):  # large: reaches limits; unit: domain 0 to 1
        if values == "unit" and compared:
            break
        signals = [random_columns(span, span.axis, sum(_GROUPS), source, values) for span in spans]
        whole = _evaluate(function, arguments, signals)
        groups = zip(*(x.split(_GROUPS, span.axis) for x, span in zip(signals, spans, strict=True)), strict=True)
        parts = [_evaluate(function, arguments, list(group)) for group in groups]
        axis = _axis_of_time(name, whole, parts)
        tolerance = _tolerance([*signals, *whole], arguments)
        for i, expected in enumerate(whole):
            if expected.device.type == "meta":
                compared = True
            elif not _equal(expected, torch.cat([part[i] for part in parts], axis), tolerance):
                raise refuse(name, "its result for one column of time depends on other columns, or on chance")
            else:
                compared |= not bool(expected.isnan().all())
    if not compared:
        raise refuse(name, "its result is undefined for all values it was tried with")
    return axis


def random_columns(x: Tensor, axis: int, columns: int, source: torch.Generator, values: Values = "normal") -> Tensor:
    """Draw ``columns`` random columns with shape, dtype and device of ``x``; integers are 0 or 1."""
    shape = list(x.shape)
    shape[axis] = columns
    if x.is_complex():
        parts = torch.randn(2, *shape, generator=source, dtype=torch.float32)
        drawn = torch.complex(parts[0], parts[1])
    elif x.is_floating_point():
        drawn = (torch.rand if values == "unit" else torch.randn)(shape, generator=source, dtype=torch.float32)
    else:
        return torch.randint(0, 2, shape, generator=source).to(x.device, x.dtype)
    return (drawn * (1000 if values == "large" else 1)).to(x.device, x.dtype)


def _evaluate(function: Callable[..., Any], arguments: Arguments, signals: list[Tensor]) -> list[Tensor]:
    """Evaluate the operation on ``signals``."""
    name, remaining = name_of(function), iter(signals)
    given: list[tuple[bool, Tensor, Tensor]] = []  # is a signal, tensor, copy

    def copy(x: Tensor, is_signal: bool = False) -> Tensor:
        given.append((is_signal, x, x.detach().clone()))
        return given[-1][2]

    args, kwargs = map_tensors(arguments, lambda _: copy(next(remaining), True), copy)
    try:
        out = function(*args, **kwargs)
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise refuse(name, f"it fails on other numbers of columns, or on random values ({reason})") from error
    changed = [is_signal for is_signal, x, used in given if not equal_values(x, used)]
    if changed and function not in _CONSUMING and not (all(changed) and len(signals) == 1):
        raise refuse(name, "it changes in place what other signals depend on; write 'x = x + y' instead of 'x += y'")
    results = [out] if isinstance(out, Tensor) else list(out) if isinstance(out, (tuple, list)) else []
    if not results or not all(isinstance(x, Tensor) for x in results):
        raise refuse(name, f"it takes a signal and returns {'nothing' if out is None else type(out).__name__}")
    return results


def _axis_of_time(name: str, whole: list[Tensor], parts: list[list[Tensor]]) -> int:
    """Return the axis, the same in every result, whose size is proportional to the columns."""
    axes = set()
    for i, x in enumerate(whole):
        shapes = [x.shape, *(part[i].shape for part in parts if len(part) == len(whole))]
        sizes = zip(*shapes, strict=True) if len({len(shape) for shape in shapes}) == 1 else ()
        grown = [k for k, (total, *some) in enumerate(sizes) if set(some) != {total}]
        if len(shapes) != len(parts) + 1 or len(grown) != 1:
            break
        total, *some = (shape[grown[0]] for shape in shapes)
        if any(size * sum(_GROUPS) != total * count for size, count in zip(some, _GROUPS, strict=True)):
            break
        axes.add(grown[0] - x.dim())
    else:
        if len(axes) == 1:
            return axes.pop()
    raise refuse(name, "the size of its result is not in proportion to the columns of time it is given")


def equal_values(a: Tensor, b: Tensor) -> bool:
    """Whether shape, dtype and values are equal, with NaN equal to NaN; on "meta" without values."""
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    return a.device.type == "meta" or bool(((a == b) | ((a != a) & (b != b))).all())


def _equal(expected: Tensor, x: Tensor, tolerance: float) -> bool:
    """Whether results agree to ``tolerance`` of the largest finite magnitude; integers exactly."""
    if expected.dtype != x.dtype or not (x.is_floating_point() or x.is_complex()):
        return equal_values(expected, x)
    if x.is_complex():
        expected, x = torch.view_as_real(expected), torch.view_as_real(x)
    if x.dtype != torch.float64:
        expected, x = expected.float(), x.float()
    finite = expected.isfinite()
    if not bool((finite | (expected == x) | (expected.isnan() & x.isnan())).all()):
        return False
    expected, x = expected[finite], x[finite]
    return not len(x) or bool((expected - x).abs().max() <= tolerance * expected.abs().max())


def _tolerance(tensors: list[Tensor], arguments: Arguments) -> float:
    """Return the tolerance of the lowest precision of tensors or autocast."""
    device = tensors[0].device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        return _LOW_PRECISION
    dtypes = {x.dtype for x in tensors}
    map_tensors(arguments, lambda _: None, lambda x: dtypes.add(x.dtype))
    return max(_TOLERANCES.get(dtype, _LOW_PRECISION if dtype.is_floating_point else 0.0) for dtype in dtypes)
