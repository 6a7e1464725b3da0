"""Import iSTFTNet of rishikksh20/iSTFTNet-pytorch."""

from __future__ import annotations

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, fold_weight_norm
from vocoders.importers.hifi_gan import TRAINING, hifi_gan_config, hifi_gan_mel_config, hifi_gan_weights, is_hifi_gan


def _convert(config: Settings, weights: Weights, _: MelConfig | None) -> Imported:
    hop = config["gen_istft_hop_size"]
    if config["gen_istft_n_fft"] != 4 * hop:
        raise VocoderError(
            f"gen_istft_n_fft must be 4 x gen_istft_hop_size = {4 * hop}, got {config['gen_istft_n_fft']}"
        )
    weights = hifi_gan_weights(fold_weight_norm(weights), len(config["resblock_kernel_sizes"]))
    own = hifi_gan_config(config, weights) | {"istft_hop": hop}
    return Imported("istftnet", own, hifi_gan_mel_config(config), weights)


ISTFTNET = Importer(
    "istftnet",
    'rishikksh20/iSTFTNet-pytorch: a checkpoint {"generator": ...} and config.json',
    _convert,
    recognizes=lambda config: is_hifi_gan(config) and "gen_istft_n_fft" in config,
    checkpoints=("generator*", "g_*"),
    harmless=TRAINING,
)
