"""Import HiFi-GAN of open-mmlab/Amphion."""

from __future__ import annotations

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, check_only, fold_weight_norm, part
from vocoders.importers.hifi_gan import hifi_gan_mel_config, hifi_gan_variant_config, hifi_gan_weights


def _convert(config: Settings, weights: Weights, _: MelConfig | None) -> Imported:
    model = part(config, "model")
    if (kind := model.get("generator")) != "hifigan":
        raise VocoderError(f"the generator {kind} of Amphion is not supported, only hifigan")
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
    "open-mmlab/Amphion, its HiFi-GAN: *.pt, or pytorch_model.bin or model.safetensors in a folder of checkpoint, and "
    "args.json",
    _convert,
    recognizes=lambda config: {"model", "preprocess"} <= config.keys(),
    checkpoints=("model.safetensors", "pytorch_model.bin", "*.pt"),
    harmless="""
        base_config dataset* exp_name inference log_dir model_type supported_model_type task_type train
        use_custom_dataset model.discriminators model.m*d
        preprocess.align_mel_duration preprocess.bits preprocess.cut_mel_frame preprocess.data_augment
        preprocess.energy_* preprocess.extract_* preprocess.f0_m?? preprocess.file_lst preprocess.is_mu_law
        preprocess.lexicon_path preprocess.*_level_db preprocess.num_silent_frames preprocess.phone_* preprocess.pitch_*
        preprocess.*_dir preprocess.*_file preprocess.raw_data preprocess.*2id preprocess.*2utt preprocess.utt2*
        preprocess.symbols_dict preprocess.trim_* preprocess.use_*
    """,
    configs=("args.json", "../args.json", "../../args.json"),
)
