"""Fast versions of the layers in layers.py, equal apart from rounding; functions of tensors.

oneDNN convolves fastest in the channels_last format. Fresh memory, or memory beyond the cache, costs more than the
arithmetic. Each function names the benchmark that shows its gain.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import wrap_torch_function

from vocoders.dsp.stft import reflect_pad

_TILE = 64  # frames
TINY = 1e-9
_TILE_VALUES = 131_072  # for each thread: 0.5 MiB, twice that at twice the rate
_LONG_TILE = 2**20  # values: 4 MiB; below, a convolution's fixed cost counts
_LONGEST_TILE = 2**15  # columns: beyond, oneDNN's kernels for few channels take megabytes
_TILES_PER_REACH = 64  # at most a thirty-second of a tile's columns is computed twice
_SMALL = 20_480  # values: PyTorch gives oneDNN no smaller convolution of a single item


class Affine(NamedTuple):
    """A pointwise layer."""

    weight: Tensor
    bias: Tensor


Function = Callable[[Tensor], Tensor]


class Block(NamedTuple):
    """A ConvNeXt block over time and frequency, as tensors and functions."""

    convolve: Callable[[Tensor, tuple[int, int]], Tensor]
    """Convolves (batch, channels, frames, bins) with this many zeros around frames and bins."""
    reach: tuple[int, int]
    """Frames and bins on each side that the convolution covers."""
    mirrors: bool
    """Whether ends are mirrored; else zeros."""
    standardize: Function
    """Standardises (batch, frames, bins, channels), without affine transform."""
    standardizing: Callable[[Affine, Iterable[Tensor]], Iterable[Affine]] | None
    """Folds the standardisation of a whole utterance, given in tiles, into a layer per item; None if framewise."""
    first: Affine
    """With the norm's affine transform."""
    activation: Function
    second: Affine
    """With gamma."""


def folds(parameter: Tensor) -> bool:
    """Whether this file evaluates blocks with this parameter: on CPU, and on GPUs of NVIDIA or AMD.

    On a GPU only the folded weights help, which save passes over memory (recipes.benchmarks.training_step).
    """
    return parameter.device.type in ("cpu", "cuda")


def in_tiles(x: Tensor) -> bool:
    """Whether to process x a few frames at a time, so that they stay in the cache through a block.

    It halves the time of a minute of Wavehax. Not with gradients, which keep everything, nor in exports and streams,
    where each operation counts.
    """
    if type(x) is not Tensor or x.device.type != "cpu":
        return False
    return not (torch.is_grad_enabled() or torch.compiler.is_exporting())


def convnext_blocks_2d(x: Tensor, blocks: Sequence[Block]) -> Tensor:
    """Evaluate blocks in sequence, (batch, frames, bins, channels) -> the same shape.

    Each block reuses the memory of the block before the last: first use of large memory is slow.
    """
    if not in_tiles(x):
        for block in blocks:
            x = convnext_tail(block, x, depthwise_2d(x, block.convolve, block.reach, block.mirrors))
        return x
    spare = None
    for i, block in enumerate(blocks):
        out = large_memory(x, x.dtype) if spare is None else spare
        x, spare = _convnext_in_tiles(block, x, out), (None if i == 0 else x)  # the first x is the caller's
    return x


@wrap_torch_function(lambda block, x, y: (x, y))
def convnext_tail(block: Block, x: Tensor, y: Tensor) -> Tensor:
    """Return x plus the rest of a block on ``y``, its depthwise convolution; y may be overwritten.

    One operation for streams, where many small ones are slow (recipes.benchmarks.streaming).
    """
    if not in_tiles(x):
        return _mix(block, x, y)
    for some_x, some_y in zip(x.split(_TILE, 1), y.split(_TILE, 1), strict=True):
        _mix(block, some_x, some_y, out=some_y)
    return y


def depthwise_2d(
    x: Tensor, convolve: Callable[[Tensor, tuple[int, int]], Tensor], reach: tuple[int, int], mirrors: bool
) -> Tensor:
    """Convolve (batch, frames, bins, channels) by channel -> the same shape; arguments as in ``Block``."""
    y = x.permute(0, 3, 1, 2)
    y = convolve(reflect_pad_2d(y, *reach), (0, 0)) if mirrors else convolve(y, reach)
    return y.permute(0, 2, 3, 1)


@wrap_torch_function(lambda x, *_: (x,))
def reflect_pad_2d(x: Tensor, frames: int, bins: int) -> Tensor:
    """Mirror both ends of the last two axes of (batch, channels, frames, bins), see ``reflect_pad``."""
    if not torch.compiler.is_exporting() and x.shape[2] > frames and x.shape[3] > bins:
        return F.pad(x, (bins, bins, frames, frames), mode="reflect")
    x = x.permute(0, 2, 3, 1)  # channels last: copies are contiguous
    x = reflect_pad(x, frames, frames, 1) if frames else x  # a stream has mirrored the frames already
    return reflect_pad(x, bins, bins, 2).permute(0, 3, 1, 2)


def layer_norm_2d(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise x (batch, frames, bins, channels) over all but the batch, in tiles."""
    mean, scale = (y.view(-1, 1, 1, 1) for y in _moments(x.split(_TILE, 1), eps))
    gain = (scale * weight).to(weight.dtype)
    shift = (bias - mean * gain).to(weight.dtype)
    out = large_memory(x, weight.dtype)
    for some_x, some in zip(x.split(_TILE, 1), out.split(_TILE, 1), strict=True):
        torch.addcmul(shift, some_x, gain, out=some)
    return out


def standardizing(layer: Affine, tiles: Iterable[Tensor], eps: float) -> Iterator[Affine]:
    """Yield for each item ``layer`` with the item's mean and standard deviation over all tiles folded in."""
    weight, bias = layer
    for mean, scale in zip(*_moments(tiles, eps), strict=True):
        scaled = (weight * scale).to(weight.dtype)
        yield Affine(scaled, (bias - scaled.double().sum(1) * mean).to(bias.dtype))


def norm_2d(x: Tensor, layers: Callable[[Iterable[Tensor]], Iterable[Affine]], dtype: torch.dtype) -> Tensor:
    """Apply a norm over all but the batch to x (batch, frames, bins, channels), in tiles.

    ``layers`` makes a layer in ``dtype`` for each item from the tiles.
    """
    out = large_memory(x, dtype)
    for item, some, own in zip(x.split(1), out.split(1), layers(x.split(_TILE, 1)), strict=True):
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
    """Compute ``F.conv1d`` as a 2-D convolution in the channels_last format, oneDNN's fastest.

    The result (batch, channels, time) keeps channels together in memory, as do elementwise operations, so a network
    copies only its first input (recipes.benchmarks.inference, HiFi-GAN). Short pieces of a stream are faster unchanged
    (recipes.benchmarks.streaming).
    """
    if _is_small(x):
        return F.conv1d(x, weight, bias, stride, padding, dilation, groups)
    y = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    spread = (1, *dilation) if weight.shape[2] > 1 else (2, 2)  # see ``_pointwise``
    y = F.conv2d(y, weight.unsqueeze(2), bias, (1, *stride), (0, *padding), spread, groups)
    return y.contiguous(memory_format=torch.channels_last).squeeze(2)


@wrap_torch_function(lambda x: (x,))
def channels_together(x: Tensor) -> Tensor:
    """Return x (batch, channels, time) in the layout of ``conv1d``, once for several layers."""
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
    """Compute ``F.conv_transpose1d`` in the layout of ``conv1d``."""
    if _is_small(x):
        return F.conv_transpose1d(x, weight, bias, stride, padding, output_padding, groups, dilation)
    y = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    settings = ((1, *stride), (0, *padding), (0, *output_padding), groups, (1, *dilation))
    y = F.conv_transpose2d(y, weight.unsqueeze(2), bias, *settings)
    return y.contiguous(memory_format=torch.channels_last).squeeze(2)


def by_tiles(function: Callable[[Tensor], Tensor], x: Tensor, reach: int) -> Tensor:
    """Return ``function(x)``, x (batch, channels, time) -> the same shape, tile by tile; ``reach`` columns overlap on
    each side.

    Intermediate results are then no longer than a tile: a third of the memory of HiFi-GAN V1
    (recipes.benchmarks.inference). Tiles have few lengths, because oneDNN keeps a kernel for each
    (recipes.benchmarks.inference --memory).
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
    """Compute ``alias_free.alias_free_snake`` without the zeros that its upsampling inserts.

    Even and odd samples at twice the rate are two rows, computed and summed by depthwise convolutions with a kernel of
    two rows, each half of the symmetric filter. In the layout of ``conv1d``, in tiles that fit the cache
    (recipes.benchmarks.inference, BigVGAN).
    """
    channels, length = x.shape[1:]
    kernel = torch.stack([F.pad(low_pass[1::2], (1, 0)), F.pad(low_pass[::2], (0, 1))])
    scale = beta.view(-1, 1, 1, 1)  # beta x + sin(alpha x)^2 takes one pass less
    up, down, angle = 2 * scale * kernel, kernel / scale, (alpha / beta).view(-1, 1, 1)
    reach = kernel.shape[1] - 1  # samples on each side of a tile, half per convolution
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


def snake(x: Tensor, alpha: Tensor) -> Tensor:
    """Compute ``layers.snake`` in one piece of memory: three fifths of the time (recipes.benchmarks.inference)."""
    alpha = alpha[:, None]
    return (alpha * x).sin_().square_().mul_(1 / (alpha + TINY)).add_(x)


def large_memory(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Return uninitialised memory for as many values as x has.

    NumPy asks Linux for huge pages for large arrays, which are ready four times as fast.
    """
    return torch.from_numpy(np.empty(x.numel() * dtype.itemsize, np.uint8)).view(dtype).view(x.shape)


def set_up_memory() -> None:
    """Configure the memory that PyTorch's libraries keep on a CPU, before they run a model.

    oneDNN keeps 1024 kernels, one per operation and length; 256 suffice and bound the memory
    (recipes.benchmarks.inference --memory). It reads the variable at a process's first convolution.

    glibc returns large freed blocks to the system; faulting them in again took up to half the time of a synthesis
    (recipes.benchmarks.inference). Freeing 32 MiB, the largest that counts, makes it keep them (M_MMAP_THRESHOLD in
    mallopt(3)), unless the environment sets a threshold.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "256")
    if sys.platform == "linux":
        torch.empty(2**25 - 2**16, dtype=torch.uint8)


def _is_small(x: Tensor) -> bool:
    """Whether oneDNN does not get convolutions of x; in exports, with symbolic lengths, none is small."""
    if x.device.type != "cpu" or torch.compiler.is_exporting():
        return False
    return x.shape[0] == 1 and x.numel() <= _SMALL


def folded(layer: Affine, gamma: Tensor) -> Affine:
    """Return ``layer`` with the scale gamma folded in, which saves a pass (recipes.benchmarks.inference, Wavehax)."""
    return Affine(gamma[:, None] * layer.weight, gamma * layer.bias)


def _mix(block: Block, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    """Return x plus norm, pointwise layers and activation of y."""
    y = block.standardize(y)
    if torch.compiler.is_exporting():
        return x + _mix_for_export(block, y)
    return torch.add(x, _pointwise(block.activation(_pointwise(y, *block.first)), *block.second), out=out)


def _mix_for_export(block: Block, y: Tensor) -> Tensor:
    """Apply both pointwise layers and the activation as is fast in ONNX Runtime (recipes.benchmarks.inference).

    It fuses a convolution with ReLU. For other activations, 2-D matrix products with a fused bias are faster.
    """
    first, activation, second = block.first, block.activation, block.second
    if activation is F.relu:
        y = activation(F.conv2d(y.permute(0, 3, 1, 2), first.weight[:, :, None, None], first.bias))
        return F.conv2d(y, second.weight[:, :, None, None], second.bias).permute(0, 2, 3, 1)
    rows = F.linear(activation(F.linear(y.flatten(0, 2), *first)), *second)
    return rows.unflatten(0, y.shape[:3])


def _convnext_in_tiles(block: Block, x: Tensor, out: Tensor) -> Tensor:
    """Evaluate a block a few frames at a time, see ``in_tiles``."""
    frames, size = x.shape[1], max(_TILE, block.reach[0])
    tiles = [slice(begin, min(begin + size, frames)) for begin in range(0, frames, size)]
    if block.standardizing is None:
        for tile in tiles:
            _mix(block, x[:, tile], _convolve_tile(block, x, tile), out=out[:, tile])
        return out

    def convolved() -> Iterator[Tensor]:
        for tile in tiles:
            out[:, tile] = y = _convolve_tile(block, x, tile)
            yield y

    # The standardisation of an utterance is folded into the weights.
    for i, layer in enumerate(block.standardizing(block.first, convolved())):
        for tile in tiles:
            some = out[i : i + 1, tile]
            hidden = block.activation(_pointwise(some, *layer))
            torch.add(x[i : i + 1, tile], _pointwise(hidden, *block.second), out=some)
    return out


def _convolve_tile(block: Block, x: Tensor, tile: slice) -> Tensor:
    """Return some frames of the depthwise convolution."""
    frames, bins = block.reach
    begin, end = tile.start - frames, tile.stop + frames
    y = x[:, max(begin, 0) : end].permute(0, 3, 1, 2)
    edges = max(-begin, 0), max(end - x.shape[1], 0)
    if not block.mirrors:
        y = F.pad(y, (0, 0, *edges)) if any(edges) else y
    elif y.shape[2] > max(edges) and y.shape[3] > bins:
        y = F.pad(y, (bins, bins, *edges), mode="reflect")
    else:
        y = reflect_pad(reflect_pad(y, *edges, 2), bins, bins, 3)
    return block.convolve(y, (0, 0 if block.mirrors else bins)).permute(0, 2, 3, 1)


def _moments(tiles: Iterable[Tensor], eps: float) -> tuple[Tensor, Tensor]:
    """Return mean and 1 / deviation per item, float64 (batch,), from tiles (Chan et al. 1979, eq. 2.1)."""
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

    As a convolution, because oneDNN's are twice as fast as MKL's matrix products on AMD processors. The dilation has no
    effect on a kernel of 1, but keeps PyTorch from bypassing oneDNN (recipes.benchmarks.inference, Wavehax).
    """
    if x.device.type != "cpu" or torch.compiler.is_exporting():
        return F.linear(x, weight, bias)
    y = F.conv2d(x.permute(0, 3, 1, 2), weight[:, :, None, None], bias, (1, 1), (0, 0), (2, 2), 1)
    return y.permute(0, 2, 3, 1)
