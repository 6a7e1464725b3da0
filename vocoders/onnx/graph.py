"""The graph that is exported: a model from mel to audio in real arithmetic and in operators that ONNX Runtime has.

Inputs of the graph; a model has those that it needs:

    mel     float32 (batch, n_mels, frames), in the mel config of the metadata
    f0      float32 (batch, 1, frames), Hz, 0 = unvoiced; where it is negative the model estimates it from the mel
    noise   float32 (batch, 1, frames * hop_length), standard normal
    phase   float64 (batch, 1, 1), in cycles: phase of the first harmonic at the first sample

and its outputs:

    audio   float32 (batch, 1, frames * hop_length)
    used_f0 float32 (batch, 1, frames): F0 as given or estimated; only of models that estimate it

So a program can synthesise in chunks that join exactly: it gives the graph each chunk with its context, the F0 that is
known already and the phase that follows from it. ``vocoders/onnx/vocoder.py`` does so.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.checkpoint import Checkpoint
from vocoders.dsp.stft import STFT, reflect_pad
from vocoders.f0_estimator import F0Estimator
from vocoders.nn.layers import LayerNorm2d


class RealSTFT(STFT):
    """STFT by convolutions with sines and cosines, which gives the same numbers as a Fourier transform.

    ONNX has no complex numbers. The exporter replaces them by pairs of real numbers, except in the transform.
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, stft: STFT) -> None:
        super().__init__(stft.n_fft, stft.hop_length, padding=stft.padding)
        self.window = stft.window
        window, bins = stft.window.double(), stft.n_fft // 2 + 1
        forward = torch.fft.rfft(torch.diag(window)).T  # (bins, n_fft)
        units = torch.eye(bins, dtype=torch.complex128)
        backward = torch.cat([torch.fft.irfft(unit, n=stft.n_fft) for unit in (units, 1j * units)]) * window
        self.register_buffer("analysis", torch.cat([forward.real, forward.imag])[:, None].float())
        self.register_buffer("synthesis", backward[:, None].float())

    def forward(self, audio: Tensor) -> Tensor:
        left, right = self.pad
        audio = F.pad(audio, (left, right)) if self.padding == "same-zeros" else reflect_pad(audio, left, right)
        signals, shape = audio.reshape(-1, 1, audio.shape[-1]), audio.shape[:-1]
        parts = F.conv1d(signals, self.analysis, stride=self.hop_length).unflatten(1, (2, -1))
        spectrum = torch.view_as_complex(parts.permute(0, 2, 3, 1).contiguous())
        return spectrum.reshape(*shape, *spectrum.shape[1:])

    def inverse(self, spectrum: Tensor) -> Tensor:
        shape = spectrum.shape[:-2]
        parts = torch.view_as_real(spectrum.reshape(-1, *spectrum.shape[-2:])).permute(0, 3, 1, 2).flatten(1, 2)
        audio = F.conv_transpose1d(parts, self.synthesis, stride=self.hop_length)
        power = self.window.square()[None, None]
        envelope = F.conv_transpose1d(torch.ones_like(parts[:1, :1]), power, stride=self.hop_length)
        left, right = self.pad
        inside = slice(left, audio.shape[-1] - right)
        return (audio[..., inside] / envelope[..., inside].clamp_min(1e-8)).reshape(*shape, -1)


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

    def forward(self, x: Tensor) -> Tensor:
        weight, frames, taps = self.conv.weight, x.shape[-1], self.conv.kernel_size[0]
        x = F.pad(x, (taps // 2, taps // 2))
        parts = [x[..., k : k + frames] for k in range(taps)]
        if self.conv.groups == 1:
            products = [weight[..., k] @ part for k, part in enumerate(parts)]
        else:
            products = [weight[..., k] * part for k, part in enumerate(parts)]
        bias = self.conv.bias
        assert bias is not None
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


def in_float64(estimator: F0Estimator) -> F0Estimator:
    """Copy an F0 estimator in float64, as ``Vocoder`` runs it, built of operators that ONNX Runtime has in float64."""
    estimator, gelu = copy.deepcopy(estimator).cpu().eval().double(), TabulatedGELU()
    for module in list(estimator.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv1d):
                setattr(module, name, MatrixConv1d(child))
            elif isinstance(child, nn.GELU):
                setattr(module, name, gelu)
    return estimator.requires_grad_(False)


class Graph(nn.Module):
    """Generator and F0 estimator as one module, with the inputs and outputs that the docstring of this file lists."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        assert checkpoint.generator is not None
        self.generator = copy.deepcopy(checkpoint.generator).cpu().eval().requires_grad_(False)
        for module in list(self.generator.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, STFT):
                    setattr(module, name, RealSTFT(child))
                elif isinstance(child, LayerNorm2d) and not child.framewise:
                    setattr(module, name, UtteranceNorm(child))
        self.f0_estimator = None
        if self.generator.uses_f0 and checkpoint.f0_estimator is not None:
            self.f0_estimator = in_float64(checkpoint.f0_estimator)

    def forward(
        self, mel: Tensor, f0: Tensor | None = None, noise: Tensor | None = None, phase: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        if self.f0_estimator is not None:
            assert f0 is not None
            f0 = torch.where(f0 < 0, self.f0_estimator.estimate(mel), f0)
        audio = self.generator.synthesize(mel, f0, noise, phase)
        return (audio,) if self.f0_estimator is None or f0 is None else (audio, f0)

    def example(self, batch: int, frames: int) -> dict[str, Tensor]:
        """Draw values for all inputs of the graph."""
        mel_config, source = self.generator.mel_config, torch.Generator().manual_seed(frames)
        inputs = {"mel": torch.randn(batch, mel_config.n_mels, frames, generator=source) - 5}
        if self.generator.uses_f0:
            inputs["f0"] = 100 + 200 * torch.rand(batch, 1, frames, generator=source)
            inputs["f0"][..., frames // 2 :: 7] = 0
        if self.generator.uses_noise:
            inputs["noise"] = torch.randn(batch, 1, frames * mel_config.hop_length, generator=source)
        if self.generator.uses_f0:
            inputs["phase"] = torch.rand(batch, 1, 1, generator=source, dtype=torch.float64)
        return inputs
