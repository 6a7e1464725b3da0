"""Import HiFi-GAN of speechbrain/speechbrain."""

from __future__ import annotations

import math

import torch

from vocoders.config import bind
from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import (
    Imported,
    Importer,
    Settings,
    Weights,
    check_only,
    fold_weight_norm,
    part,
    rename,
    require_mel_config,
    resolved,
)
from vocoders.importers.hifi_gan import hifi_gan_config_of_factors, hifi_gan_weights

_EDGE_FRAMES = 5  # default of inference_padding in lobes/models/HifiGAN.py


def _convert(config: Settings, weights: Weights, stated: MelConfig | None) -> Imported:
    params = resolved(part(config, "generator"), config)
    kind = str(params.get("!", "")).rpartition(".")[2]
    if kind != "HifiganGenerator":
        kind = kind or "without a class"
        raise VocoderError(f"the generator {kind} of SpeechBrain is not supported, only HifiganGenerator")
    weights = rename(fold_weight_norm(weights), [(r"\.conv\.", ".")])
    if not params.get("conv_post_bias", True):
        weights["conv_post.bias"] = torch.zeros(1)
    weights = hifi_gan_weights(weights, len(params["resblock_kernel_sizes"]))
    own = hifi_gan_config_of_factors(params, weights, _EDGE_FRAMES) | {"padding_mode": "reflect"}  # nnet/CNN.py, Conv1d
    mel_config = stated
    if "mel_spectogram" in config:
        mel_config = _mel_config(config)
    elif stated is None:  # a file for synthesis only: by rate, as in the recipes
        sizes = config.get("sample_rate"), params["in_channels"], math.prod(params["upsample_factors"])
        known = (MEL_CONFIGS["tacotron2-22k"], MEL_CONFIGS["speechbrain-16k"])
        mel_config = next((m for m in known if sizes == (m.sample_rate, m.n_mels, m.hop_length)), None)
    return Imported("hifigan", own, require_mel_config(mel_config), weights)


SPEECHBRAIN = Importer(
    "speechbrain",
    "speechbrain/speechbrain, its HiFi-GAN: generator.ckpt and hyperparams.yaml",
    _convert,
    recognizes=lambda config: "generator" in config,
    checkpoints=("generator.ckpt",),
    configs=("hyperparams.yaml",),
    harmless="""
        __set_seed adam_* batch_size *channels checkpoint* compute_cost conv_post_bias discriminator*
        dynamic_range_compression epoch* *_folder hop_length inference_padding *_json keep_checkpoint_interval
        learning_rate libritts_subsets *_log *_logger *_loss mel_* modules n_fft norm num_workers opt_class* *_opts
        power pretrain* progress_* resblock_* sample_rate sch_class* seed segment_size skip_prep split* upsample_*
        use_tensorboard weight_decay win_length generator.in_channels
    """,
    mel_configs={  # recipes/LJSpeech/TTS/vocoder/hifigan and recipes/LibriTTS/vocoder/hifigan
        "tts-hifigan-ljspeech": MEL_CONFIGS["tacotron2-22k"],
        "tts-hifigan-libritts-22050Hz": MEL_CONFIGS["tacotron2-22k"],
        "tts-hifigan-libritts-16kHz": MEL_CONFIGS["speechbrain-16k"],
    },
)


def _mel_config(config: Settings) -> MelConfig:
    """Return the mel config of ``mel_spectogram`` (lobes/models/HifiGAN.py); VocoderError if unsupported."""
    given = resolved(part(config, "mel_spectogram"), config)
    if (kind := str(given.get("!", "mel_spectogram")).rpartition(".")[2]) != "mel_spectogram":
        raise VocoderError(f"the mel_spectogram {kind} of SpeechBrain is not supported, only mel_spectogram")
    check_only(given, "a mel_spectogram", normalized=False, compression=True)
    values = {
        "sample_rate": given["sample_rate"],
        "n_fft": given["n_fft"],
        "hop_length": given["hop_length"],
        "win_length": given["win_length"],
        "n_mels": given["n_mels"],
        "fmin": given["f_min"],
        "fmax": given["sample_rate"] / 2 if given["f_max"] is None else given["f_max"],
        "mel_scale": given["mel_scale"],
        "mel_norm": given["norm"] or "none",
        "power": given["power"],
        "padding": "center",
    }
    return bind(MelConfig, values, "the mel config in the configuration")
