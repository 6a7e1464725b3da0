"""STFT in real arithmetic."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vocoders.dsp.stft import STFT
from vocoders.onnx.pairs import Pair
from vocoders.streaming.rules import as_operation, framing_arguments
from vocoders.streaming.states import Window


class RealSTFT(STFT):
    """STFT by products with cosines and sines; its spectrum is a ``Pair``.

    Around the middle of a frame a cosine is even and a sine odd, so each needs half a frame: the sum or difference of
    the frame and its mirror image. With n_fft divisible by 4, even and odd bins are again even or odd around a quarter.
    Folded twice, a transform takes a quarter of the multiplications, by four square matrices: cosines and sines of even
    and odd bins. Time is the last axis, so that folding moves and adds rows.

    The graph makes the matrices of one turn of cosine and sine when it is opened; stored, they would be much of the
    file.
    """

    cos: Tensor
    negative_sin: Tensor

    def __init__(self, stft: STFT) -> None:
        super().__init__(stft.n_fft, stft.hop_length, padding=stft.padding)
        self.window = stft.window
        circle = torch.arange(self.n_fft, dtype=torch.float64) * (2 * math.pi / self.n_fft)
        self.register_buffer("cos", circle.cos().float(), persistent=False)
        self.register_buffer("negative_sin", -circle.sin().float(), persistent=False)
        self.step = 2 if self.n_fft % 4 == 0 else 1  # from one bin of a matrix to the next
        self.size = self.n_fft // 2 // self.step + 1  # of a matrix

    def forward(self, audio: Tensor) -> Any:
        """Transform audio (..., samples), whole hops -> ``Pair`` (..., n_fft // 2 + 1, frames)."""
        frames = frame(self.pad_ends(audio), self.n_fft, self.hop_length) * self.window[:, None]
        seen: tuple[Tensor, ...] = fold(torch.cat([frames, frames[..., :1, :]], -2))  # a period from end to end
        if self.step == 2:
            even, odd = seen
            seen = *fold(even), *reversed(fold(odd))
        once = torch.tensor([0.5, *[1.0] * (self.size - 2), 0.5])  # the ends are added to themselves
        bins = (self._waves() * once) @ torch.stack(seen, -3).unflatten(-3, (2, self.step))
        bins = bins.transpose(-3, -2).flatten(-3, -2)[..., : self.n_fft // 2 + 1, :]
        return Pair(*bins.unbind(-3))

    def inverse(self, spectrum: Any) -> Tensor:
        """Return the audio (..., samples) of a ``Pair`` (..., n_fft // 2 + 1, frames)."""
        bins = F.pad(torch.stack([spectrum.real, spectrum.imag], -3), (0, 0, 0, self.step - 1))
        bins = bins.unflatten(-2, (self.size, self.step)).transpose(-3, -2)
        # A bin counts twice, for its mirror image; the first and last have none.
        counts = torch.tensor([1.0, *[2.0] * (self.n_fft // 2 - 1), 1.0, 0.0])[: self.size * self.step] / self.n_fft
        counts = counts.unflatten(0, (self.size, self.step)).T[..., None]
        parts = ((self._waves() * counts).mT @ bins).flatten(-4, -3).unbind(-3)
        if self.step == 2:
            even_cos, odd_cos, even_sin, odd_sin = parts
            parts = unfold(even_cos, odd_cos), unfold(odd_sin, even_sin)
        return self.join(unfold(*parts)[..., :-1, :].mT)

    def squares(self, frames: Tensor) -> Tensor:
        return torch.ones_like(frames[:, :1]) * self.window.square()  # a stream cannot expand to a length

    def _waves(self) -> Tensor:
        """Return cosines and negative sines, (2, step, bins, samples)."""
        n = torch.arange(self.size)
        bins = (self.step * n + torch.arange(self.step)[:, None])[..., None]
        turns = (bins * n).remainder(self.n_fft)
        return torch.stack([self.cos[turns], self.negative_sin[turns]])


@as_operation(Window, framing_arguments)
def frame(x: Tensor, size: int, step: int) -> Tensor:
    """Cut x (..., time) into whole windows (..., size, windows), ``step`` apart."""
    pieces = -(-size // step)
    steps = F.pad(x, (0, pieces * step - size)).unflatten(-1, (-1, step)).mT
    return torch.cat([steps[..., i : i + 1 - pieces or None] for i in range(pieces)], -2)[..., :size, :]


def fold(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return sum and difference of the halves of x (..., 2 m + 1, frames), one reversed: (..., m + 1, frames)."""
    middle = x.shape[-2] // 2
    first, second = x[..., : middle + 1, :], x[..., middle:, :].flip(-2)
    return first + second, first - second


def unfold(even: Tensor, odd: Tensor) -> Tensor:
    """Return even + odd, signals (..., 2 m + 1, frames) given by their first m + 1 rows."""
    return torch.cat([even + odd, (even - odd)[..., :-1, :].flip(-2)], -2)
