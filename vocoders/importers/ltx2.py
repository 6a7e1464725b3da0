"""Import LTX-2's vocoder, of Lightricks/LTX-2 and of diffusers."""

from __future__ import annotations

import re
from typing import Any

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, check_only, part, rename
from vocoders.importers.bigvgan import bigvgan_weights
from vocoders.importers.hifi_gan import hifi_gan_weights

# ltx_core/model/audio_vae/ops.py, AudioProcessor
_MEL_CONFIG = MelConfig.parse(
    "bigvgan-24k:sample_rate=16000,hop_length=160,n_mels=64,fmax=8000,padding=center,epsilon=0"
)
# diffusers' names, and those of the original
_SIZES = {
    "hidden_channels": "upsample_initial_channel",
    "upsample_factors": "upsample_rates",
    "upsample_kernel_sizes": "upsample_kernel_sizes",
    "resnet_kernel_sizes": "resblock_kernel_sizes",
    "resnet_dilations": "resblock_dilation_sizes",
}
# model_configurator.py, _vocoder_from_config
_DEFAULTS: Settings = {
    "upsample_initial_channel": 1024,
    "upsample_rates": [6, 5, 2, 2, 2],
    "upsample_kernel_sizes": [16, 15, 8, 4, 4],
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
}


def _convert(config: Settings, weights: Weights, stated: MelConfig | None) -> Imported:
    if "_class_name" in config:
        own, weights = _of_diffusers(config, weights)
    else:
        own = _original(part(config, "vocoder"))
        weights = {key.removeprefix("vocoder."): value for key, value in weights.items() if key.startswith("vocoder.")}
    if own["extension"] is None:
        return Imported("ltx2", own, stated or _MEL_CONFIG, _network("network.", own["network"], weights))
    first, second, analysis = (
        {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        for prefix in ("vocoder.", "bwe_generator.", "mel_stft.")
    )
    converted = _network("network.", own["network"], first)
    converted |= _network("extension.network.", own["extension"], second)
    converted |= {
        "extension.basis": analysis["stft_fn.forward_basis"],
        "extension.mel_basis": analysis["mel_basis"],
    }
    return Imported("ltx2", own, stated or _MEL_CONFIG, converted)


LTX2 = Importer(
    "ltx2",
    "LTX-2's vocoder in diffusers: diffusion_pytorch_model.safetensors and config.json, in its folder vocoder",
    _convert,
    recognizes=lambda config: str(config.get("_class_name")).startswith("LTX2Vocoder"),
    checkpoints=("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"),
    configs=("config.json",),
    harmless="_*",
)
LTX2_SINGLE_FILE = Importer(
    "ltx2-single-file",
    "LTX-2 of Lightricks, ltx-2*.safetensors, of which the vocoder alone is read",
    _convert,
    recognizes=lambda _: False,
    checkpoints=("ltx-2*.safetensors", "LTX2*.safetensors"),
    configs=(),
    needs_config=False,
    prefix="vocoder.",
    harmless="""
        * vocoder.activation vocoder.vocoder.output_sampling_rate vocoder.vocoder.apply_final_activation
        vocoder.bwe.apply_final_activation vocoder.bwe.use_tanh_at_final
    """,
)


def _of_diffusers(config: Settings, weights: Weights) -> tuple[dict[str, Any], Weights]:
    """Convert configuration and keys of diffusers to ``LTX2``'s and the original's."""
    check_only(config, "LTX-2", in_channels=128, out_channels=2, antialias_ratio=2, antialias_kernel_size=12)
    extended = config["_class_name"] == "LTX2VocoderWithBWE"
    check_only(config, "LTX-2", leaky_relu_negative_slope=0.1, antialias=extended)
    own: dict[str, Any] = {
        "network": _sizes({ours: config[theirs] for theirs, ours in _SIZES.items()}, config["act_fn"], config),
        "output": config["final_act_fn"] or "none",
        "extension": None,
        "sample_rate": config["output_sampling_rate"],
    }
    if extended:
        check_only(config, "LTX-2", bwe_in_channels=128, bwe_out_channels=2, bwe_final_act_fn=None)
        check_only(config, "LTX-2", bwe_leaky_relu_negative_slope=0.1, bwe_antialias=True, num_mel_channels=64)
        check_only(config, "LTX-2", bwe_antialias_ratio=2, bwe_antialias_kernel_size=12, input_sampling_rate=16000)
        sizes = {ours: config[f"bwe_{theirs}"] for theirs, ours in _SIZES.items()}
        own["extension"] = _sizes(sizes, config["bwe_act_fn"], {"final_bias": config["bwe_final_bias"]})
        check_only(config, "LTX-2", window_length=config["filter_length"])
        own |= {"extension_n_fft": config["filter_length"], "extension_hop_length": config["hop_length"]}
    names = [("resnets", "resblocks"), ("conv_in", "conv_pre"), ("conv_out", "conv_post"), ("act_out", "act_post")]
    rules = [(rf"(^|\.){theirs}\.", rf"\1{ours}.") for theirs, ours in [*names, ("upsamplers", "ups")]]
    return own, rename(weights, [*rules, (r"\.downsample\.filter$", ".downsample.lowpass.filter")])


def _original(config: Settings) -> dict[str, Any]:
    """Convert the configuration of Lightricks, in the metadata of its files."""
    extension = part(config, "bwe") if "bwe" in config else None
    network = config if extension is None else part(config, "vocoder")
    own: dict[str, Any] = {
        "network": _original_sizes(network, extension is not None),
        "output": "tanh" if network.get("use_tanh_at_final", True) else "clamp",
        "extension": None,
    }
    if extension is None:
        return own | {"sample_rate": network.get("output_sampling_rate", 24000)}
    check_only(extension, "LTX-2", input_sampling_rate=16000, num_mels=64)
    return own | {
        "extension": _original_sizes(extension, True),
        "extension_n_fft": extension["n_fft"],
        "extension_hop_length": extension["hop_length"],
        "sample_rate": extension["output_sampling_rate"],
    }


def _original_sizes(config: Settings, extended: bool) -> dict[str, Any]:
    check_only(config, "LTX-2", resblock="AMP1" if extended else "1", stereo=True)
    sizes = {key: config.get(key, default) for key, default in _DEFAULTS.items()}
    activation = config.get("activation", "snake") if extended else "leaky_relu"
    return _sizes(sizes, activation, {"final_bias": config.get("use_bias_at_final", True)})


def _sizes(config: Settings, activation: str, more: Settings) -> dict[str, Any]:
    """Return the configuration of a HiFi-GAN or BigVGAN."""
    own = {
        "channels": config["upsample_initial_channel"],
        "upsample_rates": config["upsample_rates"],
        "upsample_kernel_sizes": config["upsample_kernel_sizes"],
        "resblock_kernel_sizes": config["resblock_kernel_sizes"],
        "resblock_dilations": config["resblock_dilation_sizes"],
    }
    if activation == "leaky_relu":
        check_only(more, "LTX-2", final_bias=True)
        return own
    if activation != "snakebeta":
        raise VocoderError(f"LTX-2's vocoder with the activation {activation} is not supported, only snakebeta")
    return own | {"activation": activation, "output_bias": more["final_bias"]}


def _network(prefix: str, sizes: dict[str, Any], weights: Weights) -> Weights:
    """Rename the weights of one network."""
    blocks = len(sizes["resblock_kernel_sizes"])
    if "activation" in sizes:
        weights = rename(
            weights, [(r"\.acts([12])\.(\d+)\.", lambda m: f".activations.{2 * int(m[2]) + int(m[1]) - 1}.")]
        )
        weights = bigvgan_weights(
            {re.sub(r"^act_post\.", "activation_post.", k): v for k, v in weights.items()}, blocks
        )
    else:
        weights = hifi_gan_weights(weights, blocks)
    return {prefix + key: value for key, value in weights.items()}
