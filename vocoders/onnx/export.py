"""Export to ONNX: a model as one graph from mel to audio, in real arithmetic, which runs without torch.

Inputs of the graph, of which a model has those it needs:

    mel     float32 (batch, n_mels, frames), in the mel config of the metadata
    f0      float32 (batch, 1, frames), Hz, 0 = unvoiced; where it is negative the model estimates it from the mel
    noise   float32 (batch, 1, frames * hop_length), standard normal
    phase   float64 (batch, 1, 1), cycles: of the first harmonic at the first sample

and its outputs:

    audio   float32 (batch, 1, frames * hop_length)
    used_f0 float32 (batch, 1, frames): what was given, with the estimate where there was one; of models that estimate

So a runner can synthesise in chunks that join exactly: it gives each chunk its context, the F0 it already knows and
the phase that follows from it. ``onnx_vocoder.py`` is that runner.

The metadata makes the file as self-describing as a checkpoint; see ``metadata``.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.checkpoint import Checkpoint
from vocoders.dsp.stft import STFT, reflect_pad
from vocoders.errors import CheckpointError, VocoderError
from vocoders.f0_estimator import F0Estimator
from vocoders.files import atomic_write
from vocoders.generators import generator_name
from vocoders.generators.base import Generator
from vocoders.nn.layers import LayerNorm2d
from vocoders.onnx.vocoder import VERSION

OPSET = 20  # the first with Gelu; ONNX Runtime 1.18 and later run it
LARGEST_DIFFERENCE = 1e-4  # from torch's audio, of its peak


class RealSTFT(STFT):
    """An STFT as products with matrices: the same numbers, without a Fourier transform of the runtime's.

    ONNX has no complex numbers; the exporter carries them as pairs of real ones through everything but the transform.
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
    """A layer norm over all frames by means of means: ONNX Runtime's sums over minutes at once lose digits."""

    def __init__(self, norm: LayerNorm2d) -> None:
        super().__init__(len(norm.weight), norm.framewise, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias

    def standardize(self, x: Tensor) -> Tensor:
        x = x - x.mean((2, 3), keepdim=True).mean(1, keepdim=True)
        return x * (x.square().mean((2, 3), keepdim=True).mean(1, keepdim=True) + self.eps).rsqrt()


class MatrixConv1d(nn.Module):
    """A convolution over time as products with one matrix for each tap: ONNX Runtime has none in float64.

    Same length, stride 1; dense or depthwise.
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
    """GELU in float64 to 1e-10, by a table of the error function and its slope: ONNX Runtime has none in float64.

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
    """A copy in float64, as Vocoder has it, of what ONNX Runtime can do in float64."""
    estimator, gelu = copy.deepcopy(estimator).cpu().eval().double(), TabulatedGELU()
    for module in list(estimator.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv1d):
                setattr(module, name, MatrixConv1d(child))
            elif isinstance(child, nn.GELU):
                setattr(module, name, gelu)
    return estimator.requires_grad_(False)


class Graph(nn.Module):
    """What is exported: generator and estimator as one module. See the head of this file."""

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
        """Values for all inputs of the graph."""
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


_AXES = {
    "mel": {0: "batch", 2: "frames"},
    "f0": {0: "batch", 2: "frames"},
    "noise": {0: "batch", 2: "samples"},
    "phase": {0: "batch"},
}


def export_onnx(checkpoint: Checkpoint, path: Path) -> float:
    """Write the generator of a checkpoint on the CPU, with its F0 estimator where it needs F0, as ONNX.

    The file appears whole or not at all, and only when ONNX Runtime's audio from it equals torch's to
    LARGEST_DIFFERENCE of the peak; returns the difference found.
    Raises: CheckpointError for a checkpoint without a generator, VocoderError when onnx, onnxscript or onnxruntime are
    not installed, the audio differs or the file cannot be written.
    """
    if checkpoint.generator is None:
        raise CheckpointError("there is no generator to export, only an F0 estimator")
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx imports it)
    except ImportError as error:
        raise VocoderError(
            f"export needs {error.name}, which is not installed: pip install '.[export]' in the clone"
        ) from None

    graph = Graph(checkpoint)
    inputs = graph.example(2, 5)
    names = ["audio"] if graph.f0_estimator is None else ["audio", "used_f0"]
    with _silence():
        program = torch.onnx.export(
            graph,
            kwargs=inputs,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            dynamic_shapes={name: _AXES[name] for name in inputs},
            input_names=list(inputs),
            output_names=names,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # where in the source it comes from, which is half of the file
    onnx.helper.set_model_props(model, metadata(checkpoint))
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    difference = max(_difference(checkpoint.generator, session, graph.example(*size)) for size in ((1, 1), (2, 40)))
    if not difference <= LARGEST_DIFFERENCE:
        raise VocoderError(
            f"the exported model's audio differs from torch's by {difference:.1e} of its peak, more than "
            f"{LARGEST_DIFFERENCE:g}; this release of torch, onnxscript or onnxruntime does not fit, try another"
        )
    with atomic_write(path) as partial:
        partial.write_bytes(data)
    return difference


def metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """The metadata of an exported model.

    ``format``, ``mel_spec``, ``generator``, ``pitch`` and ``training`` as in the header of a checkpoint (see
    checkpoint.py), ``version`` that of the inputs and outputs above; further ``opset``, ``sample_rate`` in Hz, and in
    frames on each side ``receptive_field`` of the generator, "null" for the whole utterance, and
    ``f0_receptive_field`` of the estimator.
    """
    generator = checkpoint.generator
    assert generator is not None
    described = {"name": generator_name(generator), "config": generator.config.model_dump(mode="json")}
    properties = {
        "format": "vocoders",
        "version": VERSION,
        "mel_spec": checkpoint.mel_config.model_dump_json(),
        "generator": json.dumps(described),
        "training": json.dumps(checkpoint.training),
        "opset": str(OPSET),
        "sample_rate": str(checkpoint.mel_config.sample_rate),
        "receptive_field": json.dumps(generator.receptive_field),
    }
    if generator.uses_f0 and checkpoint.f0_estimator is not None:
        properties["pitch"] = checkpoint.f0_estimator.config.model_dump_json()
        properties["pitch_receptive_field"] = str(checkpoint.f0_estimator.receptive_field)
    return properties


@contextmanager
def _silence() -> Iterator[None]:
    """Without what the exporter has to say about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _difference(generator: Generator, session: Any, inputs: dict[str, Tensor]) -> float:
    """The largest between torch's and ONNX Runtime's audio, of the peak."""
    with torch.inference_mode():
        expected = generator(**inputs).numpy()
    found = session.run(["audio"], {name: value.numpy() for name, value in inputs.items()})[0]
    return float(np.abs(found - expected).max() / np.abs(expected).max())
