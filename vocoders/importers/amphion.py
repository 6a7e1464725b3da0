"""Import HiFi-GAN and Vocos of open-mmlab/Amphion, and of its Vevo."""

from __future__ import annotations

import math

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, check_only, fold_weight_norm, part
from vocoders.importers.hifi_gan import hifi_gan_mel_config, hifi_gan_variant_config, hifi_gan_weights
from vocoders.importers.vocos import vocos_weights


def _convert(config: Settings, weights: Weights, _: MelConfig | None) -> Imported:
    model = part(config, "model")
    if "vocos" in model:
        return _vocos(part(model, "vocos"), part(config, "preprocess"), weights)
    if (kind := model.get("generator")) != "hifigan":
        raise VocoderError(f"the generator {kind} of Amphion is not supported, only hifigan and Vocos")
    preprocess, sizes = part(config, "preprocess"), part(model, "hifigan")
    if mode := preprocess.get("mel_extract_mode"):
        raise VocoderError(f"mels with mel_extract_mode {mode} are not supported, only those without")
    check_only(preprocess, "a mel", mel_min_max_norm=False, use_min_max_norm_mel=False)
    # utils/mel.py, extract_mel_features: as HiFi-GAN, with other names
    mel = preprocess | {"sampling_rate": preprocess["sample_rate"], "num_mels": preprocess["n_mel"]}
    weights = hifi_gan_weights(fold_weight_norm(weights), len(sizes["resblock_kernel_sizes"]))
    return Imported("hifigan", hifi_gan_variant_config(sizes, weights), hifi_gan_mel_config(mel), weights)


AMPHION = Importer(
    "amphion",
    "open-mmlab/Amphion, its HiFi-GAN and the Vocos of Vevo and VevoSing: *.pt, or pytorch_model.bin or "
    "model.safetensors in a folder of checkpoint, and args.json, Vocoder.json or vocoder.json",
    _convert,
    recognizes=lambda config: {"model", "preprocess"} <= config.keys(),
    checkpoints=("model.safetensors", "pytorch_model.bin", "*.pt"),
    harmless="""
        base_config dataset* exp_name inference log_dir loss model_type singnet_path supported_model_type task_type
        train use_custom_dataset model.discriminators model.m*d model.period_gan model.spec_gan
        model.vocos.input_channels preprocess.load_* preprocess.max_length
        preprocess.align_mel_duration preprocess.bits preprocess.cut_mel_frame preprocess.data_augment
        preprocess.energy_* preprocess.extract_* preprocess.f0_m?? preprocess.file_lst preprocess.is_mu_law
        preprocess.lexicon_path preprocess.*_level_db preprocess.num_silent_frames preprocess.phone_* preprocess.pitch_*
        preprocess.*_dir preprocess.*_file preprocess.raw_data preprocess.*2id preprocess.*2utt preprocess.utt2*
        preprocess.symbols_dict preprocess.trim_* preprocess.use_*
    """,
    configs=tuple(
        folder + name for name in ("args.json", "Vocoder.json", "vocoder.json") for folder in ("", "../", "../../")
    ),
)


def _vocos(sizes: Settings, preprocess: Settings, weights: Weights) -> Imported:
    """Convert models/vocoders/vocos; its mels are standardised by one mean and one variance."""
    check_only(sizes, "Vocos", adanorm_num_embeddings=None, padding="same", n_fft=preprocess["n_fft"])
    check_only(sizes, "Vocos", hop_size=preprocess["hop_size"])
    own = {
        "channels": sizes["dim"],
        "blocks": sizes["num_layers"],
        "expansion": sizes["intermediate_dim"] // sizes["dim"],
        "n_fft": sizes["n_fft"],
        "mean": preprocess["mel_mean"],
        "scale": math.sqrt(preprocess["mel_var"]),
    }
    mel = preprocess | {"sampling_rate": preprocess["sample_rate"]}
    return Imported("vocos", own, hifi_gan_mel_config(mel), vocos_weights(weights))
