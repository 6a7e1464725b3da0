"""Layers that several networks use, as the papers define them; fast.py has faster versions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import wrap_torch_function

from vocoders.dsp.stft import full_precision, reflect_pad
from vocoders.nn import fast


class Standardize(nn.Module):
    """(mel - mean) / scale in each band, (batch, n_mels, frames).

    Attributes:
        mean: mean of the training data, (n_mels, 1); 0 unless set.
        scale: standard deviation, (n_mels, 1); 1 unless set.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, n_mels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_mels, 1))
        self.register_buffer("scale", torch.ones(n_mels, 1))

    def forward(self, mel: Tensor) -> Tensor:
        """Return the standardised mel."""
        return (mel - self.mean) / self.scale

    def fit(self, mel: Tensor) -> None:
        """Take mean and standard deviation of ``mel`` (batch, n_mels, frames)."""
        self.mean.copy_(mel.mean((0, 2))[:, None])
        self.scale.copy_(mel.std((0, 2)).clamp_min(1e-3)[:, None])


class Conv1d(nn.Conv1d):
    """``nn.Conv1d`` in the fastest layout, see ``fast.conv1d``.

    Padding is a number; its mode is "zeros", or "reflect" for signals of any length.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, time) -> (batch, out_channels, time)."""
        padding = self.padding
        assert not isinstance(padding, str)
        if self.padding_mode == "reflect":
            # Transposed, so that whole columns are copied in the layout of fast.conv1d.
            x, padding = reflect_pad(x.transpose(1, 2), padding[0], padding[0], 1).transpose(1, 2), (0,)
        return fast.conv1d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def depends_on(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and last input of the outputs ``first`` to ``last``."""
        assert not isinstance(self.padding, str)
        return self._depends_on(first, last, self.padding[0])

    def _depends_on(self, first: int, last: int, left: int) -> tuple[int, int]:
        (stride,), (kernel_size,), (dilation,) = self.stride, self.kernel_size, self.dilation
        return first * stride - left, last * stride - left + (kernel_size - 1) * dilation


class PaddedConv1d(Conv1d):
    """A ``Conv1d`` with its own number of zeros at each end: ``pads``, before and after."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        pads: tuple[int, int],
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        even = pads[0] if pads[0] == pads[1] else 0
        super().__init__(in_channels, out_channels, kernel_size, stride, even, dilation)
        self.pads = pads

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, time) -> (batch, out_channels, time)."""
        if self.pads[0] != self.pads[1]:
            x = F.pad(x.transpose(1, 2), (0, 0, *self.pads)).transpose(1, 2)  # keeps channels together
        return super().forward(x)

    def depends_on(self, first: int, last: int) -> tuple[int, int]:
        return self._depends_on(first, last, self.pads[0])


class ConvTranspose1d(nn.ConvTranspose1d):
    """``nn.ConvTranspose1d`` in the fastest layout, see ``fast.conv1d``."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(batch, in_channels, time) -> (batch, out_channels, time * stride + ...)."""
        assert output_size is None
        assert not isinstance(self.padding, str)
        settings = (self.stride, self.padding, self.output_padding, self.groups, self.dilation)
        return fast.conv_transpose1d(x, self.weight, self.bias, *settings)

    def depends_on(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and last input of the outputs ``first`` to ``last``."""
        assert not isinstance(self.padding, str)
        (rate,), (kernel_size,), (padding,) = self.stride, self.kernel_size, self.padding
        # Input m reaches the outputs m * rate - padding + (0 ... kernel_size - 1).
        return -((kernel_size - 1 - first - padding) // rate), (last + padding) // rate


class HarmonicSource(nn.Module):
    """Sines at multiples of F0 plus noise, mixed to one signal (Wang et al. 2019, arXiv 1904.12088).

    tanh(weight . (amplitude * sines where voiced + noise) + bias). Public implementations draw noise for each sine;
    their weighted sum is distributed as one draw times the norm of the weights.
    """

    initial_phases: Tensor

    def __init__(
        self,
        initial_phases: Sequence[float],
        amplitude: float = 0.1,
        noise_deviation: float = 0.003,
        as_uniform: bool = False,
    ) -> None:
        """Make a source.

        Args:
            initial_phases: one per sine, the first at F0, in cycles.
            amplitude: amplitude of the sines; a third of it is the noise deviation where unvoiced.
            noise_deviation: noise deviation where voiced.
            as_uniform: give the noise mean and deviation of uniform draws in (0, 1), times those above.
        """
        super().__init__()
        # A buffer: a tensor made in each pass would be copied to the GPU in each pass.
        phases = torch.from_numpy(np.array(initial_phases, np.float32))
        self.register_buffer("initial_phases", phases, persistent=False)
        self.amplitude = amplitude
        self.noise_deviation = noise_deviation
        self.as_uniform = as_uniform
        self.linear = nn.Linear(len(initial_phases), 1)

    def forward(self, cycles: Tensor, voiced: Tensor, noise: Tensor) -> Tensor:
        """Compute the source: float32 (batch, 1, samples) in (-1, 1).

        Args:
            cycles: phase of the first sine at each sample, float64 (batch, 1, frames, samples of a frame).
            voiced: bool (batch, 1, frames).
            noise: (batch, 1, samples), standard normal.
        """
        with full_precision(noise):
            weight, bias = self.linear.weight[0].float(), self.linear.bias.float()
            turns = (cycles - cycles.round()).float().to(noise.device)
            number = torch.arange(1, len(weight) + 1, device=turns.device)
            angles = turns.unsqueeze(-1) * number + self.initial_phases
            sines = torch.sin(2 * math.pi * angles)  # (batch, 1, frames, samples of a frame, sines)
            voiced = voiced.unsqueeze(-1)

            def where_voiced(value: float, otherwise: float) -> Tensor:
                return torch.where(voiced, turns.new_full((), value), turns.new_full((), otherwise))  # float32

            harmonics = where_voiced(self.amplitude, 0.0) * (sines * weight).sum(-1)
            deviation = where_voiced(self.noise_deviation, self.amplitude / 3)
            deviation = deviation.expand(-1, -1, -1, turns.shape[-1]).flatten(-2)
            noise = weight.norm() * noise.float()
            if self.as_uniform:
                noise = weight.sum() / 2 + noise / math.sqrt(12)
            return torch.tanh(harmonics.flatten(-2) + deviation * noise + bias)


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha, one alpha per channel (Ziyin et al. 2020, arXiv 2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, time) -> the same shape."""
        return snake(x, self.alpha)


class ConvNeXtBlock1d(nn.Module):
    """ConvNeXt block over time (Liu et al. 2022, arXiv 2201.03545; over time as in Vocos, arXiv 2306.00814).

    (batch, channels, frames) -> the same shape. Zero padding, layer norm over channels, GELU.
    """

    def __init__(
        self,
        channels: int,
        expansion: int,
        kernel_size: int,
        scale: float,
        eps: float = 1e-5,
        conv: type[nn.Conv1d] = nn.Conv1d,
    ) -> None:
        """Make a block.

        Args:
            channels: channels of input and output.
            expansion: factor of channels between the pointwise layers.
            kernel_size: frames, odd.
            scale: initial gamma.
            eps: added to the variance in the layer norm.
            conv: ``Conv1d`` where all layers keep channels together in memory, as the pointwise layers want.
        """
        super().__init__()
        self.dwconv = conv(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=eps)
        self.pwconv1 = nn.Linear(channels, channels * expansion)
        self.activation = nn.GELU()
        self.pwconv2 = nn.Linear(channels * expansion, channels)
        self.gamma = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, frames) -> the same shape."""
        y = self.dwconv(x).transpose(1, 2)
        y = self.pwconv2(self.activation(self.pwconv1(self.norm(y))))
        return x + (self.gamma * y).transpose(1, 2)


class LayerNorm2d(nn.Module):
    """Layer norm of (batch, frames, bins, channels) over (bins, channels), and over frames unless ``framewise``.

    Framewise norms bound the receptive field; else each output depends on the whole utterance. The affine transform is
    per channel.
    """

    def __init__(self, channels: int, framewise: bool, eps: float = 1e-6) -> None:
        super().__init__()
        self.framewise = framewise
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, bins, channels) -> the same shape."""
        if self.framewise or not fast.in_tiles(x):
            return self.standardize(x) * self.weight + self.bias
        return fast.layer_norm_2d(x, self.weight, self.bias, self.eps)

    def standardize(self, x: Tensor) -> Tensor:
        """Return (x - mean) / sqrt(variance + eps)."""
        return F.layer_norm(x, x.shape[2:] if self.framewise else x.shape[1:], eps=self.eps)

    def fold(self, layer: fast.Affine) -> fast.Affine:
        """Return ``layer`` with the affine transform folded in."""
        weight, bias = layer
        return fast.Affine(weight * self.weight, bias + weight @ self.bias)

    @property
    def standardizing(self) -> Callable[[fast.Affine, Iterable[Tensor]], Iterable[fast.Affine]] | None:
        """Return how to fold ``standardize`` into a layer, see ``fast.Block``."""
        return None if self.framewise else partial(fast.standardizing, eps=self.eps)


class DepthwiseConv2d(nn.Conv2d):
    """Depthwise convolution over frames and bins.

    (batch, frames, bins, channels) -> the same shape. With channels last, pointwise layers are matrix products, a norm
    is one fused call, and the convolution gets the channels_last format.
    """

    def __init__(self, channels: int, kernel_size: tuple[int, int], padding_mode: Literal["reflect", "zeros"]) -> None:
        """Make a layer with ``kernel_size`` (bins, frames), as Wavehax writes it."""
        super().__init__(channels, channels, kernel_size[::-1], groups=channels, bias=False)
        self.reach = (kernel_size[1] // 2, kernel_size[0] // 2)  # (frames, bins) on each side
        self.mirrors = padding_mode == "reflect"

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, bins, channels) -> the same shape."""
        return fast.depthwise_2d(x, self.convolve, self.reach, self.mirrors)

    def convolve(self, x: Tensor, padding: tuple[int, int]) -> Tensor:
        """Convolve (batch, channels, frames, bins) with this many zeros around it."""
        return F.conv2d(x, self.weight, None, (1, 1), padding, (1, 1), x.shape[1])


class ConvNeXtBlock2d(nn.Module):
    """ConvNeXt block over time and frequency, (batch, frames, bins, channels) -> the same shape.

    As in Wavehax (Yoneyama et al. 2024, arXiv 2411.06807).
    """

    def __init__(
        self,
        channels: int,
        expansion: int,
        kernel_size: tuple[int, int],
        scale: float,
        framewise: bool = True,
        activation: Callable[[Tensor], Tensor] = F.gelu,
        padding_mode: Literal["reflect", "zeros"] = "reflect",
    ) -> None:
        """Make a block.

        Args:
            channels: channels of input and output.
            expansion: factor of channels between the pointwise layers.
            kernel_size: (bins, frames), both odd.
            scale: initial gamma.
            framewise: see ``LayerNorm2d``.
            activation: the nonlinearity.
            padding_mode: of the depthwise convolution.
        """
        super().__init__()
        self.dwconv = DepthwiseConv2d(channels, kernel_size, padding_mode)
        self.norm = LayerNorm2d(channels, framewise)
        self.pwconv1 = nn.Linear(channels, channels * expansion)
        self.activation = activation
        self.pwconv2 = nn.Linear(channels * expansion, channels)
        self.gamma = nn.Parameter(torch.full((channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, bins, channels) -> the same shape."""
        if not fast.folds(self.gamma):
            return x + self.gamma * self.pwconv2(self.activation(self.pwconv1(self.norm(self.dwconv(x)))))
        return fast.convnext_blocks_2d(x, [self.tensors()])

    def tensors(self) -> fast.Block:
        """Return the block for the fast path."""
        conv, norm = self.dwconv, self.norm
        first, second = (fast.Affine(layer.weight, layer.bias) for layer in (self.pwconv1, self.pwconv2))
        settings = conv.convolve, conv.reach, conv.mirrors, norm.standardize, norm.standardizing
        return fast.Block(*settings, norm.fold(first), self.activation, fast.folded(second, self.gamma))


class ConvNeXtBlocks2d(nn.Sequential):
    """Blocks in sequence, each with ``gamma`` and ``tensors()`` as ``ConvNeXtBlock2d``."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, bins, channels) -> the same shape."""
        blocks: list[Any] = list(self)
        if not fast.folds(blocks[0].gamma):
            return super().forward(x)
        return fast.convnext_blocks_2d(x, [block.tensors() for block in blocks])


@wrap_torch_function(lambda x, alpha: (x,))
def snake(x: Tensor, alpha: Tensor) -> Tensor:
    """Return x + sin(alpha x)^2 / alpha, x (batch, channels, time), alpha (channels,); one operation for streams."""
    if torch.is_grad_enabled() or torch.compiler.is_exporting():
        return x + torch.sin(alpha[:, None] * x).square() * (1 / (alpha[:, None] + fast.TINY))
    return fast.snake(x, alpha)


@wrap_torch_function(lambda x, *_: (x,))
def trim(x: Tensor, left: int, right: int) -> Tensor:
    """Cut both ends off the last axis."""
    return x[..., left : x.shape[-1] - right]
