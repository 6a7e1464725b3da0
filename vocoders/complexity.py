"""What a generator costs, and a valid configuration for any sample rate."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.generators import GENERATORS, build_generator
from vocoders.generators.base import Generator

_FRAMES = 64  # counted on; the work is proportional to the frames


def macs_per_second(generator: Generator) -> float:
    """Multiply-accumulates per second of audio in convolutions and matrix products, as the literature counts them.

    Counted on shapes alone: no arithmetic is done.
    """
    from torch.utils.flop_counter import FlopCounterMode

    mel_config = generator.mel_config
    model = copy.deepcopy(generator).to("meta")
    mel = torch.empty(1, mel_config.n_mels, _FRAMES, device="meta")
    f0 = torch.empty(1, 1, _FRAMES, device="meta")
    noise = torch.empty(1, 1, _FRAMES * mel_config.hop_length, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(mel, f0=f0, noise=noise)
    return counter.get_total_flops() / 2 * mel_config.sample_rate / mel_config.hop_length / _FRAMES


def design(
    generator: str, sample_rate: int, hop_length: int, n_mels: int | None = None
) -> tuple[dict[str, Any], MelConfig]:
    """A configuration of the named generator, and a mel config, for any rate in Hz and hop in samples.

    The sizes are those of the published default (HiFi-GAN V1 and so on); upsampling rates multiply to the hop, from
    large to small, and kernels are twice their rate, so that each output sample is covered by two inputs and no
    checkerboard arises. The band reaches to half the sample rate, in 80 mels up to 22.05 kHz, 100 up to 24, 128 above.
    Raises VocoderError when the hop cannot be reached.
    """
    if generator not in GENERATORS:
        raise VocoderError(f"unknown generator '{generator}'; known: {', '.join(GENERATORS)}")
    window = 2 ** math.ceil(math.log2(max(4 * hop_length, 0.04 * sample_rate)))
    n_mels = n_mels or (80 if sample_rate <= 22050 else 100 if sample_rate <= 24000 else 128)
    mel_config = MelConfig.parse(
        f"hifigan-22k:sample_rate={sample_rate},hop_length={hop_length},n_fft={window},win_length={window},"
        f"fmax={sample_rate / 2},n_mels={n_mels}"
    )
    config: dict[str, Any] = {}
    if generator == "hifigan":
        rates = _rates(hop_length, 8)
        # Channels halve at every upsampling and should not fall below 16 at the end.
        channels = max(512, 16 * 2 ** len(rates))
        config = {"channels": channels, "upsample_rates": rates, "upsample_kernel_sizes": [2 * rate for rate in rates]}
    elif generator == "istftnet":
        istft_hop = next((hop for hop in (4, 5, 6, 3, 8, 2, 7) if hop_length % hop == 0), hop_length)
        rates = _rates(hop_length // istft_hop, 10)
        kernels = [2 * rate for rate in rates]
        config = {"upsample_rates": rates, "upsample_kernel_sizes": kernels, "istft_hop": istft_hop}
    elif generator == "parallel-wavegan":
        config = {"upsample_rates": _rates(hop_length, 5)}
    elif generator == "multi-stream-wavehax":
        streams = next((count for count in (4, 3, 2, 5) if hop_length % count == 0), 1)
        config = {"streams": streams, "n_fft": 2 * hop_length // streams}
    else:
        config = {"n_fft": 2 * hop_length}
    build_on_meta(generator, config, mel_config)  # raises when something does not fit after all
    return config, mel_config


def build_on_meta(name: str, config: dict[str, Any], mel_config: MelConfig) -> Generator:
    """A generator laid out without memory, to be counted."""
    with torch.device("meta"):
        return build_generator(name, config, mel_config)


def _rates(product: int, preferred: int) -> list[int]:
    """Factors of ``product``, as few as possible, at most ``preferred`` where that can be, else 16; large first."""
    rates: list[int] = []
    rest = product
    while rest > 1:
        candidates = [*range(preferred, 1, -1), *range(preferred + 1, 17)]
        factor = next((f for f in candidates if rest % f == 0), None)
        if factor is None:
            raise VocoderError(f"no upsampling rates up to 16 multiply to {product}; choose another hop")
        rates.append(factor)
        rest //= factor
    return sorted(rates, reverse=True)
