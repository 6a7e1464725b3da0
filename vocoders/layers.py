"""Blocks that two or more networks use. No architecture lives here."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        x = F.layer_norm(x, x.shape[2:] if self.framewise else x.shape[1:], eps=self.eps)
        return x * self.weight + self.bias


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
        y = x
        if self.padding_mode == "reflect":
            for dim, reach in zip((1, 2), self.reach, strict=True):
                y = reflect_pad(y, reach, reach, dim)
        y = self.dwconv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y = self.pwconv2(self.activation(self.pwconv1(self.norm(y))))
        return x + self.gamma * y
