"""Blocks that two or more networks use. No architecture lives here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import wrap_torch_function

from vocoders.dsp.stft import reflect_pad

Layer = tuple[Tensor, Tensor]  # weight and bias


class Standardize(nn.Module):
    """(mel - mean) / scale per mel, (batch, n_mels, frames); statistics of the training data, 0 and 1 unless set."""

    mean: Tensor
    scale: Tensor

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_mels, 1))
        self.register_buffer("scale", torch.ones(n_mels, 1))

    def forward(self, mel: Tensor) -> Tensor:
        return (mel - self.mean) / self.scale

    def fit(self, mel: Tensor) -> None:
        """Take mean and standard deviation of ``mel`` (batch, n_mels, frames)."""
        self.mean.copy_(mel.mean((0, 2))[:, None])
        self.scale.copy_(mel.std((0, 2)).clamp_min(1e-3)[:, None])


class ConvNeXtBlock1d(nn.Module):
    """ConvNeXt block over time (Liu et al. 2022, arXiv 2201.03545; over time as in Vocos, arXiv 2306.00814).

    (batch, channels, frames) -> the same shape. Zero padding, layer norm over channels, GELU.
    """

    def __init__(self, channels: int, expansion: int, kernel_size: int, scale: float) -> None:
        super().__init__()
        self.dwconv = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.pwconv1 = nn.Linear(channels, channels * expansion)
        self.activation = nn.GELU()
        self.pwconv2 = nn.Linear(channels * expansion, channels)
        self.gamma = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dwconv(x).transpose(1, 2))
        y = self.pwconv2(self.activation(self.pwconv1(y)))
        return x + (self.gamma * y).transpose(1, 2)


class LayerNorm2d(nn.Module):
    """Layer norm of (batch, frames, bins, channels) over (bins, channels), or over frames as well.

    ``framewise`` keeps each frame on its own, which bounds the receptive field; without it every output depends on
    the whole utterance. The affine transform is per channel.
    """

    def __init__(self, channels: int, framewise: bool, eps: float = 1e-6) -> None:
        super().__init__()
        self.framewise = framewise
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.framewise or not _tiled(x):
            return self.standardize(x) * self.weight + self.bias
        mean, scale = (y.view(-1, 1, 1, 1) for y in self.moments(x.split(_TILE, 1)))
        gain = (scale * self.weight).to(self.weight.dtype)
        shift = (self.bias - mean * gain).to(self.weight.dtype)
        out = _memory(x, self.weight.dtype)
        for some_x, some in zip(x.split(_TILE, 1), out.split(_TILE, 1), strict=True):
            torch.addcmul(shift, some_x, gain, out=some)
        return out

    def standardize(self, x: Tensor) -> Tensor:
        """All but the affine transform."""
        return F.layer_norm(x, x.shape[2:] if self.framewise else x.shape[1:], eps=self.eps)

    def moments(self, tiles: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and reciprocal standard deviation of each item, float64 (batch,), from the parts of x along its frames.

        Those of all come from those of the parts (Chan et al. 1979, eq. 2.1).
        """
        counts, means, squares = [], [], []
        for tile in tiles:
            counts.append(tile[0].numel())
            means.append(tile.mean((1, 2, 3)))
            squares.append(torch.linalg.vector_norm(tile - means[-1].view(-1, 1, 1, 1), dim=(1, 2, 3)).square())
        share = torch.tensor(counts, dtype=torch.float64)[:, None] / sum(counts)
        parts = torch.stack(means).double()
        mean = (share * parts).sum(0)
        variance = torch.stack(squares).double().sum(0) / sum(counts) + (share * (parts - mean).square()).sum(0)
        return mean, (variance + self.eps).rsqrt()


class ConvNeXtBlock2d(nn.Module):
    """ConvNeXt block over time and frequency, (batch, frames, bins, channels) -> the same shape.

    Channels come last: pointwise layers are then plain matrix products, the norm is one fused call and the depthwise
    convolution sees PyTorch's channels_last format, in which it is several times faster on a CPU, its weight
    gradient included.

    ``kernel_size`` is (bins, frames), as Wavehax writes it.
    """

    def __init__(
        self,
        channels: int,
        expansion: int,
        kernel_size: tuple[int, int],
        scale: float,
        framewise: bool = True,
        activation: type[nn.Module] = nn.GELU,
        padding_mode: Literal["reflect", "zeros"] = "reflect",
    ) -> None:
        super().__init__()
        self.reach = (kernel_size[1] // 2, kernel_size[0] // 2)  # frames, bins
        self.padding_mode = padding_mode
        self.dwconv = nn.Conv2d(
            channels,
            channels,
            (kernel_size[1], kernel_size[0]),
            padding=self.reach if padding_mode == "zeros" else 0,
            groups=channels,
            bias=False,
        )
        self.norm = LayerNorm2d(channels, framewise)
        self.pwconv1 = nn.Linear(channels, channels * expansion)
        self.activation = activation()
        self.pwconv2 = nn.Linear(channels * expansion, channels)
        self.gamma = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """``out`` may name memory of the size of x for the result."""
        if type(x) is Tensor and _tiled(x):  # the pieces of a signal are of another type
            return self.forward_tiles(x, _memory(x, x.dtype) if out is None else out)
        y = x.permute(0, 3, 1, 2)
        if self.padding_mode == "reflect":
            y = reflect_pad_2d(y, *self.reach)
        return self.mix_all(x, self.dwconv(y).permute(0, 2, 3, 1))

    def mix(self, x: Tensor, y: Tensor, first: Layer, second: Layer, out: Tensor | None = None) -> Tensor:
        """x plus what the layers behind the depthwise convolution make of its result y."""
        return torch.add(x, pointwise(self.activation(pointwise(self.norm.standardize(y), *first)), *second), out=out)

    def _folded(self) -> tuple[Layer, Layer]:
        """Both pointwise layers with the norm's affine transform and the scale gamma: three passes less over x."""
        return (
            (self.pwconv1.weight * self.norm.weight, self.pwconv1.bias + self.pwconv1.weight @ self.norm.bias),
            (self.gamma[:, None] * self.pwconv2.weight, self.gamma * self.pwconv2.bias),
        )

    @wrap_torch_function(lambda self, x, y: (x, y))
    def mix_all(self, x: Tensor, y: Tensor) -> Tensor:
        """``mix`` for a whole signal, or the next piece of one that comes in pieces."""
        layers = self._folded()
        if not _tiled(x):
            return self.mix(x, y, *layers)
        for some_x, some_y in zip(x.split(_TILE, 1), y.split(_TILE, 1), strict=True):
            self.mix(some_x, some_y, *layers, out=some_y)
        return y

    def forward_tiles(self, x: Tensor, out: Tensor) -> Tensor:
        """``forward``, a few frames at a time."""
        frames, size = x.shape[1], max(_TILE, self.reach[0])
        tiles = [slice(begin, min(begin + size, frames)) for begin in range(0, frames, size)]
        (weight, bias), second = self._folded()
        if self.norm.framewise:
            for tile in tiles:
                self.mix(x[:, tile], self._convolve(x, tile), (weight, bias), second, out=out[:, tile])
            return out

        def convolved() -> Iterator[Tensor]:
            for tile in tiles:
                out[:, tile] = y = self._convolve(x, tile)
                yield y

        mean, scale = self.norm.moments(convolved())
        for i in range(x.shape[0]):  # what standardises an utterance goes into the weights as well
            scaled = (weight * scale[i]).to(weight.dtype)
            first = scaled, (bias - scaled.double().sum(1) * mean[i]).to(bias.dtype)
            for tile in tiles:
                some = out[i : i + 1, tile]
                hidden = self.activation(pointwise(some, *first))
                torch.add(x[i : i + 1, tile], pointwise(hidden, *second), out=some)
        return out

    def _convolve(self, x: Tensor, tile: slice) -> Tensor:
        """The depthwise convolution of some frames."""
        frames, bins = self.reach
        begin, end = tile.start - frames, tile.stop + frames
        y = x[:, max(begin, 0) : end].permute(0, 3, 1, 2)
        edges = max(-begin, 0), max(end - x.shape[1], 0)
        if self.padding_mode == "zeros":
            y = F.pad(y, (0, 0, *edges)) if any(edges) else y
        elif y.shape[2] > max(edges) and y.shape[3] > bins:
            y = F.pad(y, (bins, bins, *edges), mode="reflect")
        else:
            y = reflect_pad(reflect_pad(y, *edges, 2), bins, bins, 3)
        padding = (0, bins if self.padding_mode == "zeros" else 0)
        return F.conv2d(y, self.dwconv.weight, None, (1, 1), padding, (1, 1), y.shape[1]).permute(0, 2, 3, 1)


_TILE = 64  # frames


def _tiled(x: Tensor) -> bool:
    """Whether x is to be treated a few frames at a time, which stay in the cache of a CPU."""
    return x.device.type == "cpu" and not (torch.is_grad_enabled() or torch.compiler.is_exporting())


def _memory(x: Tensor, dtype: torch.dtype) -> Tensor:
    """For as much as x. NumPy asks for huge pages for what is large, which are ready four times as fast."""
    return torch.from_numpy(np.empty(x.numel() * dtype.itemsize, np.uint8)).view(dtype).view(x.shape)


class ConvNeXtBlocks2d(nn.Sequential):
    """``ConvNeXtBlock2d`` one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        if type(x) is not Tensor or not _tiled(x):
            return super().forward(x)
        spare = None
        for block in self:  # each writes where the one before has read: large memory is slow while it is fresh
            x, spare = block(x, spare), (None if block is self[0] else x)
        return x


@wrap_torch_function(lambda x, *_: (x,))
def reflect_pad_2d(x: Tensor, frames: int, bins: int) -> Tensor:
    """Mirror both ends of the last two axes of (batch, channels, frames, bins), see ``reflect_pad``."""
    if not torch.compiler.is_exporting() and x.shape[2] > frames and x.shape[3] > bins:
        return F.pad(x, (bins, bins, frames, frames), mode="reflect")
    x = x.permute(0, 2, 3, 1)  # where channels come last, what is copied lies together
    return reflect_pad(reflect_pad(x, frames, frames, 1), bins, bins, 2).permute(0, 3, 1, 2)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer over the last axis of x (batch, frames, bins, channels), with weight (channels_out, channels).

    As a convolution, because oneDNN's reach twice the speed of MKL's matrix products on processors of AMD. Dilated,
    which means nothing for a kernel of 1, because PyTorch keeps plain ones of that size from oneDNN.
    """
    if x.device.type != "cpu" or torch.compiler.is_exporting():
        return F.linear(x, weight, bias)
    x = F.conv2d(x.permute(0, 3, 1, 2), weight[:, :, None, None], bias, (1, 1), (0, 0), (2, 2), 1)
    return x.permute(0, 2, 3, 1)


def along_time(conv: nn.Module, x: Tensor) -> Tensor:
    """``conv``, a Conv1d or ConvTranspose1d, over x (batch, channels, 1, samples).

    In PyTorch's channels_last format, in which oneDNN's convolutions are fastest.
    """
    assert isinstance(conv, (nn.Conv1d, nn.ConvTranspose1d))
    weight, padding, dilation = conv.weight.unsqueeze(2), (0, int(conv.padding[0])), (1, conv.dilation[0])
    if isinstance(conv, nn.ConvTranspose1d):
        more = (0, conv.output_padding[0])
        return F.conv_transpose2d(x, weight, conv.bias, (1, conv.stride[0]), padding, more, 1, dilation)
    dilation = dilation if conv.kernel_size[0] > 1 else (2, 2)  # see ``pointwise``
    return F.conv2d(x, weight, conv.bias, (1, 1), padding, dilation, 1)
