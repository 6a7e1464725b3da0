"""All generators by name."""

from __future__ import annotations

from typing import Any

from vocoders.config import Config, build
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import float32_weights
from vocoders.errors import VocoderError
from vocoders.generators.base import Generator
from vocoders.generators.bigvgan import BigVGAN
from vocoders.generators.complex_wavehax import ComplexWavehax
from vocoders.generators.degvoc import DegVoC
from vocoders.generators.flow2gan import Flow2GAN
from vocoders.generators.hifigan import HiFiGAN
from vocoders.generators.hift import HiFT
from vocoders.generators.hnmask import HNMask
from vocoders.generators.istftnet import ISTFTNet
from vocoders.generators.ltx2 import LTX2
from vocoders.generators.melgan import MelGAN
from vocoders.generators.multi_stream_wavehax import MultiStreamWavehax
from vocoders.generators.nsf_hifigan import NSFHiFiGAN
from vocoders.generators.parallel_wavegan import ParallelWaveGAN
from vocoders.generators.style_melgan import StyleMelGAN
from vocoders.generators.univnet import UnivNet
from vocoders.generators.vocos import Vocos
from vocoders.generators.wavehax import Wavehax

GENERATORS: dict[str, type[Generator]] = {
    "hnmask": HNMask,
    "hifigan": HiFiGAN,
    "istftnet": ISTFTNet,
    "parallel-wavegan": ParallelWaveGAN,
    "wavehax": Wavehax,
    "multi-stream-wavehax": MultiStreamWavehax,
    "complex-wavehax": ComplexWavehax,
    "vocos": Vocos,
    "nsf-hifigan": NSFHiFiGAN,
    "bigvgan": BigVGAN,
    "hift": HiFT,
    "melgan": MelGAN,
    "style-melgan": StyleMelGAN,
    "degvoc": DegVoC,
    "univnet": UnivNet,
    "flow2gan": Flow2GAN,
    "ltx2": LTX2,
}


def generator_class(name: str) -> type[Generator]:
    """Return the generator class of a name."""
    if name not in GENERATORS:
        raise VocoderError(f"unknown generator '{name}'; known: {', '.join(GENERATORS)}")
    return GENERATORS[name]


def generator_name(generator: Generator) -> str:
    """Return the name of a generator in ``GENERATORS``; that of its class where it is not listed."""
    return next((name for name, kind in GENERATORS.items() if kind is type(generator)), type(generator).__name__)


@float32_weights()
def build_generator(name: str, config: dict[str, Any] | Config, mel_config: MelConfig) -> Generator:
    """Build a freshly initialised generator.

    Args:
        name: a key of GENERATORS.
        config: its configuration, or the values that differ from the default.
        mel_config: the mel config of its input.

    Raises:
        VocoderError: for an unknown name, or a configuration that is invalid or unfit for the mel config.
    """
    generator: Generator = build(GENERATORS, "generator", name, config, mel_config)
    return generator
