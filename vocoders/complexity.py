"""The work of a generator, and a mel config for any sample rate."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch

from vocoders.config import Config
from vocoders.dsp.mel import MelConfig
from vocoders.generators import build_generator
from vocoders.generators.base import Generator

_FRAMES = 64  # work is proportional to the mel's length


def macs_per_second(generator: Generator) -> float:
    """Count the multiply-accumulates of convolutions and matrix products per second of audio.

    Args:
        generator: on any device, "meta" included.
    """
    from torch.utils.flop_counter import FlopCounterMode

    mel_config = generator.mel_config
    model = copy.deepcopy(generator).to("meta")
    mel = torch.empty(1, mel_config.n_mels, _FRAMES, device="meta")
    size = model.samples_per_frame
    shapes = {item.name: (1, item.channels, item.columns(_FRAMES, size)) for item in model.inputs}
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(mel, **{name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    return counter.get_total_flops() / 2 * model.sample_rate / size / _FRAMES


def mel_config_for(sample_rate: int, hop_length: int, n_mels: int | None = None) -> MelConfig:
    """Return a mel config for any sample rate and hop, with the full band.

    Args:
        sample_rate: Hz.
        hop_length: samples between frames.
        n_mels: number of bands; default: 80 up to 22.05 kHz, 100 up to 24 kHz, 128 above.

    Raises:
        VocoderError: for invalid values.
    """
    window = 2 ** math.ceil(math.log2(max(4 * hop_length, 0.04 * sample_rate, 1)))
    n_mels = n_mels or (80 if sample_rate <= 22050 else 100 if sample_rate <= 24000 else 128)
    return MelConfig.parse(
        f"hifigan-22k:sample_rate={sample_rate},hop_length={hop_length},n_fft={window},win_length={window},"
        f"fmax={sample_rate / 2},n_mels={n_mels}"
    )


def build_on_meta(name: str, config: dict[str, Any] | Config, mel_config: MelConfig) -> Generator:
    """Build a generator as ``build_generator``, on "meta", without memory."""
    with torch.device("meta"):
        return build_generator(name, config, mel_config)
