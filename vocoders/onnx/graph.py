"""The graphs that are exported: a model from mel to audio in real arithmetic and in operators that ONNX Runtime has.

``MelGraph`` has the mel as its only input, as sherpa-onnx wants it. ``Graph`` is for programs that stream and choose F0
and noise. Its inputs; a model has those that it needs:

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
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vocoders.checkpoint import Checkpoint
from vocoders.dsp.noise import white_noise
from vocoders.dsp.stft import STFT
from vocoders.errors import VocoderError
from vocoders.f0_estimator import BaseF0Estimator
from vocoders.nn.layers import LayerNorm2d
from vocoders.onnx.operators import MatrixConv1d, MatrixLinear, PlainELU, TabulatedGELU, UtteranceNorm
from vocoders.onnx.pairs import PairArithmetic
from vocoders.onnx.real_stft import RealSTFT
from vocoders.streaming.traced import Traced, measure_states
from vocoders.streaming.waiting import Extend, Fit, Wait

NOISE_SAMPLES = 1 << 18


def in_float64(estimator: BaseF0Estimator) -> BaseF0Estimator:
    """Copy an F0 estimator in float64, as ``Vocoder`` runs it, built of operators that ONNX Runtime has in float64."""
    estimator, gelu, elu = copy.deepcopy(estimator).cpu().eval().double(), TabulatedGELU(), PlainELU()
    for module in list(estimator.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv1d):
                setattr(module, name, MatrixConv1d(child))
            elif isinstance(child, nn.GELU):
                setattr(module, name, gelu)
            elif isinstance(child, nn.ELU):
                setattr(module, name, elu)
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
                elif type(child) is nn.Linear:
                    setattr(module, name, MatrixLinear(child))
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
        audio = self.synthesize(mel, f0, noise, phase)
        return (audio,) if self.f0_estimator is None or f0 is None else (audio, f0)

    def synthesize(self, mel: Tensor, f0: Tensor | None, noise: Tensor | None, phase: Tensor | None) -> Tensor:
        """Do what the generator's method does, in real arithmetic."""
        with PairArithmetic():
            return self.generator.synthesize(mel, f0, noise, phase)

    @property
    def output_names(self) -> list[str]:
        """Names of what ``forward`` returns."""
        return ["audio"] if self.f0_estimator is None else ["audio", "used_f0"]

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


class StatefulGraph(Graph):
    """A ``Graph`` with marks where a stream keeps what the next run needs; ``add_state`` makes ONNX of it.

    Where F0 is estimated, the generator's inputs are delayed by the F0 estimator's lookahead; see streaming/waiting.py.

    Raises:
        VocoderError: when the model cannot be evaluated piece by piece in ONNX.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        generator, estimator = self.generator, self.f0_estimator
        if generator.receptive_field is None:
            raise VocoderError("it normalises over the whole utterance")

        def draw(batch: int, frames: int) -> list[Tensor | None]:
            inputs = self.example(batch, frames)
            return [inputs.get(name) for name in ("mel", "f0", "noise")]

        synthesize = self._from(torch.zeros(1, 1, 1, dtype=torch.float64))
        self._synthesis = measure_states(synthesize, draw, generator.receptive_field + 1)
        if estimator is not None:
            mels, enough = (lambda *size: draw(*size)[:1]), estimator.receptive_field + 1
            self._estimation = measure_states(estimator.estimate, mels, enough)

    def forward(
        self, mel: Tensor, f0: Tensor | None = None, noise: Tensor | None = None, phase: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        synthesize = Traced(self._from(phase), self._synthesis)
        if self.f0_estimator is None:
            return (synthesize(mel, f0, noise),)
        assert f0 is not None
        wait = self.f0_estimator.receptive_field
        estimate = Traced(self.f0_estimator.estimate, self._estimation)(Extend.trace(mel, wait))
        mel, f0 = Wait.trace(mel, wait), Wait.trace(f0, wait)
        if noise is not None:
            noise = Wait.trace(noise, wait * self.generator.mel_config.hop_length)
        f0 = torch.where(f0 < 0, Fit.trace(estimate, f0), f0)
        return synthesize(mel, f0, noise), f0

    @property
    def lookahead(self) -> int:
        """Frames that must follow a frame before its audio is final, where F0 is estimated."""
        assert self.generator.receptive_field is not None
        return self.generator.receptive_field + (self.f0_estimator.receptive_field if self.f0_estimator else 0)

    def _from(self, phase: Tensor | None) -> Callable[..., Tensor]:
        """Return the synthesis from a phase on, as a function of mel, F0 and noise."""
        return lambda mel, f0, noise: self.synthesize(mel, f0, noise, phase)


class MelGraph(nn.Module):
    """Model with the mel as its only input: F0 is estimated, the phase starts at 0, and noise is part of the graph.

    The noise is that of seed 0. It repeats after NOISE_SAMPLES samples, some ten seconds; a synthesised sentence is
    shorter.

    Raises:
        VocoderError: when the model needs F0 and has no estimator of its own.
    """

    output_names = ("audio",)
    noise: Tensor

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model = Graph(checkpoint)
        if self.model.generator.uses_f0 and self.model.f0_estimator is None:
            raise VocoderError("this model needs f0 beside the mel and has no estimator of its own")
        # Rounded to 11 bits: white noise stays white, and the file is smaller by half a megabyte.
        noise = torch.from_numpy(white_noise(0, NOISE_SAMPLES, 0)).half()
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, mel: Tensor) -> tuple[Tensor]:
        """Log-mel (batch, n_mels, frames) -> audio (batch, 1, frames * hop_length)."""
        generator, estimator = self.model.generator, self.model.f0_estimator
        f0 = noise = None
        if estimator is not None:
            f0 = estimator.estimate(mel)
        if generator.uses_noise:
            samples = torch.arange(mel.shape[-1] * generator.mel_config.hop_length) % NOISE_SAMPLES
            noise = self.noise[samples].float().expand(mel.shape[0], 1, -1)
        return (self.model.synthesize(mel, f0, noise, None),)

    def example(self, batch: int, frames: int) -> dict[str, Tensor]:
        """Draw values for the input."""
        return {"mel": self.model.example(batch, frames)["mel"]}
