"""Parallel WaveGAN and HiFi-GAN as kan-bayashi/ParallelWaveGAN writes them."""

from __future__ import annotations

from pathlib import Path

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, fold_weight_norm, rename
from vocoders.importers.hifi_gan import hifi_gan_weights


def _convert(config: Settings, content: Settings, _: MelConfig | None) -> Imported:
    params, weights = config["generator_params"], fold_weight_norm(content["model"]["generator"])
    mel_config = _mel_config(config)
    kind = config.get("generator_type", "ParallelWaveGANGenerator")
    if kind == "HiFiGANGenerator":
        return _hifi_gan(params, weights, mel_config)
    upsampling = params.get("upsample_net", "ConvInUpsampleNetwork")
    if (kind, upsampling) != ("ParallelWaveGANGenerator", "ConvInUpsampleNetwork"):
        raise VocoderError(
            f"{kind} with {upsampling} is not supported, only HiFiGANGenerator, and ParallelWaveGANGenerator with "
            f"ConvInUpsampleNetwork"
        )
    return _parallel_wavegan(params, weights, mel_config)


def _standardizes(config: Settings) -> bool:
    """Tell whether the mels of the training were normalised, by their folder in the configuration.

    bin/train.py writes its arguments into config.yml, and normalises nothing itself: the run.sh of every recipe on mels
    (egs) computes them into .../raw, then normalises them into .../norm and trains on those.
    """
    parts = Path(config.get("train_dumpdir") or "norm").parts
    return next((part for part in reversed(parts) if part in ("raw", "norm")), "norm") == "norm"


PARALLEL_WAVEGAN = Importer(
    "parallel-wavegan",
    "kan-bayashi/ParallelWaveGAN, its Parallel WaveGAN and its HiFi-GAN: checkpoint-*steps.pkl, config.yml, stats.h5",
    _convert,
    recognizes=lambda config: {"generator_params", "sampling_rate", "hop_size"} <= config.keys(),
    checkpoints=("checkpoint-*steps.pkl",),
    standardizes=_standardizes,
)


def _mel_config(config: Settings) -> MelConfig:
    """Return the mel config of bin/preprocess.py."""
    values = {
        "sample_rate": config["sampling_rate"],
        "n_fft": config["fft_size"],
        "hop_length": config["hop_size"],
        "win_length": config.get("win_length") or config["fft_size"],
        "n_mels": config["num_mels"],
        "fmin": config.get("fmin") or 0,
        "fmax": config.get("fmax") or config["sampling_rate"] / 2,
        "padding": "center",
        "log": "log10",
        "floor": 1e-10,
    }
    return bind(MelConfig, values, "the mel config in the configuration")


def _hifi_gan(params: Settings, weights: Weights, mel_config: MelConfig) -> Imported:
    weights = rename(
        weights,
        [
            (r"^input_conv\.", "conv_pre."),
            (r"^upsamples\.(\d+)\.1\.", r"ups.\1."),
            (r"^blocks\.(\d+)\.convs(\d)\.(\d+)\.1\.", r"resblocks.\1.convs\2.\3."),
            (r"^output_conv\.1\.", "conv_post."),
        ],
    )
    config = {
        "channels": params["channels"],
        "upsample_rates": params["upsample_scales"],
        "upsample_kernel_sizes": params.get("upsample_kernel_sizes") or params["upsample_kernal_sizes"],
        "resblock": 1 if params.get("use_additional_convs", True) else 2,
        "resblock_kernel_sizes": params["resblock_kernel_sizes"],
        "resblock_dilations": params["resblock_dilations"],
    }
    return Imported("hifigan", config, mel_config, hifi_gan_weights(weights, len(params["resblock_kernel_sizes"])))


def _parallel_wavegan(params: Settings, weights: Weights, mel_config: MelConfig) -> Imported:
    if params.get("use_causal_conv"):
        raise VocoderError("causal Parallel WaveGAN is not supported")
    weights = rename(
        weights,
        [
            (r"^upsample_net\.conv_in\.", "conv_in."),
            (r"^upsample_net\.upsample\.up_layers\.(\d+)\.", lambda m: f"smooth.{int(m[1]) // 2}."),
            (r"^last_conv_layers\.1\.", "last_conv1."),
            (r"^last_conv_layers\.3\.", "last_conv2."),
        ],
    )
    same = ("layers", "stacks", "kernel_size", "residual_channels", "gate_channels", "skip_channels")
    config = {key: params[key] for key in same}
    config["context"] = params["aux_context_window"]
    config["upsample_rates"] = params["upsample_params"]["upsample_scales"]
    return Imported("parallel-wavegan", config, mel_config, weights)
