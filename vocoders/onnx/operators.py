"""Layers in real arithmetic and in operators that ONNX Runtime has, and has fast; each gives what it replaces gives."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.nn.layers import LayerNorm2d, PaddedConv1d
from vocoders.nn.streaming_rules import as_convolution


class UtteranceNorm(LayerNorm2d):
    """Layer norm over all frames by means of means, because ONNX Runtime's sums over minutes of frames lose digits."""

    def __init__(self, norm: LayerNorm2d) -> None:
        super().__init__(len(norm.weight), norm.framewise, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias

    def standardize(self, x: Tensor) -> Tensor:
        x = x - x.mean((2, 3), keepdim=True).mean(1, keepdim=True)
        return x * (x.square().mean((2, 3), keepdim=True).mean(1, keepdim=True) + self.eps).rsqrt()


class MatrixConv1d(nn.Module):
    """Convolution over time as one matrix product per tap: ONNX Runtime has no convolution in float64.

    The convolution has a stride of 1, keeps the length, and is dense or depthwise.
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


@as_convolution
def matrix_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    """Do what ``F.conv1d`` does for a stride and a dilation of 1, with one matrix product per tap."""
    taps, (padding,) = weight.shape[-1], padding if isinstance(padding, list) else (padding,)
    x = F.pad(x, (padding, padding)) if padding else x
    parts = [x[..., k : k + 1 - taps or None] for k in range(taps)]
    if groups == 1:
        products = [weight[..., k] @ part for k, part in enumerate(parts)]
    else:
        products = [weight[..., k] * part for k, part in enumerate(parts)]
    return sum(products, bias[:, None])


class TabulatedGELU(nn.Module):
    """GELU in float64 to 1e-10, from a table of the error function and its slope: ONNX Runtime has none in float64.

    erf(z + d) = erf(z) + erf'(z) (d - z d^2 + ...), erf'(z) = 2 / sqrt(pi) exp(-z^2), for z = i / 1024 in [-6, 6].
    """

    table: Tensor
    root: Tensor

    def __init__(self) -> None:
        super().__init__()
        z = torch.arange(-6 * 1024, 6 * 1024 + 1, dtype=torch.float64) / 1024
        self.register_buffer("table", torch.stack([torch.erf(z), 2 / math.sqrt(math.pi) * torch.exp(-z * z)], 1))
        self.register_buffer("root", torch.tensor(2.0, dtype=torch.float64).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        z = (x / self.root).clamp(-6, 6)
        entry = (z * 1024).round()
        near = entry / 1024
        d = z - near
        erf, slope = F.embedding(entry.long() + 6 * 1024, self.table).unbind(-1)
        return x / 2 * (1 + erf + slope * (d - near * d * d))


class PlainELU(nn.Module):
    """ELU of plain operators: ONNX Runtime has none in float64."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, x.clamp_max(0).exp() - 1)
