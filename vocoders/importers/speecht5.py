"""Import transformers' HiFi-GAN of SpeechT5, FastSpeech2Conformer and AudioLDM."""

from __future__ import annotations

import math

from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.importers.base import (
    Imported,
    Importer,
    Settings,
    Weights,
    check_only,
    fold_weight_norm,
    rename,
    require_mel_config,
)
from vocoders.importers.hifi_gan import hifi_gan_variant_config, hifi_gan_weights


def _convert(config: Settings, weights: Weights, mel_config: MelConfig | None) -> Imported:
    check_only(config, "a HiFi-GAN", leaky_relu_slope=0.1)
    weights = rename(fold_weight_norm(weights), [(r"^upsampler\.", "ups.")])
    mean, scale = (weights.pop(key).reshape(-1, 1) for key in ("mean", "scale"))
    weights = hifi_gan_weights(weights, len(config["resblock_kernel_sizes"]))
    if config.get("normalize_before", True):
        weights |= {"standardize.mean": mean, "standardize.scale": scale}
    # FastSpeech2ConformerHifiGan's configuration has no sampling_rate.
    sizes = config.get("sampling_rate"), config["model_in_dim"], math.prod(config["upsample_rates"])
    for known in (MEL_CONFIGS["speecht5-16k"], MEL_CONFIGS["audioldm-16k"]):
        if mel_config is None and sizes == (known.sample_rate, known.n_mels, known.hop_length):
            mel_config = known
    own = hifi_gan_variant_config(config | {"resblock": 1}, weights)
    return Imported("hifigan", own, require_mel_config(mel_config), weights)


SPEECHT5 = Importer(
    "speecht5-hifigan",
    "SpeechT5HifiGan, that of AudioLDM too, and FastSpeech2ConformerHifiGan of transformers: pytorch_model.bin or "
    "model.safetensors, config.json",
    _convert,
    recognizes=lambda config: {"model_in_dim", "upsample_rates"} <= config.keys(),
    checkpoints=("model.safetensors", "pytorch_model.bin"),
    harmless="_* architectures auto_map dtype initializer_range model_type torch_dtype transformers_version",
    mel_configs={"fastspeech2_conformer_hifigan": MEL_CONFIGS["pwg-ljspeech-22k"]},  # ESPnet2 on LJ Speech
)
