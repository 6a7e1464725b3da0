"""Import the HiFi-GAN of GPT-SoVITS v4 (RVC-Boss/GPT-SoVITS).

It turns mels of audio at 32 kHz into audio at 48 kHz, 480 samples a frame.
"""

from __future__ import annotations

import math

import torch

from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, fold_weight_norm, require_mel_config
from vocoders.importers.hifi_gan import hifi_gan_variant_config, hifi_gan_weights

_DILATIONS = [1, 3, 5]  # TTS_infer_pack/TTS.py, init_vocoder


def _convert(_: Settings, weights: Weights, stated: MelConfig | None) -> Imported:
    weights = fold_weight_norm(weights)
    sizes = _sizes(weights)
    samples, n_mels = math.prod(sizes["upsample_rates"]), weights["conv_pre.weight"].shape[1]
    if stated is None and (samples, n_mels) == (480, 100):
        stated = MEL_CONFIGS["gpt-sovits-32k"]
    mel_config = require_mel_config(stated)
    if "conv_post.bias" not in weights:
        weights["conv_post.bias"] = torch.zeros(1)
    weights = hifi_gan_weights(weights, len(sizes["resblock_kernel_sizes"]))
    rate = mel_config.sample_rate * samples // mel_config.hop_length
    return Imported("hifigan", hifi_gan_variant_config(sizes, weights) | {"sample_rate": rate}, mel_config, weights)


GPT_SOVITS = Importer(
    "gpt-sovits",
    "RVC-Boss/GPT-SoVITS, its HiFi-GAN of version 4: gsv-v4-pretrained/vocoder.pth",
    _convert,
    recognizes=lambda _: False,
    checkpoints=("vocoder.pth",),
    configs=(),
    needs_config=False,
)


def _sizes(weights: Weights) -> Settings:
    """Read the sizes off the weights, as no configuration states them, in the form of jik876/hifi-gan's config.json.

    Raises VocoderError where upsampling kernels visibly differ from twice their rate.
    """
    kernels = [weights[f"ups.{i}.weight"].shape[2] for i in range(_count(weights, "ups."))]
    if not kernels or any(kernel % 2 for kernel in kernels):
        raise VocoderError(f"upsamplings with the kernels {kernels} are not those of GPT-SoVITS, twice their rates")
    blocks = [weights[f"resblocks.{i}.convs1.0.weight"].shape[2] for i in range(_count(weights, "resblocks."))]
    return {
        "upsample_initial_channel": weights["conv_pre.weight"].shape[0],
        "upsample_rates": [kernel // 2 for kernel in kernels],
        "upsample_kernel_sizes": kernels,
        "resblock": 1,
        "resblock_kernel_sizes": blocks[: len(blocks) // len(kernels)],
        "resblock_dilation_sizes": [_DILATIONS] * (len(blocks) // len(kernels)),
    }


def _count(weights: Weights, prefix: str) -> int:
    """Count the numbers that follow ``prefix`` in the keys."""
    return len({key.removeprefix(prefix).split(".")[0] for key in weights if key.startswith(prefix)})
