"""HiFi-GAN as open-mmlab/Amphion writes it."""

from __future__ import annotations

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, fold_weight_norm
from vocoders.importers.hifi_gan import hifi_gan_mel_config, hifi_gan_variant_config, hifi_gan_weights


def _convert(config: Settings, content: Settings, _: MelConfig | None) -> Imported:
    model, preprocess = config["model"], config["preprocess"]
    if model["generator"] != "hifigan":
        raise VocoderError(f"the generator {model['generator']} of Amphion is not supported, only hifigan")
    if mode := preprocess.get("mel_extract_mode"):
        raise VocoderError(f"mels with mel_extract_mode {mode} are not supported, only those without")
    sizes = model["hifigan"]
    # utils/mel.py, extract_mel_features: those of HiFi-GAN, with other names for three of the numbers
    mel = preprocess | {"sampling_rate": preprocess["sample_rate"], "num_mels": preprocess["n_mel"]}
    weights = content.get("generator_state_dict", content)  # of a .pt; accelerate writes them alone
    weights = {key.removeprefix("module."): value for key, value in weights.items()}  # of several GPUs
    weights = hifi_gan_weights(fold_weight_norm(weights), len(sizes["resblock_kernel_sizes"]))
    return Imported("hifigan", hifi_gan_variant_config(sizes), hifi_gan_mel_config(mel), weights)


AMPHION = Importer(
    "amphion",
    "open-mmlab/Amphion, its HiFi-GAN: *.pt, or pytorch_model.bin or model.safetensors in a folder of checkpoint, and "
    "args.json",
    _convert,
    recognizes=lambda config: {"model", "preprocess"} <= config.keys(),
    checkpoints=("model.safetensors", "pytorch_model.bin", "*.pt"),
    configs=("args.json", "../args.json", "../../args.json"),
)
