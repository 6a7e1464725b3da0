"""All generators by name."""

from __future__ import annotations

from typing import Any

from vocoders.config import build
from vocoders.dsp.mel import MelConfig
from vocoders.generators.base import Generator
from vocoders.generators.hifigan import HiFiGAN
from vocoders.generators.hnmask import HNMask
from vocoders.generators.istftnet import ISTFTNet
from vocoders.generators.multi_stream_wavehax import MultiStreamWavehax
from vocoders.generators.parallel_wavegan import ParallelWaveGAN
from vocoders.generators.wavehax import Wavehax

GENERATORS: dict[str, type[Generator]] = {
    "hnmask": HNMask,
    "hifigan": HiFiGAN,
    "istftnet": ISTFTNet,
    "parallel-wavegan": ParallelWaveGAN,
    "wavehax": Wavehax,
    "multi-stream-wavehax": MultiStreamWavehax,
}


def generator_name(generator: Generator) -> str:
    """The key of a generator's class in GENERATORS."""
    return next(name for name, kind in GENERATORS.items() if kind is type(generator))


def build_generator(name: str, config: dict[str, Any], mel_config: MelConfig) -> Generator:
    """A freshly initialised generator. Raises VocoderError for an unknown name or an invalid configuration."""
    generator: Generator = build(GENERATORS, "generator", name, config, mel_config)
    return generator
