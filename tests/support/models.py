"""Small, fast models for the tests: every generator and discriminator."""

from typing import Any

import torch

from losses import DISCRIMINATORS
from tests.support.sizes import DISCRIMINATOR_SIZES, GENERATOR_SIZES
from vocoders import MelConfig
from vocoders.checkpoint import Checkpoint
from vocoders.f0_estimator import (
    BaseF0Estimator,
    ConvF0Estimator,
    ConvF0EstimatorConfig,
    F0Estimator,
    F0EstimatorConfig,
)
from vocoders.generators import GENERATORS, build_generator
from vocoders.generators.base import Generator
from vocoders.inference.vocoder import Vocoder
from vocoders.inputs import F0, PHASE

MEL_CONFIG = MelConfig(sample_rate=8000, n_fft=128, hop_length=32, win_length=128, n_mels=20, fmin=0, fmax=4000)

NAMES = [name for name in GENERATORS if name != "ltx2"]  # it needs a second mel, see test_ltx2.py
STREAMING = [name for name in NAMES if name != "style-melgan"]  # its norms run over the whole utterance

SMALL_DISCRIMINATORS = {name: DISCRIMINATOR_SIZES.get(name, {}) for name in DISCRIMINATORS}
SOME_DISCRIMINATORS = {
    name: SMALL_DISCRIMINATORS[name] for name in ("multi-scale", "multi-scale-stft", "multi-scale-subband-cqt")
}


def small(name: str, mel_config: MelConfig = MEL_CONFIG) -> dict[str, Any]:
    """Return a generator's small configuration in plain values, as in recipes and file headers."""
    config = GENERATORS[name].config_for(mel_config).model_dump(mode="json") | GENERATOR_SIZES.get(name, {})
    if name == "hift":  # one block of the source a stage
        stages = len(config["upsample_rates"])
        config |= {"source_resblock_kernel_sizes": [7] * stages, "source_resblock_dilations": [[1, 3]] * stages}
    return config


def generator(name: str, mel_config: MelConfig = MEL_CONFIG, **changes: Any) -> Generator:
    """Make a small generator with weights large enough that everything has an effect."""
    torch.manual_seed(1)
    model = build_generator(name, small(name, mel_config) | changes, mel_config).eval()
    deviation = 0.25 if name == "flow2gan" else 0.05  # its condition passes many layers
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(deviation * torch.randn_like(parameter))
    return model


def f0_estimator(mel_config: MelConfig = MEL_CONFIG) -> F0Estimator:
    torch.manual_seed(2)
    return F0Estimator(F0EstimatorConfig(channels=16, blocks=1, bins=96, bins_per_octave=24), mel_config).eval()


def conv_f0_estimator(mel_config: MelConfig = MEL_CONFIG, causal: bool = False) -> ConvF0Estimator:
    """Make an estimator of the other kind, with F0 from 0 to some hundreds of Hz."""
    torch.manual_seed(2)
    estimator = ConvF0Estimator(ConvF0EstimatorConfig(channels=8, causal=causal), mel_config).eval()
    with torch.no_grad():
        estimator.output.weight.mul_(4000)
        estimator.output.bias.sub_(600)
    return estimator


def estimator_for(name: str, mel_config: MelConfig = MEL_CONFIG) -> BaseF0Estimator:
    """Make an F0 estimator of a generator's kind."""
    return conv_f0_estimator(mel_config) if name == "hift" else f0_estimator(mel_config)


def checkpoint(name: str = "hnmask", mel_config: MelConfig = MEL_CONFIG) -> Checkpoint:
    return Checkpoint(mel_config, generator(name, mel_config), estimator_for(name, mel_config), {"data": "none"})


def generator_of(checkpoint: Checkpoint) -> Generator:
    """Return the generator of a checkpoint that holds one."""
    assert checkpoint.generator is not None
    return checkpoint.generator


def f0_estimator_of(model: Checkpoint | Vocoder) -> BaseF0Estimator:
    """Return the F0 estimator of a checkpoint or vocoder that has one."""
    assert model.f0_estimator is not None
    return model.f0_estimator


def mel(frames: int, batch: int = 1, mel_config: MelConfig = MEL_CONFIG, seed: int = 0) -> torch.Tensor:
    """(batch, n_mels, frames), in the range of log-mels of speech."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(batch, mel_config.n_mels, frames, generator=source) * 1.2 - 6.5


def inputs(model: Generator, frames: int, batch: int = 1, seed: int = 0) -> dict[str, torch.Tensor]:
    """Make a value for each input of a generator."""
    source = torch.Generator().manual_seed(seed)
    values = {}
    for item in model.inputs:
        shape = batch, item.channels, item.columns(frames, model.samples_per_frame)
        dtype = torch.float64 if item == PHASE else torch.float32
        values[item.name] = (
            torch.rand(shape, generator=source, dtype=dtype) if item == PHASE else torch.randn(shape, generator=source)
        )
        if item == F0:
            values[item.name] = f0(frames, batch, seed)
    return values


def f0(frames: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """(batch, 1, frames) in Hz with unvoiced stretches."""
    source = torch.Generator().manual_seed(seed)
    track = 90 + 200 * torch.rand(batch, 1, frames, generator=source)
    track[..., 3:5] = 0
    return track
