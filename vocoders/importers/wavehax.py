"""Import Wavehax, multi-stream and complex Wavehax of chomeyama/wavehax."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, check_only, require_mel_config


def _convert(config: Settings, weights: Weights, mel_config: MelConfig | None) -> Imported:
    config = _generator(config)
    kind = str(config.get("_target_", "WavehaxGenerator")).rpartition(".")[2]
    if not kind.endswith("WavehaxGenerator"):
        raise VocoderError(f"the generator {kind} is not supported, only those of Wavehax")
    check_only(config, "Wavehax", prior_type="pcph", use_logmag_phase=False, use_layer_norm=True)
    known = MEL_CONFIGS["wavehax-24k"]
    sizes = (config["sample_rate"], config["hop_length"], config["in_channels"])
    if mel_config is None and sizes == (known.sample_rate, known.hop_length, known.n_mels):
        mel_config = known
    kernel = config["kernel_size"]
    own = {
        "n_fft": config["n_fft"],
        "channels": config["channels"],
        "blocks": config["num_blocks"],
        "expansion": config["mult_channels"],
        "kernel_size": [kernel, kernel] if isinstance(kernel, int) else kernel,
        "framewise_norm": config.get("framewise_norm", False),
    }
    name = "wavehax"
    if "prior_proj.real_conv.weight" in weights:
        name, weights = "complex-wavehax", _joined(weights)
    elif "num_splits" in config:
        check_only(config, "multi-stream Wavehax", decomposer="MultiStream1d")
        name, own["streams"] = "multi-stream-wavehax", config["num_splits"]
        own["framewise_norm"] = config.get("framewise_norm", True)
    return Imported(name, own, require_mel_config(mel_config), _weights(weights))


WAVEHAX = Importer(
    "wavehax",
    'chomeyama/wavehax, also multi-stream and complex: a checkpoint {"model": {"generator": ...}}, its YAML and '
    "stats.npy",
    _convert,
    recognizes=lambda config: {"mult_channels", "num_blocks", "n_fft"} <= _generator(config).keys(),
    checkpoints=("checkpoint-*steps.pkl",),
    harmless="""
        data defaults discriminator hydra out_dir seed train drop_prob init_weights generator.drop_prob
        generator.init_weights
    """,
    standardizes=lambda _: True,  # datasets/audio_feat_dataset.py always normalises
)


def _generator(config: Settings) -> Settings:
    """Return the generator's configuration, which a training configuration nests."""
    return config["generator"] if isinstance(config.get("generator"), dict) else config


def _weights(theirs: Mapping[str, Tensor]) -> Weights:
    """Convert chomeyama/wavehax's keys and layouts to ``Wavehax``'s, without constants."""
    weights: Weights = {}
    for key, value in theirs.items():
        if key.startswith("stft.") or key == "decomposer.updown_filter":
            continue
        key = key.replace("decomposer.conv_analysis", "split").replace("decomposer.conv_synthesis", "join")
        key = key.replace("norm.gamma", "norm.weight").replace("norm.beta", "norm.bias")
        if key.endswith("dwconv.weight"):
            value = value.transpose(-2, -1)  # (bins, frames) -> (frames, bins)
        elif key.endswith(".gamma"):
            value = value.flatten()
        elif value.dim() >= 4 and value.shape[-2:] == (1, 1):  # 1 x 1 convolutions
            value = value[..., 0, 0]
        weights[key] = value.contiguous()
    return weights


def _joined(theirs: Mapping[str, Tensor]) -> Weights:
    """Join real and imaginary parts, which are separate there."""
    weights = dict(theirs)
    for first, *others, ours in (
        (".real_conv.weight", ".imag_conv.weight", ".weight"),
        (".real_conv.bias", ".imag_conv.bias", ".bias"),
        (".gamma_rr", ".gamma_ii", ".gamma_ri", ".weight"),
        (".beta_r", ".beta_i", ".bias"),
    ):
        for key in theirs:
            if key.endswith(first):
                stem = key.removesuffix(first)
                parts = [weights.pop(stem + part) for part in (first, *others)]
                if len({part.shape for part in parts}) > 1:
                    shapes = " and ".join(str(tuple(part.shape)) for part in parts)
                    raise VocoderError(f"the parts of {stem + ours} differ in shape: {shapes}")
                weights[stem + ours] = torch.stack(parts)
    return weights
