"""Spans: pieces of signals that hand over their operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor

from vocoders.errors import VocoderError

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""
Execute = Callable[[Callable[..., Any], Arguments, "list[Span]"], Any]
"""Executes an operation on arguments with these spans."""


class Span(Tensor):
    """A piece of a signal.

    Attributes:
        axis: time axis, counted from the end: -1, -2 ...
        execute: executes its operations.
    """

    axis: int
    execute: Execute

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            arguments = (args, kwargs or {})
            spans: list[Span] = []
            collect_spans(arguments, spans)
            if not spans:
                raise refuse(name_of(func), "it takes its signal inside an object; pass the tensor itself")
            return spans[0].execute(func, arguments, spans)


def make_span(x: Tensor, axis: int, execute: Execute) -> Span:
    """Make ``x`` a span, without a copy."""
    span = cast(Span, x) if torch.compiler.is_exporting() else x.as_subclass(Span)
    span.axis, span.execute = axis, execute
    return span


def as_plain(span: Tensor) -> Tensor:
    """Return a span as a plain tensor."""
    return span if torch.compiler.is_exporting() else span.as_subclass(Tensor)


def is_span(x: Any) -> TypeGuard[Span]:
    """Whether x is a span. Its attributes tell, as exports have their own tensor types."""
    return isinstance(x, Span) or (isinstance(x, Tensor) and hasattr(x, "execute"))


def collect_spans(arguments: Any, spans: list[Span]) -> None:
    """Append all spans of nested arguments to ``spans``."""
    for item in arguments.values() if isinstance(arguments, dict) else arguments:
        if is_span(item):
            spans.append(item)
        elif isinstance(item, (tuple, list, dict)):
            collect_spans(item, spans)


def map_tensors(arguments: Any, span: Callable[[Span], Any], tensor: Callable[[Tensor], Any] = lambda x: x) -> Any:
    """Map each span in nested arguments by ``span``, other tensors by ``tensor``."""
    if is_span(arguments):
        return span(arguments)
    if isinstance(arguments, Tensor):
        return tensor(arguments)
    if isinstance(arguments, dict):
        return {key: map_tensors(item, span, tensor) for key, item in arguments.items()}
    if isinstance(arguments, (tuple, list)):
        return like(arguments, [map_tensors(item, span, tensor) for item in arguments])
    return arguments


def like(sequence: Any, items: list[Any]) -> Any:
    """Return ``items`` as the tuple, list, named tuple or PyTorch result type of ``sequence``."""
    return sequence._make(items) if hasattr(sequence, "_make") else type(sequence)(items)


def name_of(function: Any) -> str:
    """Return an operation's name for messages: "mul" for ``Tensor.__mul__``, "shape" for its getter."""
    name = getattr(function, "__name__", str(function))
    if name == "__get__":
        name = getattr(function.__self__, "__name__", name)
    return name.strip("_") if name.startswith("__") else name


def refuse(operation: str, reason: str) -> VocoderError:
    """Return the error for an operation that streams cannot use."""
    return VocoderError(
        f"'{operation}' cannot be evaluated piece by piece: {reason}. Streams allow convolutions, padding, "
        f"overlap-add, running sums, and what treats each column of time by itself; see docs/streaming.md"
    )
