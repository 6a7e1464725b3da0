"""Import UnivNet of maum-ai/univnet and of transformers."""

from __future__ import annotations

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
)


def _convert(config: Settings, weights: Weights, _: MelConfig | None) -> Imported:
    weights = fold_weight_norm(weights)
    sizes, audio = part(config, "gen"), part(config, "audio")
    check_only(sizes, "UnivNet", kpnet_conv_size=3)
    own = {
        "noise_channels": sizes["noise_dim"],
        "channels": sizes["channel_size"],
        "upsample_rates": sizes["strides"],
        "dilations": sizes["dilations"],
        "predictor_channels": len(weights["res_stack.0.kernel_predictor.input_conv.0.bias"]),
        "slope": sizes["lReLU_slope"],
    }
    values = {  # utils/stft.py, TacotronSTFT
        "sample_rate": audio["sampling_rate"],
        "n_fft": audio["filter_length"],
        "hop_length": audio["hop_length"],
        "win_length": audio["win_length"],
        "n_mels": audio["n_mel_channels"],
        "fmin": audio["mel_fmin"],
        "fmax": audio["mel_fmax"],
        "epsilon": 1e-9,
    }
    weights = rename(
        weights,
        [
            (r"^res_stack\.", "blocks."),
            (r"\.convt_pre\.1\.", ".up."),
            (r"\.conv_blocks\.(\d+)\.1\.", r".convs.\1."),
            (r"\.kernel_predictor\.", ".predictor."),
            (r"\.input_conv\.0\.", ".input_conv."),
            (r"\.residual_convs\.(\d+)\.1\.", r".convs.\1.0."),
            (r"\.residual_convs\.(\d+)\.3\.", r".convs.\1.1."),
            (r"^conv_post\.1\.", "conv_post."),
        ],
    )
    return Imported("univnet", own, bind(MelConfig, values, "the mel config in the configuration"), weights)


def _of_transformers(config: Settings, weights: Weights, stated: MelConfig | None) -> Imported:
    """Convert UnivNetModel; its mel config stands in preprocessor_config.json and is known for the published size."""
    weights = fold_weight_norm(weights)
    rates, dilations = config["resblock_stride_sizes"], config["resblock_dilation_sizes"]
    check_only(config, "UnivNet", kernel_predictor_num_blocks=3, kernel_predictor_conv_size=3)
    check_only(config, "UnivNet", resblock_kernel_sizes=[3] * len(rates))
    if any(sizes != dilations[0] for sizes in dilations):
        raise VocoderError(f"UnivNet with different dilations in its blocks is not supported: {dilations}")
    known = MEL_CONFIGS["bigvgan-24k"]
    if stated is None and (rates, config["num_mel_bins"]) == ([8, 8, 4], known.n_mels):
        stated = known
    mel_config = require_mel_config(stated)
    check_only(config, "UnivNet", num_mel_bins=mel_config.n_mels)
    own = {
        "noise_channels": config["model_in_channels"],
        "channels": config["model_hidden_channels"],
        "upsample_rates": rates,
        "dilations": dilations[0],
        "predictor_channels": config["kernel_predictor_hidden_channels"],
        "slope": config["leaky_relu_slope"],
    }
    weights = rename(
        weights,
        [
            (r"\.kernel_predictor\.resblocks\.(\d+)\.conv1\.", r".predictor.convs.\1.0."),
            (r"\.kernel_predictor\.resblocks\.(\d+)\.conv2\.", r".predictor.convs.\1.1."),
            (r"\.kernel_predictor\.", ".predictor."),
            (r"\.resblocks\.(\d+)\.conv\.", r".convs.\1."),
            (r"\.convt_pre\.", ".up."),
            (r"^resblocks\.", "blocks."),
        ],
    )
    return Imported("univnet", own, mel_config, weights)


UNIVNET = Importer(
    "univnet",
    "UnivNetModel of transformers: model.safetensors or pytorch_model.bin, and config.json",
    _of_transformers,
    recognizes=lambda config: config.get("model_type") == "univnet",
    checkpoints=("model.safetensors", "pytorch_model.bin"),
    configs=("config.json",),
    harmless="""
        _* architectures dtype initializer_range kernel_predictor_dropout model_type torch_dtype transformers_version
    """,
)
UNIVNET_MAUM = Importer(
    "univnet-maum",
    "maum-ai/univnet: a checkpoint, univ_c32_0288.pt; the configuration of its training is in it",
    _convert,
    recognizes=lambda config: isinstance(config.get("gen"), dict) and "strides" in config["gen"],
    checkpoints=("univ_*.pt",),
    configs=("config.yaml", "default_c32.yaml", "default_c16.yaml"),
    needs_config=False,
    stored_config="hp_str",
    harmless="data dist_config log mpd mrd train audio.pad_short audio.segment_length",
)
