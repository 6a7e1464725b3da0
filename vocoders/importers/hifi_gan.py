"""HiFi-GAN as jik876/hifi-gan writes it; its layout is the base of several other families."""

from __future__ import annotations

from typing import Any

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, fold_weight_norm, rename


def _convert(config: Settings, content: Settings, _: MelConfig | None) -> Imported:
    weights = hifi_gan_weights(fold_weight_norm(content["generator"]), len(config["resblock_kernel_sizes"]))
    return Imported("hifigan", hifi_gan_config(config), hifi_gan_mel_config(config), weights)


HIFI_GAN = Importer(
    "hifi-gan",
    'jik876/hifi-gan: a checkpoint {"generator": ...} (g_02500000) and config.json',
    _convert,
    recognizes=lambda config: (
        is_hifi_gan(config) and not config.keys() & {"snake_logscale", "gen_istft_n_fft", "mini_nsf"}
    ),
    checkpoints=("generator*", "g_*"),
    configs=("config.json",),
)


def is_hifi_gan(config: Settings) -> bool:
    """Tell whether a configuration is that of jik876/hifi-gan, or of one of those that add keys to it."""
    return {"resblock", "upsample_rates", "upsample_initial_channel", "num_mels", "hop_size"} <= config.keys()


def hifi_gan_mel_config(config: Settings) -> MelConfig:
    """Return the mel config of meldataset.py with the numbers of config.json."""
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


def hifi_gan_config(config: Settings) -> dict[str, Any]:
    """Convert config.json to the configuration of ``HiFiGAN``.

    Raises:
        VocoderError: for kernels whose upsampling does not multiply the length exactly.
    """
    for rate, kernel in zip(config["upsample_rates"], config["upsample_kernel_sizes"], strict=True):
        if (kernel - rate) % 2:
            raise VocoderError(
                f"an upsampling by {rate} with kernel {kernel} gives no whole frames in that implementation"
            )
    return {
        "channels": config["upsample_initial_channel"],
        "upsample_rates": config["upsample_rates"],
        "upsample_kernel_sizes": config["upsample_kernel_sizes"],
        "resblock": int(config["resblock"]),
        "resblock_kernel_sizes": config["resblock_kernel_sizes"],
        "resblock_dilations": config["resblock_dilation_sizes"],
    }


def hifi_gan_weights(weights: Weights, resblocks: int) -> Weights:
    """Rename the keys of jik876/hifi-gan to those of ``HiFiGAN``.

    Args:
        weights: weights with keys as in jik876/hifi-gan, weight norm folded.
        resblocks: number of residual blocks after each upsampling; jik876/hifi-gan numbers them consecutively.
    """
    return rename(
        weights,
        [
            (r"^resblocks\.(\d+)\.", lambda m: f"resblocks.{int(m[1]) // resblocks}.{int(m[1]) % resblocks}."),
            (r"\.convs\.", ".convs1."),
            (r"^(?!conv_post|standardize)", "trunk."),
        ],
    )
