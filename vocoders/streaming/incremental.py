"""Evaluate a network piece by piece along time: nothing is computed twice, and every result is final.

Pieces of signals are tensors of the type ``Span``, whose operations PyTorch hands over instead of executing them
(``__torch_function__``). A network executes the same operations in every pass, so the n-th operation of a pass finds
what the n-th operation of the previous pass has kept. states.py has the kinds of what is kept, rules.py says which
operation keeps which. docs/streaming.md explains it with an example.

At the first and at the last piece each operation does what it does at the ends of the whole, so a layer that pads its
input pads it there and nowhere else. A piece may be empty: at first many operations have no result yet.
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
    """An operation of a verified network."""

    function: Any
    constants: Any
    """Its arguments, without objects and values of tensors."""
    axis: int | None
    """Of time in the result, where each column is treated by itself."""


_VERIFIED: WeakKeyDictionary[Any, dict[Hashable, list[Verified]]] = WeakKeyDictionary()


class Incremental:
    """A function from signals to a signal, all with time as their last axis, evaluated piece by piece.

    Attributes:
        operations: those of a pass, in their order, each with what it keeps.
    """

    def __init__(self, function: Callable[..., Tensor], owner: object | None = None) -> None:
        """Prepare the evaluation of one utterance.

        Args:
            function: from tensors (..., time) to a tensor (..., time). It is called once a piece, and in a trial.
            owner: what holds the parameters of ``function``, such as a generator. The trial is made once for each kind
                of signal and remembered as long as the owner lives; without an owner it is made every time.
        """
        self.function = function
        self.owner = owner
        self.operations: list[State] = []
        self._position = 0  # of the next operation in the pass
        self._last = False
        self._verified: list[Verified] | None = None

    def __call__(self, *pieces: Tensor | None, last: bool = False) -> Tensor:
        """Evaluate the next piece of each signal.

        Args:
            pieces: one of each signal, perhaps empty. A signal that is None is None in every pass.
            last: whether the signals end here.

        Returns:
            The next piece of the result, as far as it is final; perhaps empty.

        Raises:
            VocoderError: when ``function`` uses an operation that cannot be evaluated piece by piece.
        """
        if last and not self.operations:  # the first piece as well: the whole
            return self.function(*pieces)
        if self._verified is None and all(piece is None or piece.shape[-1] for piece in pieces):
            known = _VERIFIED.get(self.owner, {}) if self.owner is not None else {}
            self._verified = known.get(self._kind(pieces))
            if self._verified is not None:
                try:
                    return self._pass(pieces, last)
                except _OtherOperationsError:  # the owner has been changed, or has another function
                    self.operations.clear()
            self._verify(pieces)
        return self._pass(pieces, last)

    def execute(self, function: Callable[..., Any], arguments: Arguments, spans: list[Span]) -> Any:
        """Execute the next operation of a pass, with the spans among its arguments."""
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
        """Return the axis of a new operation if the network is verified; fail when another operation was verified."""
        if self._verified is None:
            return None
        verified = self._verified[position] if position < len(self._verified) else None
        if verified is None or verified.function != function or verified.constants != constants_of(arguments):
            raise _other(name_of(function), name_of(verified.function) if verified else "nothing")
        return verified.axis

    def _verify(self, pieces: Sequence[Tensor | None]) -> None:
        """Try the function on random pieces whose lengths are in proportion to those of the given ones."""
        kind = self._kind(pieces)
        unit = math.gcd(*(piece.shape[-1] for piece in pieces if piece is not None))
        try:
            self._verified = Trial(self.function).run(pieces, unit, 1)
        except _FailedError:
            self._verified = Trial(self.function).run(pieces, unit, 16)  # some layers take no short signals
        if self.owner is not None:
            _VERIFIED.setdefault(self.owner, {})[kind] = self._verified

    def _kind(self, pieces: Sequence[Tensor | None]) -> Hashable:
        """Return what may decide which operations the function uses: kinds of signals and modes of PyTorch."""
        signals = tuple(None if piece is None else (piece.dtype, piece.device, piece.shape[:-1]) for piece in pieces)
        devices = {piece.device.type for piece in pieces if piece is not None} - {"meta"}
        autocast = frozenset((device, torch.is_autocast_enabled(device)) for device in devices)
        return signals, autocast, torch.is_grad_enabled(), getattr(self.owner, "training", None)


class Trial(Incremental):
    """Evaluates random pieces of several lengths and checks that only the signals of each operation change."""

    LENGTHS = (3, 5, 4)  # no two alike: what depends on the length of a piece shows

    def run(self, pieces: Sequence[Tensor | None], unit: int, scale: int) -> list[Verified]:
        """Return the verified operations.

        Args:
            pieces: of the signals to draw random ones like.
            unit: how many times the lengths of ``pieces`` contain the shortest ones that are in proportion.
            scale: the lengths to try, as a multiple of LENGTHS.

        Raises:
            VocoderError: when the function cannot be evaluated piece by piece.
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
    """A pass has other operations than the one before."""


class _FailedError(VocoderError):
    """An operation fails in a trial."""


def _other(name: str, before: str) -> VocoderError:
    reason = f"{name} where {before} was before: operations and their settings must be the same for every piece"
    return _OtherOperationsError(str(refuse(name, reason)))


def constants_of(arguments: Any) -> Any:
    """Replace tensors and objects in nested arguments by their kinds, so that they can be compared and stored."""
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
    """Whether the arguments of two passes are equal but for their signals."""
    values: list[Tensor] = []
    others: list[Tensor] = []
    map_tensors(a, lambda _: None, values.append)
    map_tensors(b, lambda _: None, others.append)
    if constants_of(a) != constants_of(b):
        return False
    return all(x is y or equal_values(x, y) for x, y in zip(values, others, strict=True))
