"""Layers rewritten in operators that ONNX Runtime has, and has fast."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import wrap_torch_function

from vocoders.nn.layers import LayerNorm2d, PaddedConv1d
from vocoders.streaming.rules import as_operation, conv_arguments
from vocoders.streaming.states import Window

_GELU_REACH = 7  # beyond it x P(x) is 0 or x, to 1e-12 of x


class UtteranceNorm(LayerNorm2d):
    """Layer norm over all frames by means of means: ONNX Runtime's sums over minutes lose digits."""

    def __init__(self, norm: LayerNorm2d) -> None:
        super().__init__(len(norm.weight), norm.framewise, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias

    def standardize(self, x: Tensor) -> Tensor:
        x = x - x.mean((2, 3), keepdim=True).mean(1, keepdim=True)
        return x * (x.square().mean((2, 3), keepdim=True).mean(1, keepdim=True) + self.eps).rsqrt()


class MatrixLinear(nn.Linear):
    """Linear layer on rows: ONNX Runtime adds a bias to matrices of at most three axes."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.dim() <= 3 else linear_of_rows(x, self.weight, self.bias)


@wrap_torch_function(lambda x, *_: (x,))
def linear_of_rows(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.linear`` on flattened rows, as one streaming operation: time is no axis of the rows."""
    return F.linear(x.flatten(0, -2), weight, bias).unflatten(0, x.shape[:-1])


class MatrixConv1d(nn.Module):
    """Convolution as one matrix product per tap: ONNX Runtime has no convolution in float64.

    Stride 1, length kept, dense or depthwise.
    """

    def __init__(self, conv: nn.Conv1d) -> None:
        super().__init__()
        self.conv = conv
        self.pads = conv.pads if isinstance(conv, PaddedConv1d) else (conv.kernel_size[0] // 2,) * 2

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.pads
        if left != right:
            x, left = F.pad(x, self.pads), 0
        settings = (self.conv.stride, left, self.conv.dilation, self.conv.groups)
        return matrix_conv1d(x, self.conv.weight, self.conv.bias, *settings)


@as_operation(Window, conv_arguments)
def matrix_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    """``F.conv1d`` for stride and dilation 1, with one matrix product per tap."""
    taps, (padding,) = weight.shape[-1], padding if isinstance(padding, list) else (padding,)
    x = F.pad(x, (padding, padding)) if padding else x
    parts = [x[..., k : k + 1 - taps or None] for k in range(taps)]
    if groups == 1:
        products = [weight[..., k] @ part for k, part in enumerate(parts)]
    else:
        products = [weight[..., k] * part for k, part in enumerate(parts)]
    return sum(products, bias[:, None])


class TabulatedGELU(nn.Module):
    """GELU, x P(x), in float64 to 1e-10: ONNX Runtime has no error function in float64.

    From a table of the normal distribution P and its density p at i / 1024: P(z + d) = P(z) + p(z) (d - z d^2 / 2 +
    ...).
    """

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        z = torch.arange(-_GELU_REACH * 1024, _GELU_REACH * 1024 + 1, dtype=torch.float64) / 1024
        density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
        self.register_buffer("table", torch.stack([torch.special.ndtr(z), density], 1))

    def forward(self, x: Tensor) -> Tensor:
        z = x.clamp(-_GELU_REACH, _GELU_REACH)
        entry = (z * 1024).round()
        near = entry * (1 / 1024)
        d = z - near
        probability, density = F.embedding(entry.long() + _GELU_REACH * 1024, self.table).unbind(-1)
        return x * (probability + density * (d - near * (d * d * 0.5)))


class PlainELU(nn.Module):
    """ELU of plain operators: ONNX Runtime has none in float64."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, x.clamp_max(0).exp() - 1)
