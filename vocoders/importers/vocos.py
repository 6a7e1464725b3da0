"""Import Vocos and WaveNeXt of gemelo-ai/vocos and its forks."""

from __future__ import annotations

import re

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.hub import refuse_unsupported
from vocoders.importers.base import Imported, Importer, Settings, Weights, part, rename, require_mel_config

# gemelo-ai/vocos feature_extractors.py
_FEATURES: Settings = {"sample_rate": 24000, "n_fft": 1024, "hop_length": 256, "n_mels": 100, "padding": "center"}
# feature_extractors.py of forks for other mels, with other defaults: wetdog/wavenext_pytorch, langtech-bsc/vocos
# (branch matcha)
_FORK_FEATURES = {"f_min", "f_max", "norm", "mel_scale"}
_OTHER_PARTS = re.compile(r"feature_extractor\.|\w*(disc|loss)\w*\.")  # in training checkpoints


def _convert(config: Settings, weights: Weights, stated: MelConfig | None) -> Imported:
    config = _model(config)
    refuse_unsupported(str(config))
    features = _part(config, "feature_extractor", ("MelSpectrogramFeatures",))[1]
    backbone = _part(config, "backbone", ("VocosBackbone",))[1]
    head, sizes = _part(config, "head", ("ISTFTHead", "WaveNextHead"))
    if backbone.get("adanorm_num_embeddings") is not None:
        raise VocoderError("Vocos with adanorm_num_embeddings is not supported: it takes a bandwidth beside the mel")
    mel_config = _mel_config(features) or require_mel_config(stated)
    channels, inner = backbone["dim"], backbone["intermediate_dim"]
    if not channels or inner % channels:
        raise VocoderError(f"intermediate_dim must be a multiple of dim {channels}, got {inner}")
    if sizes["hop_length"] != mel_config.hop_length:
        raise VocoderError(
            f"the hop_length of the mel is {mel_config.hop_length}, that of the head {sizes['hop_length']}"
        )
    own = {
        "channels": channels,
        "blocks": backbone["num_layers"],
        "expansion": inner // channels,
        "n_fft": sizes["n_fft"],
        "head": "istft" if head == "ISTFTHead" else "wavenext",
    }
    # With "center" padding theirs cuts half a hop at both ends, ours does not.
    hops = 0.5 * (sizes.get("padding", "same") == "center")
    return Imported("vocos", own, mel_config, vocos_weights(weights), lag=round(hops * mel_config.hop_length))


VOCOS = Importer(
    "vocos",
    "gemelo-ai/vocos and its forks, WaveNeXt among them, on mels: pytorch_model.bin, model.safetensors or the "
    "checkpoint of a training, and config.yaml",
    _convert,
    recognizes=lambda config: {"backbone", "head"} <= _model(config).keys(),
    checkpoints=("model.safetensors", "pytorch_model.bin", "*.ckpt"),
    harmless="""
        backbone.init_args.input_channels backbone.init_args.layer_scale_init_value head.init_args.dim
        model.init_args.backbone.init_args.input_channels model.init_args.backbone.init_args.layer_scale_init_value
        model.init_args.head.init_args.dim
        ckpt_path data lr_scheduler optimizer seed_everything trainer model.class_path model.init_args.decay_mel_coeff
        model.init_args.enable_discriminator model.init_args.evaluate_* model.init_args.initial_learning_rate
        model.init_args.mel_loss_coeff model.init_args.mrd_loss_coeff model.init_args.num_warmup_steps
        model.init_args.pretrain_mel_steps model.init_args.sample_rate
    """,
)


def _model(config: Settings) -> Settings:
    """Return a model's three parts, which a training configuration nests."""
    for key in ("model", "init_args"):
        if isinstance(config.get(key), dict):
            config = config[key]
    return config


def _part(config: Settings, name: str, supported: tuple[str, ...]) -> tuple[str, Settings]:
    """Return class and arguments of one part; VocoderError for an unsupported class."""
    described = part(config, name)
    kind = str(described["class_path"]).rpartition(".")[2]
    if kind not in supported:
        raise VocoderError(f"Vocos with the {name} {kind} is not supported, only {' and '.join(supported)}")
    return kind, part(described, "init_args") if described.get("init_args") else {}


def _mel_config(arguments: Settings) -> MelConfig | None:
    """Return the mel config of a ``MelSpectrogramFeatures``; None where a fork's defaults decide."""
    given = _FEATURES | arguments
    matched = given.keys() & _FORK_FEATURES
    floor = 1e-5 if matched else 1e-7  # modules.py, safe_log: langtech-bsc/vocos uses 1e-5, without clip_val
    f_max = given.get("f_max")
    values = {key: given[key] for key in _FEATURES} | {
        "win_length": given["n_fft"],
        "fmin": given.get("f_min") or 0,
        "fmax": given["sample_rate"] / 2 if f_max is None else f_max,
        "mel_scale": given.get("mel_scale", "htk"),
        "mel_norm": given.get("norm") or "none",
        "floor": given.get("clip_val", floor),
    }
    if matched and matched != _FORK_FEATURES:
        return None
    return bind(MelConfig, values, "the mel config in the configuration")


def vocos_weights(weights: Weights) -> Weights:
    """Rename gemelo-ai/vocos's keys to ``Vocos``'s, without analysis, constants and discriminators."""
    weights = {key: value for key, value in weights.items() if not _OTHER_PARTS.match(key)}
    weights.pop("head.istft.window", None)
    return rename(
        weights,
        [
            (r"^backbone\.norm\.", "embed_norm."),
            (r"^backbone\.final_layer_norm\.", "output_norm."),
            (r"^backbone\.convnext\.", "blocks."),
            (r"^backbone\.", ""),
        ],
    )
