"""Import Parallel WaveGAN and HiFi-GAN of kan-bayashi/ParallelWaveGAN."""

from __future__ import annotations

import math
from pathlib import Path

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.generators.hifigan import SLOPE
from vocoders.importers.base import Imported, Importer, Settings, Weights, check_only, fold_weight_norm, part, rename
from vocoders.importers.hifi_gan import hifi_gan_weights


def _convert(config: Settings, weights: Weights, _: MelConfig | None) -> Imported:
    kind = config.get("generator_type", "ParallelWaveGANGenerator")
    if kind not in ("HiFiGANGenerator", "ParallelWaveGANGenerator"):
        raise VocoderError(f"{kind} is not supported, only HiFiGANGenerator and ParallelWaveGANGenerator")
    params, weights = part(config, "generator_params"), fold_weight_norm(weights)
    check_only(params, kind, out_channels=1, bias=True, use_causal_conv=False)
    check_only(config, kind, use_global_condition=False, use_local_condition=False)
    own, weights = (_hifi_gan if kind == "HiFiGANGenerator" else _parallel_wavegan)(params, weights)
    mel_config, unit = _mel_config(config)
    own["sample_rate"] = config["sampling_rate"]
    name = "hifigan" if kind == "HiFiGANGenerator" else "parallel-wavegan"
    return Imported(name, own, mel_config, weights, unit=unit)


def _standardizes(config: Settings) -> bool:
    """Whether training normalised the mels, told by their folder in the configuration.

    bin/train.py writes its arguments into config.yml; every run.sh (egs) computes mels into .../raw and normalises them
    into .../norm for training.
    """
    parts = Path(config.get("train_dumpdir") or "norm").parts
    return next((part for part in reversed(parts) if part in ("raw", "norm")), "norm") == "norm"


PARALLEL_WAVEGAN = Importer(
    "parallel-wavegan",
    "kan-bayashi/ParallelWaveGAN, its Parallel WaveGAN and its HiFi-GAN: checkpoint-*steps.pkl, config.yml, stats.h5",
    _convert,
    recognizes=lambda config: {"generator_params", "sampling_rate", "hop_size"} <= config.keys(),
    checkpoints=("checkpoint-*steps.pkl",),
    harmless="""
        allow_cache batch_* config dev_* discriminator_* distributed *_loss_params *_interval_steps feats_scp format
        generator_adv_loss_params generator_grad_norm generator_optimizer_* generator_scheduler_*
        generator_train_start_steps global_gain_scale lambda_* num_save_intermediate_results num_workers outdir
        pin_memory pretrain rank remove_short_samples resume rootdir segments train_* trim_* use_*_loss verbose version
        wav_scp generator_params.*aux_channels generator_params.dropout generator_params.in_channels
        generator_params.use_weight_norm
    """,
    standardizes=_standardizes,
)


def _mel_config(config: Settings) -> tuple[MelConfig, float]:
    """Return the mel config of bin/preprocess.py, and the unit of the statistics, see ``Imported``.

    With sampling_rate_for_feats, mels are those of another rate than the audio's, and hop_size counts its samples.
    """
    check_only(config, "a mel", window="hann")
    base = config.get("log_base", 10.0)
    if base not in (None, 2.0, 10.0):
        raise VocoderError(f"a mel with log_base {base} is not supported, only 10.0, 2.0 and null")
    rate = config.get("sampling_rate_for_feats") or config["sampling_rate"]
    hop, rest = divmod(config["hop_size"] * rate, config["sampling_rate"])
    if rest:
        raise VocoderError(f"sampling_rate_for_feats {rate} divides a hop_size of {config['hop_size']} unevenly")
    values = {
        "sample_rate": rate,
        "hop_length": hop,
        "n_fft": config["fft_size"],
        "win_length": config.get("win_length") or config["fft_size"],
        "n_mels": config["num_mels"],
        "fmin": config.get("fmin") or 0,
        "fmax": config.get("fmax") or rate / 2,
        "padding": "center",
        "log": "log10" if base == 10 else "ln",
        "floor": 1e-10,
    }
    unit = math.log(2) if base == 2 else 1.0  # log2 in natural logarithms
    return bind(MelConfig, values, "the mel config in the configuration"), unit


def _hifi_gan(params: Settings, weights: Weights) -> tuple[Settings, Weights]:
    check_only(params, "HiFiGANGenerator", kernel_size=7, nonlinear_activation="LeakyReLU")
    if "nonlinear_activation_params" in params:  # default negative_slope: torch.nn.LeakyReLU's
        slope = part(params, "nonlinear_activation_params").get("negative_slope", 0.01)
        check_only({"negative_slope": slope}, "HiFiGANGenerator", negative_slope=SLOPE)
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
    return config, hifi_gan_weights(weights, len(params["resblock_kernel_sizes"]))


def _parallel_wavegan(params: Settings, weights: Weights) -> tuple[Settings, Weights]:
    check_only(
        params,
        "ParallelWaveGANGenerator",
        in_channels=1,
        upsample_conditional_features=True,
        upsample_net="ConvInUpsampleNetwork",
    )
    upsampling = part(params, "upsample_params")
    check_only(upsampling, "ConvInUpsampleNetwork", nonlinear_activation=None, interpolate_mode="nearest")
    check_only(upsampling, "ConvInUpsampleNetwork", freq_axis_kernel_size=1, use_causal_conv=False)
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
    config["upsample_rates"] = upsampling["upsample_scales"]
    return config, weights
