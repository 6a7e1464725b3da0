"""Import HiFi-GAN of jik876/hifi-gan, whose layout several families share."""

from __future__ import annotations

import re
from typing import Any

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import (
    FILE_NAME,
    Imported,
    Importer,
    Settings,
    Weights,
    check_only,
    fold_weight_norm,
    rename,
)

# keys of config.json for training only, in jik876/hifi-gan and its derivatives
TRAINING = """
    adam_b1 adam_b2 batch_size checkpoint_interval discriminator_periods dist_config fine_tuning fmax_for_loss
    learning_rate lr_decay num_freq num_gpus num_workers seed segment_size
"""


def _convert(config: Settings, weights: Weights, _: MelConfig | None) -> Imported:
    weights = hifi_gan_weights(fold_weight_norm(weights), len(config["resblock_kernel_sizes"]))
    own = hifi_gan_variant_config(config, weights)
    if config[FILE_NAME] == "vocoder.pt":  # Auffusion's upsamplings multiply the length exactly
        own.pop("odd_upsampling", None)
    return Imported("hifigan", own, hifi_gan_mel_config(config), weights)


HIFI_GAN = Importer(
    "hifi-gan",
    'jik876/hifi-gan: a checkpoint {"generator": ...} (g_02500000) and config.json; vocoder.pt of Auffusion and '
    "FoleyCrafter",
    _convert,
    recognizes=lambda config: (
        is_hifi_gan(config) and not config.keys() & {"snake_logscale", "gen_istft_n_fft", "mini_nsf"}
    ),
    checkpoints=("generator*", "g_*", "vocoder.pt"),
    harmless=TRAINING,
)


def is_hifi_gan(config: Settings) -> bool:
    """Whether a configuration is jik876/hifi-gan's or a derivative's."""
    return {"resblock", "upsample_rates", "upsample_initial_channel", "num_mels", "hop_size"} <= config.keys()


def hifi_gan_mel_config(config: Settings) -> MelConfig:
    """Return the mel config of meldataset.py for config.json."""
    values = {
        "sample_rate": config["sampling_rate"],
        "n_fft": config["n_fft"],
        "hop_length": config["hop_size"],
        "win_length": config["win_size"],
        "n_mels": config["num_mels"],
        "fmin": config["fmin"],
        "fmax": config["fmax"] or config["sampling_rate"] / 2,
        "epsilon": 1e-9,
    }
    return bind(MelConfig, values, "the mel config in the configuration")


def hifi_gan_config(config: Settings, weights: Weights) -> dict[str, Any]:
    """Convert config.json and weights to the configuration of ``HiFiGAN``, or of a network on its trunk.

    Raises VocoderError for kernels whose upsampling does not multiply the length exactly.
    """
    sizes = _sizes(config, weights)
    for rate, kernel in _odd_upsamplings(sizes):
        raise VocoderError(f"an upsampling by {rate} with kernel {kernel} gives no whole frames in that implementation")
    return sizes


def hifi_gan_variant_config(config: Settings, weights: Weights) -> dict[str, Any]:
    """Convert config.json to the configuration of ``HiFiGAN``; upsamplings may lengthen the signal."""
    sizes = _sizes(config, weights)
    return sizes | ({"odd_upsampling": "longer"} if _odd_upsamplings(sizes) else {})


def hifi_gan_config_of_factors(params: Settings, weights: Weights, edge_frames: int) -> dict[str, Any]:
    """Convert HifiganGenerator's arguments, of Coqui TTS and SpeechBrain, to ``HiFiGAN``'s.

    ``edge_frames`` is the default of ``HiFiGANVariantConfig``'s.
    """
    check_only(
        params, "HifiganGenerator", cond_channels=0, out_channels=1, pre_linear=None, cond_in_each_up_layer=False
    )
    same = ("upsample_kernel_sizes", "upsample_initial_channel", "resblock_kernel_sizes", "resblock_dilation_sizes")
    own = {key: params[key] for key in same}
    own |= {"upsample_rates": params["upsample_factors"], "resblock": params["resblock_type"]}
    return hifi_gan_variant_config(own, weights) | {"edge_frames": params.get("inference_padding", edge_frames)}


def _sizes(config: Settings, weights: Weights) -> dict[str, Any]:
    # Projects differ in the meaning of "1" and the dilations used: the weights tell.
    kind, dilations = int(config["resblock"]), config["resblock_dilation_sizes"]
    if weights and not isinstance(config["resblock"], str):
        kind = 1 if any(".convs2." in key for key in weights) else 2
    blocks = [re.compile(rf"trunk\.resblocks\.0\.{block}\.convs1\.\d+\.weight") for block in range(len(dilations))]
    counts = [sum(map(bool, map(block.fullmatch, weights))) for block in blocks]
    return {
        "channels": config["upsample_initial_channel"],
        "upsample_rates": config["upsample_rates"],
        "upsample_kernel_sizes": config["upsample_kernel_sizes"],
        "resblock": kind,
        "resblock_kernel_sizes": config["resblock_kernel_sizes"],
        "resblock_dilations": [sizes[: count or None] for sizes, count in zip(dilations, counts, strict=True)],
    }


def _odd_upsamplings(sizes: dict[str, Any]) -> list[tuple[int, int]]:
    """Return rates and kernels with an odd difference."""
    pairs = zip(sizes["upsample_rates"], sizes["upsample_kernel_sizes"], strict=True)
    return [(rate, kernel) for rate, kernel in pairs if (kernel - rate) % 2]


def hifi_gan_weights(weights: Weights, resblocks: int | None) -> Weights:
    """Rename jik876/hifi-gan's keys, weight norm folded, to ``HiFiGAN``'s.

    ``resblocks``: residual blocks per upsampling, which jik876/hifi-gan numbers in one row; None where each upsampling
    counts its own.
    """
    if resblocks is not None:
        count = resblocks
        weights = rename(
            weights, [(r"^resblocks\.(\d+)\.", lambda m: f"resblocks.{int(m[1]) // count}.{int(m[1]) % count}.")]
        )
    return rename(
        weights,
        [
            (r"\.convs\.", ".convs1."),
            (r"^(?!conv_post|standardize)", "trunk."),
        ],
    )
