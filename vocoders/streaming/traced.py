"""Trace a whole network with marks where a stream keeps something, for export.

The operations and rules of ``Incremental`` run while torch.export traces; lowering.py then replaces the marks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vocoders.streaming.incremental import Incremental
from vocoders.streaming.marks import Kept
from vocoders.streaming.rules import Settings
from vocoders.streaming.spans import Span, collect_spans, name_of, refuse
from vocoders.streaming.states import State


class Traced(Incremental):
    """A function of signals, called with whole signals to be traced."""

    def __init__(self, function: Callable[..., Tensor], operations: list[State]) -> None:
        """Take the operations that ``measure_states`` returned for the function."""
        super().__init__(function)
        self.operations = operations

    def __call__(self, *pieces: Tensor | None, last: bool = True) -> Tensor:
        with _HandOver(self):
            return self._pass(pieces, last)

    def _evaluate(self, state: State, settings: Settings) -> tuple[Any, int]:
        return state.trace(**settings)


class _HandOver(TorchFunctionMode):
    """Hands over operations on signals, whose tensors have their own types in an export."""

    def __init__(self, network: Traced) -> None:
        super().__init__()
        self.network = network

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = (args, kwargs or {})
        spans: list[Span] = []
        collect_spans(arguments, spans)
        return self.network.execute(func, arguments, spans) if spans else func(*args, **(kwargs or {}))


def measure_states(
    function: Callable[..., Tensor], draw: Callable[[int, int], list[Tensor | None]], frames: int
) -> list[State]:
    """Evaluate a function piece by piece and return its operations, with how much each keeps.

    ``draw`` makes signals of a batch size and a number of frames; ``frames``, the first piece, must give some audio.
    """
    one, two = (_kept_shapes(function, [draw(batch, count) for count in (frames, 1, 2)]) for batch in (1, 2))
    for (state, *shapes), (_, *of_two) in zip(one, two, strict=True):
        if any(others != shapes[0] for others in shapes):
            raise refuse(name_of(state.function), "it does not keep the same number of columns after each piece")
        for key, shape in shapes[0].items():
            grown = [axis for axis, size in enumerate(shape) if size != of_two[0][key][axis]]
            state.keeps[key] = Kept(tuple(shape), grown[0] if grown else None)
    return [state for state, *_ in one]


@torch.inference_mode()
def _kept_shapes(function: Callable[..., Tensor], pieces: list[list[Tensor | None]]) -> list[tuple[Any, ...]]:
    """Return a function's operations and the shapes of what they keep after each piece."""
    network, shapes = Incremental(function), []
    for piece in pieces:
        network(*piece)
        shapes.append([{key: x.shape for key, x in state.kept.items()} for state in network.operations])
    return list(zip(network.operations, *shapes, strict=True))
