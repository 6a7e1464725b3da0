"""HiFi-GAN as coqui-ai/TTS and its successor idiap/coqui-ai-TTS write it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, fold_weight_norm
from vocoders.importers.hifi_gan import hifi_gan_config_of_factors, hifi_gan_weights

_EDGE_FRAMES = 5  # the default of inference_padding in vocoder/models/hifigan_generator.py
# The defaults of BaseAudioConfig in config/shared_configs.py, of what decides the numbers of a mel
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


def _convert(config: Settings, content: Settings, _: MelConfig | None) -> Imported:
    kind = config.get("generator_model")
    if kind != "hifigan_generator":
        raise VocoderError(f"the generator_model {kind} of Coqui TTS is not supported, only hifigan_generator")
    audio = _AUDIO | config["audio"]
    params, levels = config["generator_model_params"], _levels(audio)
    weights = {key.removeprefix("model_g."): value for key, value in content["model"].items() if _is_generator(key)}
    weights = fold_weight_norm(weights)
    if not params.get("conv_post_bias", True):
        weights["conv_post.bias"] = torch.zeros(1)
    weights = hifi_gan_weights(weights, len(params["resblock_kernel_sizes"]))
    bands = torch.ones(audio["num_mels"], 1)
    weights |= {"standardize.mean": levels.mean * bands, "standardize.scale": levels.scale * bands}
    return Imported("hifigan", hifi_gan_config_of_factors(params, _EDGE_FRAMES), _mel_config(audio, levels), weights)


COQUI = Importer(
    "coqui",
    "coqui-ai/TTS and idiap/coqui-ai-TTS, their HiFi-GAN: model_file.pth or another checkpoint, and config.json",
    _convert,
    recognizes=lambda config: "generator_model" in config,
    checkpoints=("model_file.pth", "best_model*.pth", "checkpoint_*.pth"),
)


def _is_generator(key: str) -> bool:
    """Whether a weight belongs to the generator: a checkpoint of the whole model has it beside the discriminator."""
    return not key.startswith("model_d.")


class _Levels(NamedTuple):
    """How a network takes its mel: (log mel - mean) / scale, cut off below a linear value of ``floor``."""

    mean: float
    scale: float
    floor: float


def _levels(audio: Settings) -> _Levels:
    """Return what ``AudioProcessor`` makes of a logarithm: utils/audio/processor.py, ``normalize``.

    It also cuts off what is far above full scale; that is left as it is here.
    """
    gain = float(audio["spec_gain"])
    if not audio["signal_norm"]:
        return _Levels(0.0, 1 / gain, _FLOOR)
    # The levels from min_level_db + ref_level_db to ref_level_db become those from low to max_norm.
    high = float(audio["max_norm"])
    low = -high if audio["symmetric_norm"] else 0.0
    span = -float(audio["min_level_db"]) / (high - low) / gain
    bottom = (audio["min_level_db"] + audio["ref_level_db"]) / gain
    base = math.e if audio["log_func"] == "np.log" else 10.0
    floor = max(_FLOOR, base**bottom) if audio["clip_norm"] else _FLOOR
    return _Levels(bottom - low * span, span, floor)


def _mel_config(audio: Settings, levels: _Levels) -> MelConfig:
    """Return the mel config of ``AudioProcessor.melspectrogram``.

    Raises:
        VocoderError: when it is one that this package cannot compute.
    """
    for key, only in (("stft_pad_mode", "reflect"), ("preemphasis", 0), ("do_amp_to_db_mel", True)):
        if audio[key] != only:
            raise VocoderError(f"mels with {key} {audio[key]} are not supported, only {only}")
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
