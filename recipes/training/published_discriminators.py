"""Load published discriminators of jik876/hifi-gan and NVIDIA/BigVGAN, to start fine-tuning from.

HiFi-GAN's ``do_02500000`` holds "mpd" and "msd" (train.py); BigVGAN's ``bigvgan_discriminator_optimizer.pt`` holds
"mpd" and "mrd", in version 2 its sub-band constant-Q discriminator. The optimisers start anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from losses import Discriminator
from vocoders.errors import VocoderError
from vocoders.importers.base import Weights
from vocoders.importers.files import read_weights

_BIGVGAN_CQT: dict[str, Any] = {  # not visible in the weights; oversampling uses nnAudio's phase
    "oversampling": 2,
    "bins_per_octave": (24, 36, 48),
    "hop_lengths": (512, 256, 256),
    "fmin": 32.7,
    "n_octaves": 9,
    "max_kernel": None,
}


def load_published(path: Path, discriminators: Mapping[str, nn.Module]) -> None:
    """Load the weights of ``discriminators``, by name, from a published file; ignore what else it holds."""
    if not path.is_file():
        raise VocoderError(f"there is no file {path}")
    stored = _read(path)
    for name, discriminator in discriminators.items():
        if name not in stored:
            raise VocoderError(
                f"{path} holds no weights for the discriminator '{name}', only for {', '.join(stored)}; name no other "
                "discriminators in the recipe"
            )
        weights, expected = stored[name], discriminator.state_dict()
        misfit = f"'{name}' in {path} does not fit the recipe's"
        if missing := sorted(expected.keys() - weights.keys()):
            raise VocoderError(f"{misfit}, it lacks: {_listed(missing)}")
        if surplus := sorted(weights.keys() - expected.keys()):
            raise VocoderError(f"{misfit}, it also holds: {_listed(surplus)}")
        for key, value in expected.items():
            if weights[key].shape != value.shape:
                shapes = f"{tuple(weights[key].shape)} instead of {tuple(value.shape)}"
                raise VocoderError(f"{misfit}: {key} has the shape {shapes}")
        if name == "multi-scale-subband-cqt":
            _check_transform(path, discriminator)
        discriminator.load_state_dict(weights)


def _check_transform(path: Path, discriminator: nn.Module) -> None:
    """Check that a sub-band constant-Q discriminator has the transform of BigVGAN's."""
    assert isinstance(discriminator, Discriminator)
    config = discriminator.config.model_dump()
    other = [key for key, value in _BIGVGAN_CQT.items() if config[key] != value]
    if other:
        set_to = ", ".join(f"{key}: {json.dumps(_BIGVGAN_CQT[key])}" for key in other)
        raise VocoderError(
            f"'multi-scale-subband-cqt' in {path} was trained on another transform than the recipe's; give it in the "
            f"recipe the settings {{{set_to}}}"
        )


def _listed(keys: list[str], most: int = 3) -> str:
    """List the first keys, and the number of others."""
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + more


def _read(path: Path) -> dict[str, Weights]:
    """Read the discriminators of a file, with our names and keys."""
    content = read_weights(path)
    parts = {part: content.get(part) for part in ("mpd", "msd", "mrd")} if isinstance(content, dict) else {}
    states = {part: state for part, state in parts.items() if isinstance(state, dict)}
    if not states or not all(isinstance(value, Tensor) for state in states.values() for value in state.values()):
        raise VocoderError(
            f"{path} holds no discriminators: adversarial.init takes discriminators.safetensors of a run, do_* of "
            f"jik876/hifi-gan, or bigvgan_discriminator_optimizer.pt of NVIDIA/BigVGAN"
        )
    found = {}
    if "mpd" in states:
        found["multi-period"] = _renamed(states["mpd"])
    if "msd" in states:
        found["multi-scale"] = _renamed(states["msd"])
    if any(".conv_pres." in key for key in states.get("mrd", {})):  # version 1's is not supported
        found["multi-scale-subband-cqt"] = _renamed(_joined_octaves(states["mrd"]))
    if not found:
        raise VocoderError(f"{path} holds no discriminator that there is here, only BigVGAN's multi-resolution one")
    return found


def _renamed(theirs: Weights) -> Weights:
    """Rename weight norm and spectral norm tensors from PyTorch's old names to its new ones."""
    names = {"g": "original0", "v": "original1", "orig": "original", "u": "0._u"}
    weights = {}
    for key, value in theirs.items():
        if old := re.fullmatch(r"(.*\.weight)_(g|v|orig|u)", key):
            stem, kind = old.groups()
            spectral = kind == "v" and f"{stem}_orig" in theirs  # both kinds have a vector "v"
            key = f"{stem.removesuffix('weight')}parametrizations.weight.{'0._v' if spectral else names[kind]}"
        weights[key] = value
    return weights


def _joined_octaves(theirs: Weights) -> Weights:
    """Join the convolutions of all octaves; drop the constants of transform and resampling."""
    weights: Weights = {}
    octaves: dict[str, dict[int, Tensor]] = {}
    for key, value in theirs.items():
        if pre := re.fullmatch(r"(discriminators\.\d+\.)conv_pres\.(\d+)\.(weight|bias)", key):
            octaves.setdefault(f"{pre[1]}conv_octaves.{pre[3]}", {})[int(pre[2])] = value
        elif not re.match(r"discriminators\.\d+\.(cqt_transform|resample)\.", key):
            weights[re.sub(r"^(discriminators\.\d+\.)(convs|conv_post)\.", r"\1trunk.\2.", key)] = value
    return weights | {key: torch.cat([parts[i] for i in sorted(parts)]) for key, parts in octaves.items()}
