"""Blocks that two or more networks use. No architecture lives here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import wrap_torch_function

from vocoders.stft import reflect_pad


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
        return self.standardize(x) * self.weight + self.bias

    def standardize(self, x: Tensor) -> Tensor:
        """All but the affine transform."""
        return F.layer_norm(x, x.shape[2:] if self.framewise else x.shape[1:], eps=self.eps)

    def standardizer(self, x: Tensor) -> Callable[[Tensor], Tensor]:
        """What ``standardize`` does to x as a function of some of its frames; for norms over all frames."""
        mean = x.mean((1, 2, 3), keepdim=True)
        squares = [torch.linalg.vector_norm(y - mean, dim=(1, 2, 3), keepdim=True).square() for y in x.split(_TILE, 1)]
        scale = (torch.stack(squares).sum(0) / x[0].numel() + self.eps).rsqrt()
        return lambda y: (y - mean) * scale


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

    def forward(self, x: Tensor) -> Tensor:
        y = x.permute(0, 3, 1, 2)
        if self.padding_mode == "reflect":
            y = reflect_pad_2d(y, *self.reach)
        return self.mix(x, self.dwconv(y).permute(0, 2, 3, 1))

    @wrap_torch_function(lambda self, x, y: (x, y))
    def mix(self, x: Tensor, y: Tensor) -> Tensor:
        """x plus what the layers behind the depthwise convolution make of its result y."""
        # The norm's affine transform and the scale gamma go into the weights beside them: three passes less over what
        # is large.
        first = self.pwconv1.weight * self.norm.weight, self.pwconv1.bias + self.pwconv1.weight @ self.norm.bias
        second = self.gamma[:, None] * self.pwconv2.weight, self.gamma * self.pwconv2.bias
        if torch.is_grad_enabled() or torch.compiler.is_exporting():
            return x + pointwise(self.activation(pointwise(self.norm.standardize(y), *first)), *second)
        # A few frames at a time, which stay in the cache.
        standardize = self.norm.standardize if self.norm.framewise else self.norm.standardizer(y)
        for some_x, some_y in zip(x.split(_TILE, 1), y.split(_TILE, 1), strict=True):
            hidden = self.activation(pointwise(standardize(some_y), *first))
            torch.add(some_x, pointwise(hidden, *second), out=some_y)
        return y


_TILE = 32  # frames


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
