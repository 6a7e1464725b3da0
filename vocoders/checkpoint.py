"""One self-describing .safetensors file: weights, and in its header everything needed to use them.

Header keys, each a string: ``format`` = "vocoders", ``version`` = "1", ``mel_spec``, ``generator`` ({"name",
"config"}), ``pitch`` (config) and ``training`` (how it was made), the last five in JSON; ``generator`` and ``pitch``
stand when their tensors, prefixed with the same word, are there. No pickle is written or read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vocoders.config import bind
from vocoders.errors import CheckpointError, VocoderError
from vocoders.files import replacing
from vocoders.generators import GENERATORS, build_generator
from vocoders.generators.base import Generator
from vocoders.mel import MelSpec
from vocoders.pitch import PitchConfig, PitchEstimator

VERSION = "1"


@dataclass
class Checkpoint:
    """What a checkpoint holds. ``training`` is free-form JSON: the recipe, steps, data, figures."""

    mel_spec: MelSpec
    generator: Generator | None = None
    pitch: PitchEstimator | None = None
    training: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; it appears whole or not at all."""
    header = {
        "format": "vocoders",
        "version": VERSION,
        "mel_spec": checkpoint.mel_spec.model_dump_json(),
        "training": json.dumps(checkpoint.training),
    }
    tensors: dict[str, Tensor] = {}
    if checkpoint.generator is not None:
        name = next(name for name, kind in GENERATORS.items() if kind is type(checkpoint.generator))
        header["generator"] = json.dumps({"name": name, "config": checkpoint.generator.config.model_dump(mode="json")})
        tensors |= {f"generator.{key}": value for key, value in checkpoint.generator.state_dict().items()}
    if checkpoint.pitch is not None:
        header["pitch"] = checkpoint.pitch.config.model_dump_json()
        tensors |= {f"pitch.{key}": value for key, value in checkpoint.pitch.state_dict().items()}
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    with replacing(path) as partial:
        save_file(tensors, partial, header)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises CheckpointError, in one sentence, for a file that is missing, truncated, of another format, or whose header
    and tensors disagree; no memory is taken for what a header claims before the tensors are seen to fit.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a checkpoint of this package, or is damaged ({error})") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error}") from None
    if header.get("format") != "vocoders":
        raise CheckpointError(
            f"{path} is a safetensors file, but not a checkpoint of this package: its header lacks format 'vocoders'"
        )
    if header.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format version {header.get('version')}, this release reads version {VERSION}; "
            f"install a release of vocoders that matches it"
        )
    try:
        parts = {
            key: json.loads(header[key]) for key in ("mel_spec", "training", "generator", "pitch") if key in header
        }
        spec = bind(MelSpec, parts["mel_spec"], "mel_spec")
        checkpoint = Checkpoint(spec, training=parts.get("training", {}))
        with torch.device("meta"):  # shapes only
            generator = (
                build_generator(parts["generator"]["name"], parts["generator"]["config"], spec)
                if "generator" in parts
                else None
            )
            pitch = PitchEstimator(bind(PitchConfig, parts["pitch"], "pitch"), spec) if "pitch" in parts else None
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"the header of {path} is damaged ({type(error).__name__}: {error})") from None
    except (VocoderError, ValueError) as error:
        raise CheckpointError(f"the header of {path} describes a model that cannot be built: {error}") from None
    checkpoint.generator, checkpoint.pitch = generator, pitch
    models = {name: model for name, model in (("generator", generator), ("pitch", pitch)) if model is not None}
    _check_keys(path, {f"{name}.{key}" for name, model in models.items() for key in model.state_dict()}, set(tensors))
    for name, model in models.items():
        _fill(path, name, model, tensors)
    return checkpoint


def _check_keys(path: Path, wanted: set[str], found: set[str]) -> None:
    for names, problem in (
        (wanted - found, "lacks tensors its header promises"),
        (found - wanted, "holds tensors its header does not know"),
    ):
        if names:
            shown = ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise CheckpointError(f"{path} {problem}: {shown}")


def _fill(path: Path, prefix: str, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give a module laid out on "meta" its tensors, once all are known to fit."""
    state = {}
    for key, value in module.state_dict().items():
        found = tensors[f"{prefix}.{key}"]
        if found.shape != value.shape:
            raise CheckpointError(
                f"the header of {path} describes {prefix}.{key} of shape {tuple(value.shape)}, "
                f"the file holds {tuple(found.shape)}"
            )
        state[key] = found.to(value.dtype)
    module.load_state_dict(state, assign=True)
    module.eval().requires_grad_(False)
