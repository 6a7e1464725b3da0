"""Import BigVGAN of NVIDIA/BigVGAN, versions 1 and 2."""

from __future__ import annotations

import re

import torch

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, fold_weight_norm, rename
from vocoders.importers.hifi_gan import TRAINING, hifi_gan_config, hifi_gan_mel_config, hifi_gan_weights, is_hifi_gan
from vocoders.nn.alias_free import low_pass_filter

_ACTIVATIONS = ("snakebeta", "snake")
_FILTER = re.compile(r"\.(upsample|downsample\.lowpass)\.filter$")


def _convert(config: Settings, weights: Weights, _: MelConfig | None) -> Imported:
    if config["activation"] not in _ACTIVATIONS:
        raise VocoderError(
            f"BigVGAN with the activation {config['activation']} is not supported, only {' and '.join(_ACTIVATIONS)}"
        )
    weights = bigvgan_weights(weights, len(config["resblock_kernel_sizes"]))
    own = hifi_gan_config(config, weights) | {
        "activation": config["activation"],
        "log_scale": config["snake_logscale"],
        # bigvgan.py: both are true in version 1, which does not name them
        "output": "tanh" if config.get("use_tanh_at_final", True) else "clamp",
        "output_bias": config.get("use_bias_at_final", True),
    }
    # meldataset.py of jik876/hifi-gan
    return Imported("bigvgan", own, hifi_gan_mel_config(config), weights)


BIGVGAN = Importer(
    "bigvgan",
    "NVIDIA/BigVGAN, v1 and v2: bigvgan_generator.pt (or g_05000000) and config.json; Kimi-Audio's folder vocoder, "
    "model.pt and config.json",
    _convert,
    recognizes=lambda config: is_hifi_gan(config) and "snake_logscale" in config,
    checkpoints=("bigvgan_generator.pt", "g_*", "model.pt"),
    harmless=TRAINING
    + """
        clip_grad_norm cqtd_* discriminator_channel_mult lambda_melloss mpd_reshapes resolutions use_cqtd_instead_of_mrd
        use_multiscale_melloss use_spectral_norm
    """,
)


# mmaudio/ext/bigvgan/bigvgan_vocoder.yml, and mel_converter.py at 16 kHz
_MMAUDIO: Settings = {
    **{"resblock": "1", "activation": "snakebeta", "snake_logscale": True},
    **{"upsample_rates": [4, 4, 2, 2, 2, 2], "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4]},
    **{"resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3},
    **{"sampling_rate": 16000, "n_fft": 1024, "hop_size": 256, "win_size": 1024, "num_mels": 80, "fmin": 0},
    "fmax": 8000,
}


def _convert_mmaudio(config: Settings, weights: Weights, stated: MelConfig | None) -> Imported:
    sizes = {**_MMAUDIO, "upsample_initial_channel": len(weights["conv_pre.bias"])}
    imported = _convert(sizes, weights, stated)
    return imported._replace(mel_config=imported.mel_config.model_copy(update={"log": "log10"}))


MMAUDIO = Importer(
    "mmaudio",
    "hkchengrex/MMAudio, its BigVGAN of 16 kHz: best_netG.pt",
    _convert_mmaudio,
    recognizes=lambda _: False,
    checkpoints=("best_netG.pt",),
    configs=(),
    needs_config=False,
)


def bigvgan_weights(weights: Weights, resblocks: int) -> Weights:
    """Rename NVIDIA/BigVGAN's keys, of so many residual blocks per upsampling.

    Raises VocoderError for a filter other than ``AliasFreeSnake``'s.
    """
    for key in [key for key in weights if _FILTER.search(key)]:
        taps = weights[key].flatten().float()
        expected = low_pass_filter()
        if taps.shape != expected.shape or not torch.allclose(taps, expected, atol=1e-6, rtol=0):
            raise VocoderError(f"BigVGAN with another low-pass filter is not supported: {key} is not the published one")
    kept = {key: value for key, value in weights.items() if not _FILTER.search(key)}
    kept = rename(kept, [(r"^ups\.(\d+)\.0\.", r"ups.\1."), (r"\.act\.", ".")])
    return hifi_gan_weights(fold_weight_norm(kept), resblocks)
