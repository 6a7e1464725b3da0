"""Fast paths on a CPU. What they compute is what the layers of layers.py define, apart from rounding.

Two facts decide. Convolutions are fastest by oneDNN in PyTorch's channels_last format; and memory that is fresh, or
does not fit into the cache, takes longer than the arithmetic. Each function says what it makes of that, and which
benchmark shows it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import wrap_torch_function

from vocoders.dsp.stft import reflect_pad

_TILE = 64  # frames
_TINY = 1e-9
_TILE_VALUES = 131_072  # for each thread: half a MiB, and twice that at twice the sample rate
_LONG_TILE = 2**20  # values: 4 MiB; in smaller ones the fixed cost of a convolution counts
_LONGEST_TILE = 2**15  # columns: for longer ones oneDNN's kernels of few channels take megabytes each
_TILES_PER_REACH = 64  # of a tile's columns, a thirty-second is computed twice at most
_SMALL = 20_480  # values: PyTorch gives oneDNN no convolution of fewer, unless several items come at once


class Affine(NamedTuple):
    """A pointwise layer."""

    weight: Tensor
    bias: Tensor


class DepthwiseConv(Protocol):
    """A ``DepthwiseConv2d``."""

    reach: tuple[int, int]
    mirrors: bool

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def convolve(self, x: Tensor, /, padding: tuple[int, int]) -> Tensor: ...


class Norm(Protocol):
    """A ``LayerNorm2d``."""

    framewise: bool

    def standardize(self, x: Tensor, /) -> Tensor: ...

    def fold(self, layer: Affine, /) -> Affine: ...

    def standardizing(self, layer: Affine, tiles: Iterable[Tensor], /) -> Iterable[Affine]: ...


class Block(NamedTuple):
    """The parts of a ``ConvNeXtBlock2d``."""

    dwconv: DepthwiseConv
    norm: Norm
    pwconv1: Affine
    activation: nn.Module
    pwconv2: Affine
    gamma: Tensor


def folds(parameter: Tensor) -> bool:
    """Whether blocks with this parameter are evaluated by this file: on a CPU, and on a GPU of NVIDIA or AMD.

    There only folded weights count, which save passes over memory (recipes.benchmarks.training_step).
    """
    return parameter.device.type in ("cpu", "cuda")


def in_tiles(x: Tensor) -> bool:
    """Whether x is treated a few frames at a time.

    They stay in the cache from the first operation of a block to the last: a minute of Wavehax took twice the time
    without (recipes.benchmarks.length). Not where gradients are needed, which keep everything anyway, nor in exports
    and streams, where each operation counts.
    """
    if type(x) is not Tensor or x.device.type != "cpu":
        return False
    return not (torch.is_grad_enabled() or torch.compiler.is_exporting())


def convnext_blocks_2d(x: Tensor, blocks: Sequence[Block]) -> Tensor:
    """Evaluate blocks one after the other, (batch, frames, bins, channels) -> the same shape.

    Each block writes where the block before the previous one has written: of large memory the first use is slow
    (recipes.benchmarks.length).
    """
    if not in_tiles(x):
        for block in blocks:
            x = convnext_tail(block, x, block.dwconv(x))
        return x
    spare = None
    for i, block in enumerate(blocks):
        out = large_memory(x, x.dtype) if spare is None else spare
        x, spare = _convnext_in_tiles(block, x, out), (None if i == 0 else x)  # the first x is the caller's
    return x


@wrap_torch_function(lambda block, x, y: (x, y))
def convnext_tail(block: Block, x: Tensor, y: Tensor) -> Tensor:
    """Return x plus what a block makes of ``y``, the result of its depthwise convolution; y may be overwritten.

    One operation for streams, where many small ones are what costs (recipes.benchmarks.streaming).
    """
    first, second = _folded(block)
    if not in_tiles(x):
        return _mix(block, x, y, first, second)
    for some_x, some_y in zip(x.split(_TILE, 1), y.split(_TILE, 1), strict=True):
        _mix(block, some_x, some_y, first, second, out=some_y)
    return y


def layer_norm_2d(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise x (batch, frames, bins, channels) over all but the batch, in tiles, see ``in_tiles``."""
    mean, scale = (y.view(-1, 1, 1, 1) for y in _moments(x.split(_TILE, 1), eps))
    gain = (scale * weight).to(weight.dtype)
    shift = (bias - mean * gain).to(weight.dtype)
    out = large_memory(x, weight.dtype)
    for some_x, some in zip(x.split(_TILE, 1), out.split(_TILE, 1), strict=True):
        torch.addcmul(shift, some_x, gain, out=some)
    return out


def standardizing(layer: Affine, tiles: Iterable[Tensor], eps: float) -> Iterator[Affine]:
    """Yield for each item of the batch ``layer`` with the item's mean and standard deviation over all tiles in it."""
    weight, bias = layer
    for mean, scale in zip(*_moments(tiles, eps), strict=True):
        scaled = (weight * scale).to(weight.dtype)
        yield Affine(scaled, (bias - scaled.double().sum(1) * mean).to(bias.dtype))


def norm_2d(x: Tensor, norm: Norm, layer: Affine) -> Tensor:
    """Standardise x (batch, frames, bins, channels) over all but the batch and apply ``layer``, in tiles likewise."""
    out = large_memory(x, layer.weight.dtype)
    layers = norm.standardizing(layer, x.split(_TILE, 1))
    for item, some, own in zip(x.split(1), out.split(1), layers, strict=True):
        for tile, result in zip(item.split(_TILE, 1), some.split(_TILE, 1), strict=True):
            result.copy_(_pointwise(tile, *own))
    return out


@wrap_torch_function(lambda x, weight, *_, **__: (x, weight))
def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Do what ``F.conv1d`` does, as a 2-D convolution in the channels_last format.

    oneDNN's convolutions are fastest in it, and PyTorch knows it for images only. The result is (batch, channels, time)
    as usual, but lies in memory with its channels together, and elementwise operations leave it so: of a network of
    such layers only the first input is copied (recipes.benchmarks.inference, HiFi-GAN). Short pieces of a stream, which
    oneDNN does not get, are faster as they are (recipes.benchmarks.streaming).
    """
    if _is_small(x):
        return F.conv1d(x, weight, bias, stride, padding, dilation, groups)
    y = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    spread = (1, *dilation) if weight.shape[2] > 1 else (2, 2)  # see ``_pointwise``
    y = F.conv2d(y, weight.unsqueeze(2), bias, (1, *stride), (0, *padding), spread, groups)
    return y.contiguous(memory_format=torch.channels_last).squeeze(2)


@wrap_torch_function(lambda x: (x,))
def channels_together(x: Tensor) -> Tensor:
    """Return x, (batch, channels, time), in the layout that ``conv1d`` wants.

    For what several layers take and none of them made, such as a conditioning signal: each would copy it.
    """
    return x if _is_small(x) else x.unsqueeze(2).contiguous(memory_format=torch.channels_last).squeeze(2)


@wrap_torch_function(lambda x, weight, *_, **__: (x, weight))
def conv_transpose1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    dilation: Sequence[int],
) -> Tensor:
    """Do what ``F.conv_transpose1d`` does, in the layout of ``conv1d`` and for the same reason."""
    if _is_small(x):
        return F.conv_transpose1d(x, weight, bias, stride, padding, output_padding, groups, dilation)
    y = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    settings = ((1, *stride), (0, *padding), (0, *output_padding), groups, (1, *dilation))
    y = F.conv_transpose2d(y, weight.unsqueeze(2), bias, *settings)
    return y.contiguous(memory_format=torch.channels_last).squeeze(2)


def by_tiles(function: Callable[[Tensor], Tensor], x: Tensor, reach: int) -> Tensor:
    """Return ``function(x)``, of x (batch, channels, time) and of the same shape, some columns at a time.

    What the layers of a block need in between is then no longer than a tile, which takes a third of the memory of
    HiFi-GAN V1 (recipes.benchmarks.inference). See ``in_tiles``. Tiles have few different lengths, because oneDNN keeps
    a kernel for each (recipes.benchmarks.length --memory).

    Args:
        function: from a signal to one of the same shape.
        x: the signal.
        reach: columns on each side that a column of the result depends on; they are computed again for each tile.
    """
    batch, channels, length = x.shape
    largest = max(min(_LONG_TILE // (channels * batch), _LONGEST_TILE), _TILES_PER_REACH * reach)
    count, unit = -(-length // largest), -(-largest // 32)
    if count == 1 or not in_tiles(x):
        return function(x)
    size = -(-length // (count * unit)) * unit
    window = size + 2 * reach
    out = None
    for begin in range(0, length, size):
        first, end = min(max(begin - reach, 0), length - window), min(begin + size, length)
        tile = function(x[..., first : first + window])[..., begin - first : end - first]
        out = torch.empty_like(x, dtype=tile.dtype) if out is None else out
        out[..., begin:end] = tile
    assert out is not None
    return out


def alias_free_snake(x: Tensor, alpha: Tensor, beta: Tensor, low_pass: Tensor) -> Tensor:
    """Do what ``alias_free.alias_free_snake`` does, without the zeros that its upsampling inserts.

    Even and odd samples at twice the rate are two rows, made of x and then summed up by depthwise convolutions with a
    kernel of two rows, half of the filter in each: the same for both, as the filter is symmetric. In the layout of
    ``conv1d``, and in tiles that stay in the cache (recipes.benchmarks.inference, BigVGAN).
    """
    channels, length = x.shape[1:]
    kernel = torch.stack([F.pad(low_pass[1::2], (1, 0)), F.pad(low_pass[::2], (0, 1))])
    scale = beta.view(-1, 1, 1, 1)  # beta x + sin(alpha x)^2 takes a pass less than x + sin(alpha x)^2 / beta
    up, down, angle = 2 * scale * kernel, kernel / scale, (alpha / beta).view(-1, 1, 1)
    reach = kernel.shape[1] - 1  # samples on each side of a tile, half of them of each convolution
    x = channels_together(x).mT
    out = torch.empty_like(x)
    size = max(_TILE, _TILE_VALUES * torch.get_num_threads() // (channels * len(x)))
    for begin in range(0, length, size):
        end = min(begin + size, length)
        if begin < reach or end + reach > length:
            tile = x.index_select(1, torch.arange(begin - reach, end + reach).clamp_(0, length - 1))
        else:
            tile = x[:, begin - reach : end + reach]
        y = F.conv2d(tile.to(kernel.dtype).mT.unsqueeze(2), up, None, (1, 1), (1, 0), (1, 1), channels)
        sine = torch.mul(y, angle).sin_()
        y.addcmul_(sine, sine)
        if begin == 0:
            y[..., : reach // 2] = y[:, :, :1, reach // 2, None]
        if end == length:
            y[..., -(reach // 2) :] = y[:, :, 1:, -(reach // 2) - 1, None]
        out[:, begin:end] = F.conv2d(y, down, None, (1, 1), (0, 0), (1, 1), channels).squeeze(2).mT
    return out.mT


@wrap_torch_function(lambda x, alpha: (x,))
def snake(x: Tensor, alpha: Tensor) -> Tensor:
    """Return x + sin(alpha x)^2 / alpha, of x (batch, channels, time) and alpha (channels,).

    Where no gradients are needed, all in one piece of memory: three fifths of the time (recipes.benchmarks.inference,
    HiFT). One operation for streams.
    """
    alpha = alpha[:, None]
    gain = 1 / (alpha + _TINY)
    if torch.is_grad_enabled() or torch.compiler.is_exporting():
        return x + torch.sin(alpha * x).square() * gain
    return (alpha * x).sin_().square_().mul_(gain).add_(x)


def large_memory(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return uninitialised memory for as many values as x has.

    NumPy asks Linux for huge pages for what is large, which are ready four times as fast (recipes.benchmarks.length).
    """
    return torch.from_numpy(np.empty(x.numel() * dtype.itemsize, np.uint8)).view(dtype).view(x.shape)


def set_up_memory() -> None:
    """Set what PyTorch's libraries keep in memory on a CPU, before they run a model.

    oneDNN keeps the kernels of 1024 operations, and an operation has another one for each length of a signal. With 256,
    enough for the largest model, memory stays bounded (recipes.benchmarks.length --memory). oneDNN reads the number
    from the environment at a process's first convolution.

    The C library of Linux returns large blocks to the system when they are freed, and faulting them in again took up to
    half of the time of a synthesis (recipes.benchmarks.inference). Freeing one of 32 MiB, the largest that counts,
    makes glibc keep them (M_MMAP_THRESHOLD in mallopt(3)), unless the environment sets a threshold.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    if sys.platform == "linux":
        torch.empty(2**25 - 2**16, dtype=torch.uint8)


def _is_small(x: Tensor) -> bool:
    """Whether oneDNN does not get convolutions of x; in exports, whose lengths are symbols, all are taken for large."""
    if x.device.type != "cpu" or torch.compiler.is_exporting():
        return False
    return x.shape[0] == 1 and x.numel() <= _SMALL


def _folded(block: Block) -> tuple[Affine, Affine]:
    """Return both pointwise layers, which hold the norm's affine transform and the scale gamma.

    Three passes less over x (recipes.benchmarks.inference, Wavehax).
    """
    weight, bias = block.pwconv2
    return block.norm.fold(block.pwconv1), Affine(block.gamma[:, None] * weight, block.gamma * bias)


def _mix(block: Block, x: Tensor, y: Tensor, first: Affine, second: Affine, out: Tensor | None = None) -> Tensor:
    """Return x plus the norm, both pointwise layers and the activation of y."""
    y = block.norm.standardize(y)
    if torch.compiler.is_exporting():
        return x + _mix_for_export(y, block.activation, first, second)
    return torch.add(x, _pointwise(block.activation(_pointwise(y, *first)), *second), out=out)


def _mix_for_export(y: Tensor, activation: nn.Module, first: Affine, second: Affine) -> Tensor:
    """Apply both pointwise layers and the activation by what ONNX Runtime has fast (recipes.benchmarks.exported).

    A convolution and a ReLU are one operation there, which does both while its values are in the cache. Other
    activations are operations of their own: with them matrix products, of two axes, which are one with their bias.
    """
    if isinstance(activation, nn.ReLU):
        y = activation(F.conv2d(y.permute(0, 3, 1, 2), first.weight[:, :, None, None], first.bias))
        return F.conv2d(y, second.weight[:, :, None, None], second.bias).permute(0, 2, 3, 1)
    rows = F.linear(activation(F.linear(y.flatten(0, 2), *first)), *second)
    return rows.unflatten(0, y.shape[:3])


def _convnext_in_tiles(block: Block, x: Tensor, out: Tensor) -> Tensor:
    """Evaluate a whole block a few frames at a time, see ``in_tiles``."""
    frames, size = x.shape[1], max(_TILE, block.dwconv.reach[0])
    tiles = [slice(begin, min(begin + size, frames)) for begin in range(0, frames, size)]
    first, second = _folded(block)
    if block.norm.framewise:
        for tile in tiles:
            y = _convolve_tile(block.dwconv, x, tile)
            _mix(block, x[:, tile], y, first, second, out=out[:, tile])
        return out

    def convolved() -> Iterator[Tensor]:
        for tile in tiles:
            out[:, tile] = y = _convolve_tile(block.dwconv, x, tile)
            yield y

    # What standardises an utterance goes into the weights as well.
    for i, layer in enumerate(block.norm.standardizing(first, convolved())):
        for tile in tiles:
            some = out[i : i + 1, tile]
            hidden = block.activation(_pointwise(some, *layer))
            torch.add(x[i : i + 1, tile], _pointwise(hidden, *second), out=some)
    return out


def _convolve_tile(conv: DepthwiseConv, x: Tensor, tile: slice) -> Tensor:
    """Return some frames of ``conv(x)``."""
    frames, bins = conv.reach
    begin, end = tile.start - frames, tile.stop + frames
    y = x[:, max(begin, 0) : end].permute(0, 3, 1, 2)
    edges = max(-begin, 0), max(end - x.shape[1], 0)
    if not conv.mirrors:
        y = F.pad(y, (0, 0, *edges)) if any(edges) else y
    elif y.shape[2] > max(edges) and y.shape[3] > bins:
        y = F.pad(y, (bins, bins, *edges), mode="reflect")
    else:
        y = reflect_pad(reflect_pad(y, *edges, 2), bins, bins, 3)
    return conv.convolve(y, (0, 0 if conv.mirrors else bins)).permute(0, 2, 3, 1)


def _moments(tiles: Iterable[Tensor], eps: float) -> tuple[Tensor, Tensor]:
    """Return mean and reciprocal standard deviation of each item, float64 (batch,), from parts of x along its frames.

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
    return mean, (variance + eps).rsqrt()


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a linear layer over the last axis of x (batch, frames, bins, channels).

    As a convolution, because oneDNN's reach twice the speed of MKL's matrix products on processors of AMD. Dilated,
    which means nothing for a kernel of 1, because PyTorch keeps plain ones of that size from oneDNN
    (recipes.benchmarks.inference, Wavehax).
    """
    if x.device.type != "cpu" or torch.compiler.is_exporting():
        return F.linear(x, weight, bias)
    y = F.conv2d(x.permute(0, 3, 1, 2), weight[:, :, None, None], bias, (1, 1), (0, 0), (2, 2), 1)
    return y.permute(0, 2, 3, 1)
