"""Complex signals as pairs of real tensors: ONNX has no complex numbers.

Torch's exporter would add an axis of 2 at the end, along which ONNX Runtime moves single numbers: a tenth of the time
of the built-in models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vocoders.streaming.spans import name_of

_LAYOUT = {"contiguous", "flatten", "movedim", "permute", "reshape", "squeeze", "transpose", "unflatten", "unsqueeze"}


class Pair:
    """Complex tensor as real and imaginary part: sums, products, real quotients, magnitudes, and ``_LAYOUT``."""

    def __init__(self, real: Tensor, imag: Tensor) -> None:
        self.real = real
        self.imag = imag

    def __add__(self, other: Pair) -> Pair:
        return Pair(self.real + other.real, self.imag + other.imag)

    def __mul__(self, other: Pair | Tensor | float) -> Pair:
        if not isinstance(other, Pair):
            return self.map(lambda part: part * other)
        real = self.real * other.real - self.imag * other.imag
        return Pair(real, self.real * other.imag + self.imag * other.real)

    def __truediv__(self, other: Tensor | float) -> Pair:
        return self.map(lambda part: part / other)

    def abs(self) -> Tensor:
        return (self.real.square() + self.imag.square()).sqrt()

    def map(self, function: Callable[[Tensor], Tensor]) -> Pair:
        """Apply a function to both parts."""
        return Pair(function(self.real), function(self.imag))

    def __getattr__(self, name: str) -> Any:
        if name in _LAYOUT:
            return lambda *args, **kwargs: self.map(lambda part: getattr(part, name)(*args, **kwargs))
        raise AttributeError(_refusal(name))

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise TypeError(_refusal(name_of(func)))  # PairArithmetic comes first


class PairArithmetic(TorchFunctionMode):
    """Mode in which torch makes and takes pairs instead of complex tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _FUNCTIONS.get(func, func)(*args, **(kwargs or {}))


def _refusal(name: str) -> str:
    return f"'{name}' of a complex tensor cannot be exported; compute with its real and imaginary part"


def _view_as_real(x: Pair) -> Tensor:
    return torch.stack([x.real, x.imag], -1)


def _product(x: Tensor, y: Any) -> Any:
    return y * x if isinstance(y, Pair) else x * y


_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    torch.complex: Pair,
    torch.polar: lambda magnitude, angle: Pair(magnitude * angle.cos(), magnitude * angle.sin()),
    torch.view_as_complex: lambda x: Pair(*x.movedim(-1, 0).unbind(0)),
    torch.view_as_real: _view_as_real,
    Tensor.mul: _product,
    Tensor.__mul__: _product,
}
