"""Layers in real arithmetic and in operators that ONNX Runtime has, and has fast; each gives what it replaces gives."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.dsp.stft import STFT
from vocoders.nn.layers import LayerNorm2d, PaddedConv1d, trim
from vocoders.nn.streaming_rules import as_convolution


class RealSTFT(STFT):
    """STFT by convolutions with sines and cosines, which gives the same numbers as a Fourier transform.

    ONNX has no complex numbers. The exporter replaces them by pairs of real numbers, except in the transform. The graph
    makes its kernels of one turn of the sine and the cosine, because they would be more than half of the file; ONNX
    Runtime does so once, when it opens the model.
    """

    cos: Tensor
    negative_sin: Tensor

    def __init__(self, stft: STFT) -> None:
        super().__init__(stft.n_fft, stft.hop_length, padding=stft.padding)
        self.window = stft.window
        circle = torch.arange(self.n_fft, dtype=torch.float64) * (2 * math.pi / self.n_fft)
        self.register_buffer("cos", circle.cos().float(), persistent=False)
        self.register_buffer("negative_sin", -circle.sin().float(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        audio = self.pad_ends(audio)
        shape = audio.shape[:-1]
        signals = audio.reshape(math.prod(shape), 1, -1)
        kernel = self._waves() * self.window
        parts = F.conv1d(signals, kernel[:, None], stride=self.hop_length).unflatten(1, (2, -1))
        spectrum = torch.view_as_complex(parts.permute(0, 2, 3, 1).contiguous())
        return spectrum.reshape(*shape, spectrum.shape[1], -1)

    def inverse(self, spectrum: Tensor) -> Tensor:
        shape = spectrum.shape[:-2]
        spectrum = spectrum.reshape(math.prod(shape), spectrum.shape[-2], -1)
        parts = torch.view_as_real(spectrum).permute(0, 3, 1, 2).flatten(1, 2)
        # A bin counts together with its mirror image; the first and the last one have none.
        once = torch.tensor([1.0, *[2.0] * (self.n_fft // 2 - 1), 1.0]).repeat(2) / self.n_fft
        kernel = self._waves() * self.window * once[:, None]
        audio = F.conv_transpose1d(parts, kernel[:, None], stride=self.hop_length)
        power = self.window.square()[None, None]
        envelope = F.conv_transpose1d(torch.ones_like(parts[:1, :1]), power, stride=self.hop_length)
        return (trim(audio, *self.pad) / trim(envelope, *self.pad).clamp_min(1e-8)).reshape(*shape, -1)

    def _waves(self) -> Tensor:
        """Return the cosines and the negative sines of all bins, (n_fft + 2, n_fft)."""
        n = torch.arange(self.n_fft)
        turns = (n[: self.n_fft // 2 + 1, None] * n).remainder(self.n_fft)
        return torch.cat([self.cos[turns], self.negative_sin[turns]])


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
