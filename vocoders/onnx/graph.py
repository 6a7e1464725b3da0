"""The exported graphs, in real arithmetic and in operators that ONNX Runtime has.

``MelGraph`` has the mel as its only input, for sherpa-onnx. ``Graph`` has the inputs:

    mel      float32 (batch, n_mels, frames), in the mel config of the metadata
    each of ``Facts.inputs``, (batch, channels, length), float32; the phase is float64. Where one of
    ``Facts.estimated`` is negative, it is estimated from the mel.

and the outputs:

    audio    float32 (batch, channels, samples)
    used_f0  float32, like each of ``Facts.estimated``: as given or estimated

Chunks join exactly when each comes with its context, the F0 known so far and the phase that follows from it; see
``vocoders/onnx/vocoder.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vocoders.checkpoint import Checkpoint, describe
from vocoders.dsp.noise import white_noise
from vocoders.dsp.stft import STFT
from vocoders.errors import VocoderError
from vocoders.f0_estimator import BaseF0Estimator
from vocoders.inputs import F0, NOISE, PHASE, Input, required
from vocoders.nn.layers import LayerNorm2d
from vocoders.onnx.operators import MatrixConv1d, MatrixLinear, PlainELU, TabulatedGELU, UtteranceNorm
from vocoders.onnx.pairs import PairArithmetic
from vocoders.onnx.real_stft import RealSTFT
from vocoders.streaming.traced import Traced, measure_states
from vocoders.streaming.waiting import Extend, Fit, Wait

NOISE_SAMPLES = 1 << 18


def in_float64(estimator: BaseF0Estimator) -> BaseF0Estimator:
    """Copy an F0 estimator in float64, of operators that ONNX Runtime has in float64."""
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
    """Generator and F0 estimator as one module; see this file's docstring."""

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
        self.names = [item.name for item in self.generator.inputs]
        self.estimated = describe(checkpoint).estimated
        self.f0_estimator = None
        if self.estimated and checkpoint.f0_estimator is not None:
            self.f0_estimator = in_float64(checkpoint.f0_estimator)

    def forward(self, mel: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(self.names, given, strict=True))
        if self.f0_estimator is not None:
            estimate = self.f0_estimator.estimate(mel)
            values |= {name: torch.where(values[name] < 0, estimate, values[name]) for name in self.estimated}
        return self.synthesize(mel, **values), *(values[name] for name in self.estimated)

    def synthesize(self, mel: Tensor, **values: Tensor | None) -> Tensor:
        """Run the generator in real arithmetic."""
        with PairArithmetic():
            return self.generator.synthesize(mel, **values)

    @property
    def output_names(self) -> list[str]:
        return ["audio", *(f"used_{name}" for name in self.estimated)]

    def example(self, batch: int, frames: int) -> dict[str, Tensor]:
        """Draw all inputs of the graph."""
        generator, source = self.generator, torch.Generator().manual_seed(frames)
        examples = {"mel": torch.randn(batch, generator.mel_config.n_mels, frames, generator=source) - 5}
        for item in generator.inputs:
            shape = batch, item.channels, item.columns(frames, generator.samples_per_frame)
            examples[item.name] = example_of(item, shape, source)
        return examples


class StatefulGraph(Graph):
    """``Graph`` with marks where a stream keeps state, which ``add_state`` turns into inputs and outputs.

    The generator's inputs are delayed by the F0 estimator's lookahead (streaming/waiting.py). Raises VocoderError when
    the model cannot stream in ONNX.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        generator, estimator = self.generator, self.f0_estimator
        if generator.lookahead is None:
            raise VocoderError("it cannot be evaluated piece by piece")
        self.signals = [item for item in generator.inputs if item.is_signal]
        held = self.example(1, 1)
        constants = {item.name: held[item.name] for item in generator.inputs if not item.is_signal}

        def draw(batch: int, frames: int) -> list[Tensor | None]:
            inputs = self.example(batch, frames)
            return [inputs[name] for name in ("mel", *(item.name for item in self.signals))]

        self._synthesis = measure_states(self._holding(constants), draw, generator.lookahead + 1)
        if estimator is not None:
            mels, enough = (lambda *size: draw(*size)[:1]), estimator.lookahead + 1
            self._estimation = measure_states(estimator.estimate, mels, enough)

    def forward(self, mel: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(self.names, given, strict=True))
        constants = {name: values[name] for name in self.names if name not in [item.name for item in self.signals]}
        synthesize = Traced(self._holding(constants), self._synthesis)
        if self.f0_estimator is not None:
            wait = self.f0_estimator.lookahead
            estimate = Traced(self.f0_estimator.estimate, self._estimation)(Extend.trace(mel, wait))
            mel = Wait.trace(mel, wait)
            for item in self.signals:
                columns = item.columns(wait, self.generator.samples_per_frame)
                values[item.name] = Wait.trace(values[item.name], columns)
            for name in self.estimated:
                value = values[name]
                values[name] = torch.where(value < 0, Fit.trace(estimate, value), value)
        audio = synthesize(mel, *(values[item.name] for item in self.signals))
        return audio, *(values[name] for name in self.estimated)

    @property
    def lookahead(self) -> int:
        """Lookahead in frames, with that of the F0 estimator."""
        assert self.generator.lookahead is not None
        return self.generator.lookahead + (self.f0_estimator.lookahead if self.f0_estimator else 0)

    def _holding(self, constants: dict[str, Tensor]) -> Callable[..., Tensor]:
        """Return the synthesis as a function of mel and signals."""
        names = [item.name for item in self.signals]
        return lambda mel, *signals: self.synthesize(mel, **dict(zip(names, signals, strict=True)), **constants)


def example_of(item: Input, shape: tuple[int, int, int], source: torch.Generator) -> Tensor:
    if item == F0:
        track = 100 + 200 * torch.rand(shape, generator=source)
        track[..., shape[2] // 2 :: 7] = 0
        return track
    if item == PHASE:
        return torch.rand(shape, generator=source, dtype=torch.float64)
    return torch.randn(shape, generator=source)


class MelGraph(nn.Module):
    """Model from the mel alone: F0 is estimated, the phase starts at 0, and the graph holds the noise of seed 0.

    The noise repeats after NOISE_SAMPLES samples, about ten seconds. Raises VocoderError when an input cannot be made.
    """

    output_names = ("audio",)
    noise: Tensor

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.model = Graph(checkpoint)
        if needed := required(self.model.generator.inputs, self.model.estimated):
            raise VocoderError(f"sherpa-onnx gives a model the mel alone; this one needs {needed[0].name} as well")
        # Rounded to 11 bits, which saves half a megabyte; white noise stays white.
        noise = torch.from_numpy(white_noise(0, NOISE_SAMPLES, 0)).half()
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, mel: Tensor) -> tuple[Tensor]:
        """Log-mel (batch, n_mels, frames) -> audio (batch, 1, samples)."""
        model, generator = self.model, self.model.generator
        values: dict[str, Tensor | None] = dict.fromkeys(model.names)
        if model.f0_estimator is not None:
            values |= dict.fromkeys(model.estimated, model.f0_estimator.estimate(mel))
        if NOISE in generator.inputs:
            samples = torch.arange(mel.shape[-1] * generator.samples_per_frame) % NOISE_SAMPLES
            values[NOISE.name] = self.noise[samples].float().expand(mel.shape[0], 1, -1)
        return (model.synthesize(mel, **values),)

    def example(self, batch: int, frames: int) -> dict[str, Tensor]:
        return {"mel": self.model.example(batch, frames)["mel"]}
