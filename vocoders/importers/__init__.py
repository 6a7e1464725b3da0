"""Checkpoints of other projects -> ours.

Layouts as the public implementations write them. Weight norm, in PyTorch's old and new key style, is folded. Files are
read with ``weights_only=True`` alone: a pickle that wants more than tensors and plain containers is refused, and
nothing of it runs. Keys that are missing or left over are an error that lists them.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocoders.checkpoint import Checkpoint
from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.errors import VocoderError
from vocoders.files import read_file
from vocoders.generators import build_generator
from vocoders.io.mels import read_array

Weights = dict[str, Tensor]
Settings = dict[str, Any]


def import_checkpoint(
    family: str,
    checkpoint: Path,
    config: Path | None = None,
    stats: Path | None = None,
    mel_config: str | None = None,
) -> Checkpoint:
    """Read a checkpoint of another project.

    Args:
        family: a key of FAMILIES.
        checkpoint: the file its training wrote.
        config: its configuration file, JSON or YAML; by default config.json, config.yml or config.yaml beside it.
        stats: mean and scale of the mels, .npy (2, n_mels) or .h5 with "mean" and "scale", for families that keep them
            in a file of their own.
        mel_config: for configurations that do not say it, as MelConfig.parse takes it.
    Raises: VocoderError for anything that is not what the family writes, or cannot be expressed here.
    """
    if family not in FAMILIES:
        raise VocoderError(f"cannot import '{family}'; supported: {', '.join(FAMILIES)}")
    settings = _read_config(config or _find_config(checkpoint))
    given = MelConfig.parse(mel_config) if mel_config else None
    try:
        name, sizes, own_config, weights = FAMILIES[family](settings, _read_weights(checkpoint), given)
    except KeyError as error:
        raise VocoderError(f"the configuration or {checkpoint} lacks {error}, which {family} has") from None
    if given and given != own_config:
        differing = ", ".join(f"{key} {a} against {b}" for key, (a, b) in own_config.differences(given).items())
        raise VocoderError(f"the configuration contradicts --mel-config {mel_config}: {differing}")
    if stats:
        weights["standardize.mean"], weights["standardize.scale"] = _read_stats(stats, own_config.n_mels)
    with torch.device("meta"):  # the weights are read once and not copied into others
        generator = build_generator(name, sizes, own_config)
    wanted = generator.state_dict()
    unset = {"standardize.mean": torch.zeros, "standardize.scale": torch.ones}
    weights = {key: make(own_config.n_mels, 1) for key, make in unset.items() if key in wanted} | weights
    for keys, problem in ((wanted.keys() - weights.keys(), "lacks"), (weights.keys() - wanted.keys(), "also holds")):
        if keys:
            raise VocoderError(f"{checkpoint} does not fit its configuration, it {problem}: {', '.join(sorted(keys))}")
    for key, value in wanted.items():
        if weights[key].shape != value.shape:
            shapes = f"{tuple(weights[key].shape)} instead of {tuple(value.shape)}"
            raise VocoderError(f"{checkpoint} does not fit its configuration: {key} has the shape {shapes}")
    generator.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
    generator.eval().requires_grad_(False)
    return Checkpoint(own_config, generator, training={"imported from": family, "file": checkpoint.name})


Parts = tuple[str, dict[str, Any], MelConfig, Weights]


def _hifi_gan(config: Settings, content: Settings, _: MelConfig | None) -> Parts:
    """jik876/hifi-gan: {"generator": ...} and config.json."""
    mel_config = _hifi_gan_mel_config(config)
    return "hifigan", _hifi_gan_sizes(config), mel_config, _hifi_gan_weights(_fold(content["generator"]), config)


def _istftnet(config: Settings, content: Settings, _: MelConfig | None) -> Parts:
    """rishikksh20/iSTFTNet-pytorch: as hifi-gan, and gen_istft_n_fft and gen_istft_hop_size in config.json."""
    hop = config["gen_istft_hop_size"]
    if config["gen_istft_n_fft"] != 4 * hop:
        raise VocoderError(
            f"gen_istft_n_fft must be 4 x gen_istft_hop_size = {4 * hop}, got {config['gen_istft_n_fft']}"
        )
    sizes = _hifi_gan_sizes(config) | {"istft_hop": hop}
    return "istftnet", sizes, _hifi_gan_mel_config(config), _hifi_gan_weights(_fold(content["generator"]), config)


def _speecht5(config: Settings, content: Settings, mel_config: MelConfig | None) -> Parts:
    """transformers SpeechT5HifiGan and its copy FastSpeech2ConformerHifiGan: flat weights with "mean" and "scale"."""
    sizes = _hifi_gan_sizes(config | {"resblock": "1"})
    weights = _fold(content)
    mean, scale = (weights.pop(key).reshape(-1, 1) for key in ("mean", "scale"))
    weights = _hifi_gan_weights(_rename(weights, [(r"^upsampler\.", "ups.")]), config)
    if config.get("normalize_before", True):
        weights |= {"standardize.mean": mean, "standardize.scale": scale}
    if config.get("leaky_relu_slope", 0.1) != 0.1:
        raise VocoderError(f"leaky_relu_slope {config['leaky_relu_slope']} is not supported, only 0.1")
    known = MEL_CONFIGS["speecht5-16k"]
    if mel_config is None and (config["sampling_rate"], config["model_in_dim"]) == (known.sample_rate, known.n_mels):
        mel_config = known
    return "hifigan", sizes, _require(mel_config), weights


def _parallel_wavegan(config: Settings, content: Settings, _: MelConfig | None) -> Parts:
    """kan-bayashi/ParallelWaveGAN: {"model": {"generator": ...}} and config.yml; its own generator and its HiFi-GAN."""
    mel_config = MelConfig(
        sample_rate=config["sampling_rate"],
        n_fft=config["fft_size"],
        hop_length=config["hop_size"],
        win_length=config.get("win_length") or config["fft_size"],
        n_mels=config["num_mels"],
        fmin=config.get("fmin") or 0,
        fmax=config.get("fmax") or config["sampling_rate"] / 2,
        padding="center",
        log="log10",
        floor=1e-10,
    )
    sizes, weights = config["generator_params"], _fold(content["model"]["generator"])
    kind = config.get("generator_type", "ParallelWaveGANGenerator")
    if kind == "HiFiGANGenerator":
        blocks = len(sizes["resblock_kernel_sizes"])
        weights = _rename(
            weights,
            [
                (r"^input_conv\.", "conv_pre."),
                (r"^upsamples\.(\d+)\.1\.", r"ups.\1."),
                (r"^blocks\.(\d+)\.convs(\d)\.(\d+)\.1\.", r"resblocks.\1.convs\2.\3."),
                (r"^output_conv\.1\.", "conv_post."),
            ],
        )
        own = {
            "channels": sizes["channels"],
            "upsample_rates": sizes["upsample_scales"],
            "upsample_kernel_sizes": sizes.get("upsample_kernel_sizes") or sizes["upsample_kernal_sizes"],
            "resblock": 1 if sizes.get("use_additional_convs", True) else 2,
            "resblock_kernel_sizes": sizes["resblock_kernel_sizes"],
            "resblock_dilations": sizes["resblock_dilations"],
        }
        return "hifigan", own, mel_config, _hifi_gan_weights(weights, {"resblock_kernel_sizes": range(blocks)})
    if (
        kind != "ParallelWaveGANGenerator"
        or sizes.get("upsample_net", "ConvInUpsampleNetwork") != "ConvInUpsampleNetwork"
    ):
        raise VocoderError(f"of ParallelWaveGAN's generators, {kind} with {sizes.get('upsample_net')} is not supported")
    if sizes.get("use_causal_conv"):
        raise VocoderError("causal Parallel WaveGAN is not supported")
    weights = _rename(
        weights,
        [
            (r"^upsample_net\.conv_in\.", "conv_in."),
            (r"^upsample_net\.upsample\.up_layers\.(\d+)\.", lambda m: f"smooth.{int(m[1]) // 2}."),
            (r"^last_conv_layers\.1\.", "last_conv1."),
            (r"^last_conv_layers\.3\.", "last_conv2."),
        ],
    )
    own = {key: sizes[key] for key in ("layers", "stacks", "kernel_size", "residual_channels", "gate_channels")}
    own |= {"skip_channels": sizes["skip_channels"], "context": sizes["aux_context_window"]}
    own["upsample_rates"] = sizes["upsample_params"]["upsample_scales"]
    return "parallel-wavegan", own, mel_config, weights


def _wavehax(config: Settings, content: Settings, mel_config: MelConfig | None) -> Parts:
    """chomeyama/wavehax: {"model": {"generator": ...}} and a YAML, the generator below "generator" or at its top."""
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
    name = "wavehax"
    if "num_splits" in config:
        if config["decomposer"] != "MultiStream1d":
            raise VocoderError(f"multi-stream Wavehax with {config['decomposer']} is not supported, only MultiStream1d")
        name, own["streams"] = "multi-stream-wavehax", config["num_splits"]
        own["framewise_norm"] = config.get("framewise_norm", True)
    weights: Weights = {}
    for key, value in content["model"]["generator"].items():
        if key.startswith("stft.") or key == "decomposer.updown_filter":
            continue  # constants
        key = key.replace("decomposer.conv_analysis", "split").replace("decomposer.conv_synthesis", "join")
        key = key.replace("norm.gamma", "norm.weight").replace("norm.beta", "norm.bias")
        if key.endswith("dwconv.weight"):
            value = value.transpose(2, 3)  # (bins, frames) -> (frames, bins)
        elif key.endswith(".gamma"):
            value = value.flatten()
        elif value.dim() == 4:  # 1 x 1 convolutions
            value = value[:, :, 0, 0]
        weights[key] = value.contiguous()
    return name, own, _require(mel_config), weights


FAMILIES: dict[str, Callable[[Any, Any, MelConfig | None], Parts]] = {
    "hifi-gan": _hifi_gan,
    "istftnet": _istftnet,
    "parallel-wavegan": _parallel_wavegan,
    "wavehax": _wavehax,
    "speecht5-hifigan": _speecht5,
}


def _require(mel_config: MelConfig | None) -> MelConfig:
    if mel_config is None:
        raise VocoderError("the configuration does not say which mels the model was trained on; give --mel-config")
    return mel_config


def _hifi_gan_mel_config(config: Settings) -> MelConfig:
    return MelConfig(
        sample_rate=config["sampling_rate"],
        n_fft=config["n_fft"],
        hop_length=config["hop_size"],
        win_length=config["win_size"],
        n_mels=config["num_mels"],
        fmin=config["fmin"],
        fmax=config["fmax"] or config["sampling_rate"] / 2,
        epsilon=1e-9,
    )


def _hifi_gan_sizes(config: Settings) -> dict[str, Any]:
    for rate, kernel in zip(config["upsample_rates"], config["upsample_kernel_sizes"], strict=True):
        if (kernel - rate) % 2:
            raise VocoderError(
                f"an upsampling by {rate} with kernel {kernel} gives no whole frames in that implementation"
            )
    return {
        "channels": config["upsample_initial_channel"],
        "upsample_rates": config["upsample_rates"],
        "upsample_kernel_sizes": config["upsample_kernel_sizes"],
        "resblock": int(config["resblock"]),
        "resblock_kernel_sizes": config["resblock_kernel_sizes"],
        "resblock_dilations": config["resblock_dilation_sizes"],
    }


def _hifi_gan_weights(weights: Weights, config: Settings) -> Weights:
    """The flat list of residual blocks by stage, and all but the last convolution below "trunk"."""
    count = len(config["resblock_kernel_sizes"])
    renamed = _rename(
        weights,
        [
            (r"^resblocks\.(\d+)\.", lambda m: f"resblocks.{int(m[1]) // count}.{int(m[1]) % count}."),
            (r"\.convs\.", ".convs1."),
            (r"^(?!conv_post|standardize)", "trunk."),
        ],
    )
    return renamed


def _rename(weights: Weights, rules: list[tuple[str, Any]]) -> Weights:
    renamed = {}
    for key, value in weights.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def _fold(weights: Mapping[str, Tensor]) -> Weights:
    """Weight norm, g v / |v|, folded; |v| is over all axes but the first."""
    folded = {}
    for key, value in weights.items():
        for magnitude, direction in (
            ("weight_g", "weight_v"),
            ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        ):
            if key.endswith(magnitude):
                stem = key.removesuffix(magnitude)
                v = weights[stem + direction]
                norm = v.flatten(1).norm(dim=1).reshape(-1, *[1] * (v.dim() - 1))
                folded[f"{stem}weight"] = value * v / norm
                break
            if key.endswith(direction):
                break
        else:
            folded[key] = value
    return folded


def _find_config(checkpoint: Path) -> Path:
    for name in ("config.json", "config.yml", "config.yaml"):
        if (checkpoint.parent / name).is_file():
            return checkpoint.parent / name
    raise VocoderError(f"there is no config.json, config.yml or config.yaml beside {checkpoint}; give --config")


def _read_config(path: Path) -> dict[str, Any]:
    text = read_file(path).decode(errors="replace")
    try:
        if path.suffix == ".json":
            values = json.loads(text)
        else:
            import yaml

            values = yaml.safe_load(text)
    except ImportError:
        raise VocoderError("reading a YAML configuration needs PyYAML: pip install '.[import]' in the clone") from None
    except Exception as error:
        raise VocoderError(f"{path} is not a readable configuration ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise VocoderError(f"{path} is not a configuration: it must hold keys and values")
    return values


def _read_weights(path: Path) -> Any:
    if not path.is_file():
        raise VocoderError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise VocoderError(f"{path} is damaged ({error})") from None
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise VocoderError(
            f"{path} holds more than tensors; unpickling it could run code, so it is refused: save its state_dict alone"
        ) from None
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise VocoderError(f"{path} is not a readable checkpoint ({str(error).splitlines()[0]})") from None


def _read_stats(path: Path, n_mels: int) -> tuple[Tensor, Tensor]:
    """Mean and scale of the mels, each (n_mels, 1)."""
    data = read_file(path)
    if path.suffix == ".npy":
        values = read_array(data, str(path))
        rows = [values[0], values[1]] if values.ndim >= 2 and len(values) >= 2 else []
    elif path.suffix in (".h5", ".hdf5"):
        try:
            import h5py
        except ImportError:
            raise VocoderError("reading .h5 statistics needs h5py: pip install '.[import]' in the clone") from None
        try:
            with h5py.File(io.BytesIO(data)) as file:
                rows = [file["mean"][()], file["scale"][()]]
        except (OSError, KeyError) as error:
            raise VocoderError(f"{path} does not hold mean and scale ({error})") from None
    else:
        raise VocoderError(f"statistics must be .npy or .h5, not {path}; a joblib file is a pickle and is never loaded")
    flat = [np.asarray(row, dtype=np.float32).reshape(-1) for row in rows]
    if len(flat) != 2 or any(len(row) != n_mels for row in flat):
        raise VocoderError(f"{path} must hold mean and scale of {n_mels} mels")
    mean, scale = (torch.from_numpy(row)[:, None] for row in flat)
    return mean, scale
