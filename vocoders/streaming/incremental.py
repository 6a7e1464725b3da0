"""Evaluate a network piece by piece along time: nothing is computed twice, and every result is final.

Pieces of signals are tensors of type ``Span``, whose operations PyTorch hands over (``__torch_function__``). A network
executes the same operations in every pass, so the n-th operation finds what it kept in the previous pass. states.py has
the kinds of state, rules.py chooses one for each operation. docs/streaming.md has an example.

Ends of the whole are padded at the first and last piece only. A piece may be empty, as many operations have no result
at first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from vocoders.errors import VocoderError
from vocoders.streaming.columnwise import equal_values, random_columns
from vocoders.streaming.rules import DESCRIPTIONS, Settings, rule_of
from vocoders.streaming.spans import Arguments, Span, as_plain, is_span, like, make_span, map_tensors, name_of, refuse
from vocoders.streaming.states import State


class Verified(NamedTuple):
    """A verified operation."""

    function: Any
    constants: Any
    """Its arguments, without objects and tensor values."""
    axis: int | None
    """Time axis of the result, if the operation is pointwise in time."""


_VERIFIED: WeakKeyDictionary[Any, dict[Hashable, list[Verified]]] = WeakKeyDictionary()


class Incremental:
    """A function of signals, all with time as last axis, evaluated piece by piece.

    Attributes:
        operations: operations of a pass, in order, each with its state.
    """

    def __init__(self, function: Callable[..., Tensor], owner: object | None = None) -> None:
        """Prepare the evaluation of one utterance.

        Args:
            function: from tensors (..., time) to a tensor (..., time); called once per piece, and in a trial.
            owner: holder of the parameters, such as a generator; remembers the trial, made once for each kind of
                signal. Default: a trial each time.
        """
        self.function = function
        self.owner = owner
        self.operations: list[State] = []
        self._position = 0  # of the next operation
        self._last = False
        self._verified: list[Verified] | None = None

    def __call__(self, *pieces: Tensor | None, last: bool = False) -> Tensor:
        """Evaluate the next piece of each signal.

        Args:
            pieces: one per signal, possibly empty; None stays None in every pass.
            last: whether the signals end here.

        Returns:
            The final part of the result since the last piece, possibly empty.

        Raises:
            VocoderError: when an operation cannot be evaluated piece by piece.
        """
        if last and not self.operations:  # first and last: the whole
            return self.function(*pieces)
        if self._verified is None and all(piece is None or piece.shape[-1] for piece in pieces):
            known = _VERIFIED.get(self.owner, {}) if self.owner is not None else {}
            self._verified = known.get(self._kind(pieces))
            if self._verified is not None:
                try:
                    return self._pass(pieces, last)
                except _OtherOperationsError:  # the owner or its function changed
                    self.operations.clear()
            self._verify(pieces)
        return self._pass(pieces, last)

    def execute(self, function: Callable[..., Any], arguments: Arguments, spans: list[Span]) -> Any:
        """Execute the next operation of a pass."""
        if function in DESCRIPTIONS:
            return function(*arguments[0], **arguments[1])
        position = self._position
        known = self.operations[position] if position < len(self.operations) else None
        if known is not None and known.function != function:
            raise _other(name_of(function), name_of(known.function))
        axis = None if known is not None else self._axis(position, function, arguments)
        kind, settings = rule_of(function, arguments, spans)
        if known is None:
            known = kind(function, axis)
            self.operations.append(known)
        self._position += 1
        known.last = self._last
        out, axis = self._evaluate(known, settings)
        known.first = False
        if isinstance(out, Tensor):
            return make_span(out, axis, self.execute)
        return like(out, [make_span(part, axis, self.execute) for part in out])

    def _evaluate(self, state: State, settings: Settings) -> tuple[Any, int]:
        return state.run(**settings)

    def _pass(self, pieces: Sequence[Tensor | None], last: bool) -> Tensor:
        """Call the function once."""
        self._position, self._last = 0, last
        result = self.function(*(piece if piece is None else make_span(piece, -1, self.execute) for piece in pieces))
        if not is_span(result):
            raise refuse("the result", "it is no signal, but made of shapes or of values taken out of one")
        if result.axis != -1:
            raise refuse("the result", f"time must be the last axis, it is axis {result.axis}")
        return as_plain(result)

    def _axis(self, position: int, function: Callable[..., Any], arguments: Arguments) -> int | None:
        """Return the verified axis of a new operation; fail if another operation was verified."""
        if self._verified is None:
            return None
        verified = self._verified[position] if position < len(self._verified) else None
        if verified is None or verified.function != function or verified.constants != constants_of(arguments):
            raise _other(name_of(function), name_of(verified.function) if verified else "nothing")
        return verified.axis

    def _verify(self, pieces: Sequence[Tensor | None]) -> None:
        """Try the function on random pieces with lengths in proportion to the given ones."""
        kind = self._kind(pieces)
        unit = math.gcd(*(piece.shape[-1] for piece in pieces if piece is not None))
        try:
            self._verified = Trial(self.function).run(pieces, unit, 1)
        except _FailedError:
            self._verified = Trial(self.function).run(pieces, unit, 16)  # some layers need longer signals
        if self.owner is not None:
            _VERIFIED.setdefault(self.owner, {})[kind] = self._verified

    def _kind(self, pieces: Sequence[Tensor | None]) -> Hashable:
        """Return what may change the operations: kinds of signals and PyTorch modes."""
        signals = tuple(None if piece is None else (piece.dtype, piece.device, piece.shape[:-1]) for piece in pieces)
        devices = {piece.device.type for piece in pieces if piece is not None} - {"meta"}
        autocast = frozenset((device, torch.is_autocast_enabled(device)) for device in devices)
        return signals, autocast, torch.is_grad_enabled(), getattr(self.owner, "training", None)


class Trial(Incremental):
    """Evaluates random pieces of several lengths, and checks that only each operation's signals change."""

    LENGTHS = (3, 5, 4)  # all different, so that a dependence on the length shows

    def run(self, pieces: Sequence[Tensor | None], unit: int, scale: int) -> list[Verified]:
        """Return the verified operations.

        ``unit`` is the length of ``pieces`` relative to the shortest proportional ones, ``scale`` a factor of LENGTHS.
        """
        source = torch.Generator().manual_seed(0)
        self._arguments: list[Arguments] = []
        for length in self.LENGTHS:
            drawn = [
                piece if piece is None else random_columns(piece, -1, piece.shape[-1] // unit * length * scale, source)
                for piece in pieces
            ]
            self._pass(drawn, last=length == self.LENGTHS[-1])
        return [
            Verified(operation.function, constants_of(arguments), operation.axis)
            for operation, arguments in zip(self.operations, self._arguments, strict=True)
        ]

    def execute(self, function: Callable[..., Any], arguments: Arguments, spans: list[Span]) -> Any:
        if function in DESCRIPTIONS:
            return function(*arguments[0], **arguments[1])
        position, name = self._position, name_of(function)
        if position == len(self._arguments):
            self._arguments.append(arguments)
        elif position < len(self._arguments) and not _same(arguments, self._arguments[position]):
            raise refuse(name, "what it is given beside its signal depends on the length of a piece, or on its values")
        try:
            return super().execute(function, arguments, spans)
        except VocoderError:
            raise
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise _FailedError(str(refuse(name, f"it fails ({reason})"))) from error


class _OtherOperationsError(VocoderError):
    """A pass differs in its operations from the one before."""


class _FailedError(VocoderError):
    """An operation failed in a trial."""


def _other(name: str, before: str) -> VocoderError:
    reason = f"{name} where {before} was before: operations and their settings must be the same for every piece"
    return _OtherOperationsError(str(refuse(name, reason)))


def constants_of(arguments: Any) -> Any:
    """Replace tensors and objects in nested arguments by their kinds, to compare and store them."""
    if is_span(arguments):
        return Span, arguments.axis
    if isinstance(arguments, Tensor):
        return Tensor, arguments.dtype, arguments.shape
    if isinstance(arguments, dict):
        return {key: constants_of(item) for key, item in arguments.items()}
    if isinstance(arguments, (tuple, list)):
        return [constants_of(item) for item in arguments]
    plain = (bool, int, float, complex, str, slice, type(None), type(...), torch.dtype, torch.device, torch.layout)
    return arguments if isinstance(arguments, plain) else type(arguments)


def _same(a: Any, b: Any) -> bool:
    """Whether two passes' arguments are equal except signals."""
    values: list[Tensor] = []
    others: list[Tensor] = []
    map_tensors(a, lambda _: None, values.append)
    map_tensors(b, lambda _: None, others.append)
    if constants_of(a) != constants_of(b):
        return False
    return all(x is y or equal_values(x, y) for x, y in zip(values, others, strict=True))
