"""Import Parallel WaveGAN, MelGAN, StyleMelGAN and HiFi-GAN of kan-bayashi/ParallelWaveGAN."""

from __future__ import annotations

import math
import re
from pathlib import Path

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.generators.hifigan import SLOPE
from vocoders.importers.base import Imported, Importer, Settings, Weights, check_only, fold_weight_norm, part, rename
from vocoders.importers.hifi_gan import hifi_gan_weights


def _convert(config: Settings, weights: Weights, _: MelConfig | None) -> Imported:
    kinds = {
        "ParallelWaveGANGenerator": ("parallel-wavegan", _parallel_wavegan),
        "HiFiGANGenerator": ("hifigan", _hifi_gan),
        "MelGANGenerator": ("melgan", _melgan),
        "StyleMelGANGenerator": ("style-melgan", _style_melgan),
    }
    kind = config.get("generator_type", "ParallelWaveGANGenerator")
    if kind not in kinds:
        raise VocoderError(f"{kind} is not supported, only {', '.join(kinds)}")
    name, convert = kinds[kind]
    params, weights = part(config, "generator_params"), fold_weight_norm(weights)
    check_only(params, kind, bias=True, use_causal_conv=False)
    check_only(config, kind, use_global_condition=False, use_local_condition=False)
    own, weights = convert(params, weights)
    if name == "melgan":
        own["cutoff"] = _cutoff(config)
    else:
        check_only(params, kind, out_channels=1)
    mel_config, unit = _mel_config(config)
    own["sample_rate"] = config["sampling_rate"]
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
    "kan-bayashi/ParallelWaveGAN, its Parallel WaveGAN, MelGAN, StyleMelGAN and HiFi-GAN: checkpoint-*steps.pkl, "
    "config.yml, stats.h5",
    _convert,
    recognizes=lambda config: {"generator_params", "sampling_rate", "hop_size"} <= config.keys(),
    checkpoints=("checkpoint-*steps.pkl",),
    harmless="""
        allow_cache batch_* config dev_* discriminator_* distributed *_loss_params *_interval_steps feats_scp format
        generator_adv_loss_params generator_grad_norm generator_optimizer_* generator_scheduler_*
        generator_train_start_steps global_gain_scale lambda_* num_save_intermediate_results num_workers outdir
        pin_memory pretrain rank remove_short_samples resume rootdir segments subband_stft_loss_params train_* trim_*
        use_*_loss verbose version wav_scp generator_params.*aux_channels generator_params.dropout
        generator_params.in_channels generator_params.use_weight_norm
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


def _check_slope(params: Settings, kind: str, only: float, key: str = "nonlinear_activation") -> None:
    """Raise VocoderError unless the activation is a leaky ReLU of the slope ``only``, the default."""
    check_only(params, kind, **{key: "LeakyReLU"})
    if f"{key}_params" in params:  # default negative_slope: torch.nn.LeakyReLU's
        slope = part(params, f"{key}_params").get("negative_slope", 0.01)
        check_only({"negative_slope": slope}, kind, negative_slope=only)


def _cutoff(config: Settings) -> float:
    """Return the filter bank's cutoff, which utils/utils.py, load_model, chooses by the version of the training."""
    given = part(config, "pqmf_params") if config.get("pqmf_params") else {}
    check_only(given, "PQMF", taps=62, beta=9.0)
    check_only(given, "PQMF", subbands=part(config, "generator_params").get("out_channels", 1))
    numbers = [int(number) for number in re.findall(r"\d+", str(config.get("version", "0.1.0")))]
    return float(given.get("cutoff_ratio", 0.15 if numbers <= [0, 4, 2] else 0.142))


def _melgan(params: Settings, weights: Weights) -> tuple[Settings, Weights]:
    kind = "MelGANGenerator"
    _check_slope(params, kind, 0.2)
    check_only(params, kind, pad="ReflectionPad1d", pad_params={}, use_final_nonlinear_activation=True)
    rates, stacks = params["upsample_scales"], params["stacks"]
    names = {1: "conv_pre", 4 + len(rates) * (stacks + 2): "conv_post"}
    for i in range(len(rates)):
        first = 3 + i * (stacks + 2)  # an activation stands before each upsampling
        names[first] = f"ups.{i}"
        names |= {first + 1 + j: f"stacks.{i}.{j}" for j in range(stacks)}
    weights = rename(
        weights,
        [
            (r"^melgan\.(\d+)\.", lambda m: f"{names.get(int(m[1]), m[0])}."),
            (r"\.stack\.2\.", ".conv1."),
            (r"\.stack\.4\.", ".conv2."),
            (r"\.skip_layer\.", ".skip."),
        ],
    )
    same = ("channels", "kernel_size", "stacks", "stack_kernel_size")
    config = {key: params[key] for key in same} | {"upsample_rates": rates, "bands": params.get("out_channels", 1)}
    return config, weights


def _style_melgan(params: Settings, weights: Weights) -> tuple[Settings, Weights]:
    kind = "StyleMelGANGenerator"
    check_only(params, kind, upsample_mode="nearest")
    _check_slope(params, kind, 0.2, "noise_upsample_activation")
    weights = rename(
        weights,
        [
            (r"^noise_upsample\.(\d+)\.", lambda m: f"noise_ups.{int(m[1]) // 2}."),
            (r"\.tade(\d)\.aux_conv\.0\.", r".norm\1.condition."),
            (r"\.tade(\d)\.gated_conv\.0\.", r".norm\1.affine."),
            (r"\.gated_conv(\d)\.", r".conv\1."),
            (r"^output_conv\.0\.", "output_conv."),
        ],
    )
    config = {key: params[key] for key in ("channels", "kernel_size", "dilation")}
    config |= {"noise_channels": params["in_channels"], "gate": params.get("gated_function", "softmax")}
    config |= {"noise_upsample_rates": params["noise_upsample_scales"], "upsample_rates": params["upsample_scales"]}
    return config, weights


def _hifi_gan(params: Settings, weights: Weights) -> tuple[Settings, Weights]:
    _check_slope(params, "HiFiGANGenerator", SLOPE)
    check_only(params, "HiFiGANGenerator", kernel_size=7)
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
