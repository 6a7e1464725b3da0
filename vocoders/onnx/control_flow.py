"""Find control flow in ONNX models: an endless loop would block the process as soon as the model is opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vocoders.errors import CheckpointError
from vocoders.files import Bytes, map_file

_CONTROL_FLOW = (b"Loop", b"Scan", b"If", b"SequenceMap")
# Field numbers in onnx.proto
_GRAPH, _FUNCTIONS = 7, 25  # of a model
_NODE = 1  # of a graph
_OP_TYPE = 4  # of a node


def check_control_flow(path: Path) -> None:
    """Raise CheckpointError when a model holds loops, branches or functions, or is no ONNX model."""
    data = map_file(path)
    try:
        for number, start, end in _fields(data, 0, len(data)):
            if number == _FUNCTIONS or (
                number == _GRAPH and any(_is_control_flow(n) for n in _nodes(data, start, end))
            ):
                raise CheckpointError(f"{path} holds loops, branches or functions, which no exported model has")
    except IndexError:
        raise CheckpointError(f"{path} is not a readable ONNX model") from None


def _nodes(data: Bytes, start: int, end: int) -> Iterator[bytes]:
    return (data[first:last] for number, first, last in _fields(data, start, end) if number == _NODE)


def _is_control_flow(node: bytes) -> bool:
    if not any(name in node for name in _CONTROL_FLOW):  # fast path; names of weights may match too
        return False
    fields = _fields(node, 0, len(node))
    return any(number == _OP_TYPE and node[first:last] in _CONTROL_FLOW for number, first, last in fields)


def _fields(data: Bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of the fields of a Protocol Buffers message; IndexError where it is none."""
    while start < end:
        key, start = _number(data, start)
        kind = key & 7
        if kind == 0:
            _, last = _number(data, start)
        elif kind == 2:
            length, start = _number(data, start)
            last = start + length
        elif kind in (1, 5):
            last = start + (8 if kind == 1 else 4)
        else:
            raise IndexError
        if last > end:
            raise IndexError
        yield key >> 3, start, last
        start = last


def _number(data: Bytes, place: int) -> tuple[int, int]:
    """Read a number of variable length; return it and the place behind it."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
        if shift > 63:
            raise IndexError
