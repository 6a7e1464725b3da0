"""Complex Wavehax: Wavehax with complex weights (chomeyama/wavehax, 2025; paper: Yoneyama et al., arXiv 2411.06807).

Follows the public implementation (MIT), except that the norm does not divide by zero for nearly constant signals. The
norm whitens both parts together (Trabelsi et al. 2018, arXiv 1705.09792). The mel enters as a number with two equal
parts. All arithmetic is real, real parts before imaginary ones: (batch, frames, bins, 2 * channels).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.config import Channels, Config
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import reflect_pad
from vocoders.generators.wavehax import PROJECTION_KERNEL, WavehaxBase, WavehaxConfig
from vocoders.nn import fast
from vocoders.nn.fast import Affine
from vocoders.nn.layers import ConvNeXtBlocks2d


class ComplexWavehaxConfig(WavehaxConfig):
    """Sizes of complex Wavehax; the defaults are version 1."""

    channels: Channels = 16


class ComplexWavehax(WavehaxBase):
    """Complex Wavehax generator."""

    config_type = ComplexWavehaxConfig
    configs: ClassVar[dict[str, Config]] = {  # hop 240 at 24 kHz
        "v1": ComplexWavehaxConfig(),
        "v2": ComplexWavehaxConfig(channels=8, expansion=3, kernel_size=(13, 7)),
    }

    def __init__(self, config: ComplexWavehaxConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        bins = config.n_fft // 2 + 1
        self.prior_proj = ComplexConv1d(bins, bins)
        self.cond_proj = ComplexConv1d(mel_config.n_mels, bins)
        self.input_proj = ComplexLinear(3, config.channels, bias=False)
        self.input_norm = ComplexLayerNorm2d(config.channels, config.framewise_norm)
        self.blocks = ConvNeXtBlocks2d(*(ComplexConvNeXtBlock2d(config) for _ in range(config.blocks)))
        self.output_norm = ComplexLayerNorm2d(config.channels, config.framewise_norm)
        self.output_proj = ComplexLinear(config.channels, 1)

    def shape(self, real: Tensor, imaginary: Tensor, mel: Tensor) -> Tensor:
        projected, condition = self.prior_proj(real, imaginary), self.cond_proj(mel, mel)
        maps = [real, projected[0], condition[0], imaginary, projected[1], condition[1]]
        x = torch.stack([m.transpose(1, 2) for m in maps], dim=-1)  # (batch, frames, bins, 6)
        x = self.blocks(self.input_norm(self.input_proj(x)))
        spectrum: Tensor = self.output_proj(self.output_norm(x))
        return spectrum


class ComplexConv1d(nn.Module):
    """Complex convolution over time, reflection-padded."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = complex_weight(out_channels, in_channels, PROJECTION_KERNEL)
        self.bias = complex_bias(out_channels, in_channels * PROJECTION_KERNEL)

    def forward(self, real: Tensor, imaginary: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve both parts, each (batch, in_channels, frames)."""
        rr, ri = self._products(real)
        ir, ii = (rr, ri) if imaginary is real else self._products(imaginary)
        first, second = combined(self.bias).unflatten(0, (2, -1)).unsqueeze(-1)
        return rr - ii + first, ri + ir + second

    def _products(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve x with both parts of the weight."""
        reach = PROJECTION_KERNEL // 2
        real, imaginary = F.conv1d(reflect_pad(x, reach, reach), self.weight.flatten(0, 1)).chunk(2, 1)
        return real, imaginary


class ComplexLinear(nn.Module):
    """Complex linear layer."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = complex_weight(out_channels, in_channels)
        self.bias = complex_bias(out_channels, in_channels) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2 * in_channels) -> (..., 2 * out_channels)."""
        return F.linear(x, self.matrix(), None if self.bias is None else combined(self.bias))

    def matrix(self) -> Tensor:
        """Return the equal real weight, (2 * out_channels, 2 * in_channels)."""
        real, imaginary = self.weight
        return torch.cat([torch.cat([real, -imaginary], 1), torch.cat([imaginary, real], 1)])

    def affine(self) -> Affine:
        """Return the equal real layer."""
        assert self.bias is not None
        return Affine(self.matrix(), combined(self.bias))


class ComplexDepthwiseConv2d(nn.Module):
    """Complex depthwise convolution over frames and bins, reflection-padded."""

    def __init__(self, channels: int, kernel_size: tuple[int, int]) -> None:
        super().__init__()
        self.weight = complex_weight(channels, 1, *kernel_size[::-1])
        self.reach = (kernel_size[1] // 2, kernel_size[0] // 2)  # (frames, bins)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, bins, 2 * channels) -> the same shape."""
        return fast.depthwise_2d(x, self.convolve, self.reach, mirrors=True)

    def convolve(self, x: Tensor, padding: tuple[int, int]) -> Tensor:
        """Convolve (batch, 2 * channels, frames, bins), zero-padded."""
        (rr, ir), (ri, ii) = (
            F.conv2d(x, weight.repeat(2, 1, 1, 1), None, (1, 1), padding, (1, 1), x.shape[1]).chunk(2, 1)
            for weight in self.weight
        )
        return torch.cat([rr - ii, ri + ir], 1)


class ComplexLayerNorm2d(nn.Module):
    """Layer norm of complex numbers, (batch, frames, bins, 2 * channels) -> the same shape.

    Whitens both parts by the inverse square root of their 2 x 2 covariance; ``framewise`` as in ``LayerNorm2d``. As in
    the public code, the imaginary part is computed from the transformed real part.
    """

    def __init__(self, channels: int, framewise: bool, eps: float = 1e-6) -> None:
        super().__init__()
        self.framewise = framewise
        self.eps = eps
        weight = torch.zeros(3, channels)  # rr, ii, ri
        weight[:2] = math.sqrt(0.5)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(2, channels))

    def forward(self, x: Tensor) -> Tensor:
        if self.framewise or not fast.in_tiles(x):
            real, imaginary = self.standardize(x).chunk(2, -1)
            rr, ii, ri = self.weight
            real = rr * real + ri * imaginary + self.bias[0]
            return torch.cat([real, ri * real + ii * imaginary + self.bias[1]], -1)
        identity = self.fold(Affine(torch.eye(x.shape[-1]), torch.zeros(x.shape[-1])))
        return fast.norm_2d(x, partial(self.standardizing, identity), identity.weight.dtype)

    def standardize(self, x: Tensor) -> Tensor:
        """Whiten x."""
        real, imaginary = x.to(torch.promote_types(x.dtype, torch.float32)).chunk(2, -1)
        real, imaginary = real - self._mean(real), imaginary - self._mean(imaginary)
        products = (self._mean(a * b) for a, b in ((real, real), (imaginary, imaginary), (real, imaginary)))
        rr, ii, ri = self._inverse_root(*products)
        real = rr * real + ri * imaginary
        return torch.cat([real, ri * real + ii * imaginary], -1)

    def fold(self, layer: Affine) -> Affine:
        """Fold the affine transform into the next layer."""
        rr, ii, ri = self.weight
        real, imaginary = layer.weight.chunk(2, 1)
        bias = torch.cat([self.bias[0], ri * self.bias[0] + self.bias[1]])
        real = real + imaginary * ri
        return Affine(torch.cat([real * rr, real * ri + imaginary * ii], 1), layer.bias + layer.weight @ bias)

    def standardizing(self, layer: Affine, tiles: Iterable[Tensor]) -> Iterator[Affine]:
        """Yield per item ``layer`` with ``standardize`` folded in; tiles are frames of the batch."""
        means, covariances = _moments(tiles)
        weight, bias = (value.double() for value in layer)
        eye = torch.eye(weight.shape[1] // 2, dtype=torch.float64)
        for mean, covariance in zip(means, covariances, strict=True):
            rr, ii, ri = self._inverse_root(*covariance)
            whitening = torch.kron(torch.stack([rr, ri, ri * rr, ri * ri + ii]).view(2, 2), eye)
            scaled = weight @ whitening
            shifted = bias - scaled @ mean.repeat_interleave(len(eye))
            yield Affine(scaled.to(layer.weight.dtype), shifted.to(layer.bias.dtype))

    def _mean(self, x: Tensor) -> Tensor:
        x = x.mean((2, 3), keepdim=True)  # mean of means: ONNX Runtime's long sums lose digits
        return x if self.framewise else x.mean(1, keepdim=True)

    def _inverse_root(self, rr: Tensor, ii: Tensor, ri: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the inverse square root of [[rr, ri], [ri, ii]] (Trabelsi et al., section 3.5)."""
        rr, ii, ri = rr + self.eps, ii + self.eps, ri + self.eps
        root = (rr * ii - ri.square()).clamp_min(1e-3 * self.eps**2).sqrt()
        scale = 1 / (root * (rr + ii + 2 * root).sqrt())
        return (ii + root) * scale, (rr + root) * scale, -ri * scale


class ComplexConvNeXtBlock2d(nn.Module):
    """Complex ``ConvNeXtBlock2d``."""

    def __init__(self, config: WavehaxConfig) -> None:
        super().__init__()
        channels = config.channels
        self.dwconv = ComplexDepthwiseConv2d(channels, config.kernel_size)
        self.norm = ComplexLayerNorm2d(channels, config.framewise_norm)
        self.pwconv1 = ComplexLinear(channels, channels * config.expansion)
        self.pwconv2 = ComplexLinear(channels * config.expansion, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 1 / config.blocks))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, bins, 2 * channels) -> the same shape."""
        y = self.pwconv2(F.gelu(self.pwconv1(self.norm(self.dwconv(x)))))
        return x + self.gamma.repeat(2) * y

    def tensors(self) -> fast.Block:
        """Return the tensors of the fast path."""
        conv, norm = self.dwconv, self.norm
        first, second = norm.fold(self.pwconv1.affine()), fast.folded(self.pwconv2.affine(), self.gamma.repeat(2))
        standardizing = None if norm.framewise else norm.standardizing
        return fast.Block(conv.convolve, conv.reach, True, norm.standardize, standardizing, first, F.gelu, second)


def complex_weight(out_channels: int, in_channels: int, *kernel_size: int) -> nn.Parameter:
    """Draw a complex weight, (2, out_channels, in_channels, *kernel_size).

    Each kernel position is a random matrix with singular values sqrt(2 / (in + out)) (Trabelsi et al., section 3.6),
    in the memory order of the public code.
    """
    weight = torch.empty(2, out_channels, in_channels, *kernel_size)
    if not weight.is_meta:  # on "meta" PyTorch would import much for it
        matrix = torch.complex(*torch.rand(2, math.prod(kernel_size), in_channels, out_channels))
        u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
        unitary = torch.view_as_real((u @ vh).reshape(weight.shape[1:])).movedim(-1, 0)
        weight.copy_(math.sqrt(2 / (in_channels + out_channels)) * unitary)
    return nn.Parameter(weight)


def complex_bias(out_channels: int, fan_in: int) -> nn.Parameter:
    """Draw biases (2, out_channels) as PyTorch does."""
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(2, out_channels).uniform_(-bound, bound))


def combined(bias: Tensor) -> Tensor:
    """Return the biases (2, channels) as added to both parts, joined."""
    return torch.cat([bias[0] - bias[1], bias[0] + bias[1]])


def _moments(tiles: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Compute means (batch, 2) and covariances (batch, 3), float64 (Chan et al. 1979, eq. 2.1, 5.3)."""
    counts, means, products = [], [], []
    for tile in tiles:
        parts = tile.float().unflatten(-1, (2, -1))
        means.append(parts.mean((1, 2, 4)))
        real, imaginary = (parts - means[-1][:, None, None, :, None]).unbind(3)
        pairs = ((real, real), (imaginary, imaginary), (real, imaginary))
        products.append(torch.stack([(a * b).mean((1, 2, 3)) for a, b in pairs], 1))
        counts.append(real[0].numel())
    share = torch.tensor(counts, dtype=torch.float64)[:, None, None] / sum(counts)
    parts_means = torch.stack(means).double()
    mean = (share * parts_means).sum(0)
    real, imaginary = (parts_means - mean).unbind(-1)
    between = torch.stack([real * real, imaginary * imaginary, real * imaginary], -1)
    return mean, (share * (torch.stack(products).double() + between)).sum(0)
