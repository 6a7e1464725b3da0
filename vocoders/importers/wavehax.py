"""Wavehax, multi-stream and complex Wavehax as chomeyama/wavehax writes them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.errors import VocoderError
from vocoders.importers.base import Imported, Importer, Settings, Weights, require_mel_config


def _convert(config: Settings, content: Settings, mel_config: MelConfig | None) -> Imported:
    config = config.get("generator", config)
    for key, only in (("prior_type", "pcph"), ("use_logmag_phase", False), ("use_layer_norm", True)):
        if config.get(key, only) != only:
            raise VocoderError(f"Wavehax with {key} {config[key]} is not supported, only {only}")
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
    weights = content["model"]["generator"]
    name = "wavehax"
    if "prior_proj.real_conv.weight" in weights:
        name, weights = "complex-wavehax", _joined(weights)
    elif "num_splits" in config:
        if config["decomposer"] != "MultiStream1d":
            raise VocoderError(f"multi-stream Wavehax with {config['decomposer']} is not supported, only MultiStream1d")
        name, own["streams"] = "multi-stream-wavehax", config["num_splits"]
        own["framewise_norm"] = config.get("framewise_norm", True)
    return Imported(name, own, require_mel_config(mel_config), _weights(weights))


WAVEHAX = Importer(
    "wavehax",
    'chomeyama/wavehax, also multi-stream and complex: a checkpoint {"model": {"generator": ...}}, its YAML and '
    "stats.npy",
    _convert,
    recognizes=lambda config: {"mult_channels", "num_blocks", "n_fft"} <= config.get("generator", config).keys(),
    checkpoints=("checkpoint-*steps.pkl",),
    standardizes=lambda _: True,  # datasets/audio_feat_dataset.py normalises whatever it reads
)


def _weights(theirs: Mapping[str, Tensor]) -> Weights:
    """Convert the keys and layouts of chomeyama/wavehax to those of ``Wavehax``, without its constants."""
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
    """Join real and imaginary parts, which have keys of their own there."""
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
