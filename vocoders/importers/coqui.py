"""Import HiFi-GAN of coqui-ai/TTS and its successor idiap/coqui-ai-TTS."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, check_only, fold_weight_norm, part
from vocoders.importers.hifi_gan import hifi_gan_config_of_factors, hifi_gan_weights

_EDGE_FRAMES = 5  # default of inference_padding in vocoder/models/hifigan_generator.py
# defaults of BaseAudioConfig in config/shared_configs.py that affect the mel
_AUDIO: Settings = {
    "fft_size": 1024,
    "win_length": 1024,
    "hop_length": 256,
    "sample_rate": 22050,
    "num_mels": 80,
    "mel_fmin": 0.0,
    "mel_fmax": None,
    "stft_pad_mode": "reflect",
    "preemphasis": 0.0,
    "do_amp_to_db_mel": True,
    "log_func": "np.log10",
    "spec_gain": 20,
    "signal_norm": True,
    "min_level_db": -100,
    "ref_level_db": 20,
    "symmetric_norm": True,
    "max_norm": 4.0,
    "clip_norm": True,
    "stats_path": None,
}
_FLOOR = 1e-8  # amp_to_db in utils/audio/numpy_transforms.py


def _convert(config: Settings, weights: Weights, _: MelConfig | None) -> Imported:
    kind = config.get("generator_model")
    if kind != "hifigan_generator":
        raise VocoderError(f"the generator_model {kind} of Coqui TTS is not supported, only hifigan_generator")
    check_only(config, "Coqui TTS", use_pqmf=False)
    audio = _AUDIO | part(config, "audio")
    params, levels = part(config, "generator_model_params"), _levels(audio)
    weights = fold_weight_norm(weights)
    if not params.get("conv_post_bias", True):
        weights["conv_post.bias"] = torch.zeros(1)
    weights = hifi_gan_weights(weights, len(params["resblock_kernel_sizes"]))
    bands = torch.ones(audio["num_mels"], 1)
    weights |= {"standardize.mean": levels.mean * bands, "standardize.scale": levels.scale * bands}
    own = hifi_gan_config_of_factors(params, weights, _EDGE_FRAMES)
    return Imported("hifigan", own, _mel_config(audio, levels), weights)


COQUI = Importer(
    "coqui",
    "coqui-ai/TTS and idiap/coqui-ai-TTS, their HiFi-GAN: model_file.pth or another checkpoint, and config.json",
    _convert,
    recognizes=lambda config: "generator_model" in config,
    checkpoints=("model_file.pth", "best_model*.pth", "checkpoint_*.pth"),
    harmless="""
        allow_tf32 batch_* *_batch best_path conv_pad continue_path cudnn_* dashboard_logger data_path datasets
        diff_samples_for_G_and_D discriminator_* distributed* epochs eval_* *eval feature_path gpu grad_* git* group_id
        keep_* log* lr* *_loss *_loss_* mixed_precision model model_param_stats num_* optimizer* output_path pad_short
        plot_step precision print_* project_name rank resample restore_path run_* save_* scheduler_* seq_len
        skip_train_epoch small_run start_* steps_to_start_discriminator target_loss tb_* test_delay_epochs train*
        use_*_loss use_accelerate use_cache use_ddp use_grad_scaler use_noise_augment verbose wandb* wd
        audio.*_level audio.*_level_db audio.*_norm audio.do_amp_to_db_linear audio.do_trim_silence
        audio.griffin_lim_iters audio.pitch_* audio.power audio.resample audio.stats_path audio.trim_db audio.verbose
        generator_model_params.in_channels generator_model_params.conv_*_weight_norm
    """,
)


class _Levels(NamedTuple):
    """Scaling of a network's mel: (log mel - mean) / scale, clipped below a linear value of ``floor``."""

    mean: float
    scale: float
    floor: float


def _levels(audio: Settings) -> _Levels:
    """Return the scaling of ``AudioProcessor.normalize`` (utils/audio/processor.py), without its upper clipping."""
    gain = float(audio["spec_gain"])
    if not audio["signal_norm"]:
        return _Levels(0.0, 1 / gain, _FLOOR)
    # Maps min_level_db + ref_level_db ... ref_level_db to low ... max_norm.
    high = float(audio["max_norm"])
    low = -high if audio["symmetric_norm"] else 0.0
    span = -float(audio["min_level_db"]) / (high - low) / gain
    bottom = (audio["min_level_db"] + audio["ref_level_db"]) / gain
    base = math.e if audio["log_func"] == "np.log" else 10.0
    floor = max(_FLOOR, base**bottom) if audio["clip_norm"] else _FLOOR
    return _Levels(bottom - low * span, span, floor)


def _mel_config(audio: Settings, levels: _Levels) -> MelConfig:
    """Return the mel config of ``AudioProcessor.melspectrogram``; VocoderError if unsupported."""
    check_only(audio, "a mel", stft_pad_mode="reflect", preemphasis=0, do_amp_to_db_mel=True)
    check_only(audio, "a mel", frame_shift_ms=None, frame_length_ms=None)  # they replace lengths in samples
    if audio["signal_norm"] and audio["stats_path"]:
        raise VocoderError(
            f"mels normalised by the file {audio['stats_path']} (stats_path), a pickle, are not supported"
        )
    logs = {"np.log": "ln", "np.log10": "log10"}
    values = {
        "sample_rate": audio["sample_rate"],
        "n_fft": audio["fft_size"],
        "hop_length": audio["hop_length"],
        "win_length": audio["win_length"],
        "n_mels": audio["num_mels"],
        "fmin": audio["mel_fmin"] or 0,
        "fmax": audio["mel_fmax"] or audio["sample_rate"] / 2,
        "padding": "center",
        "log": logs.get(audio["log_func"], audio["log_func"]),
        "floor": levels.floor,
    }
    return bind(MelConfig, values, "the mel config in the configuration")
