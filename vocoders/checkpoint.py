"""Checkpoints: self-describing .safetensors files.

Header keys, each a string: ``format`` = "vocoders"; ``version``; in JSON ``mel_config``, ``generator`` ({"name",
"config"}), ``f0_estimator`` (configuration, and "kind" unless ``F0Estimator``), ``training``, ``lag`` (unless usual)
and ``lookahead`` of each network. A network's key prefixes its tensors. No pickle is written or read.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import float32_weights
from vocoders.errors import CheckpointError, VocoderError, few
from vocoders.f0_estimator import BaseF0Estimator, build_f0_estimator, describe_f0_estimator
from vocoders.facts import Architecture, Facts
from vocoders.files import atomic_write, refuse_pointer
from vocoders.generators import GENERATORS, build_generator, generator_name
from vocoders.generators.base import Generator

VERSION = "2"


@dataclass(repr=False)
class Checkpoint:
    """Content of a checkpoint file.

    Attributes:
        mel_config: the networks' mel config.
        generator: mel to audio, or None.
        f0_estimator: mel to F0, or None.
        training: how the networks were made, any JSON.
        lag: delay of the audio in samples against the recording; None for ``MelConfig.usual_lag``.
    """

    mel_config: MelConfig
    generator: Generator | None = None
    f0_estimator: BaseF0Estimator | None = None
    training: dict[str, Any] = field(default_factory=dict)
    lag: int | None = None

    def __repr__(self) -> str:
        networks = [generator_name(self.generator)] if self.generator else []
        networks += ["F0 estimator"] if self.f0_estimator else []
        return f"<Checkpoint: {', '.join(networks)}, mel config {self.mel_config.text}>"


def describe(checkpoint: Checkpoint) -> Facts:
    """Return the facts about a model with a generator."""
    generator, estimator = checkpoint.generator, checkpoint.f0_estimator
    assert generator is not None
    if estimator is not None and estimator.estimates not in [item.name for item in generator.inputs]:
        estimator = None  # unused
    networks = {"generator": generator, "f0_estimator": estimator}
    return Facts(
        mel_config=checkpoint.mel_config,
        generator=Architecture(name=generator_name(generator), config=generator.config.model_dump(mode="json")),
        sample_rate=generator.sample_rate,
        channels=generator.channels,
        samples_per_frame=generator.samples_per_frame,
        inputs=generator.inputs,
        estimated=() if estimator is None else (estimator.estimates,),
        lookahead=generator.lookahead,
        context=generator.context,
        estimator_lookahead=0 if estimator is None else estimator.lookahead,
        estimator_context=0 if estimator is None else estimator.context,
        next_f0_share=generator.next_f0_share,
        lag=checkpoint.lag,
        parameters={
            name: sum(p.numel() for p in network.parameters()) for name, network in networks.items() if network
        },
        training=checkpoint.training,
    )


def save_checkpoint(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write a checkpoint atomically.

    Args:
        checkpoint: the content.
        path: the .safetensors file.

    Raises:
        VocoderError: when the file cannot be written, and for a generator that ``GENERATORS`` does not list.
    """
    header = {
        "format": "vocoders",
        "version": VERSION,
        "mel_config": checkpoint.mel_config.model_dump_json(),
        "training": json.dumps(checkpoint.training),
    }
    if checkpoint.lag is not None:
        header["lag"] = str(checkpoint.lag)
    tensors: dict[str, Tensor] = {}
    lookahead: dict[str, int | None] = {}
    if checkpoint.generator is not None:
        lookahead["generator"] = checkpoint.generator.lookahead
        name, config = generator_name(checkpoint.generator), checkpoint.generator.config.model_dump(mode="json")
        if name not in GENERATORS:
            raise VocoderError(f'a file can hold what GENERATORS lists: add "{name.lower()}": {name} to it')
        header["generator"] = json.dumps({"name": name, "config": config})
        tensors |= {f"generator.{key}": value for key, value in checkpoint.generator.state_dict().items()}
    if checkpoint.f0_estimator is not None:
        lookahead["f0_estimator"] = checkpoint.f0_estimator.lookahead
        header["f0_estimator"] = json.dumps(describe_f0_estimator(checkpoint.f0_estimator))
        tensors |= {f"f0_estimator.{key}": value for key, value in checkpoint.f0_estimator.state_dict().items()}
    header["lookahead"] = json.dumps(lookahead)
    tensors = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    write_tensors(tensors, Path(path), header)


def write_tensors(tensors: dict[str, Tensor], path: Path, header: dict[str, str]) -> None:
    """Write CPU tensors to a .safetensors file atomically."""
    with atomic_write(path) as partial:
        try:
            save_file(tensors, partial, header)
        except SafetensorError as error:  # wraps an OSError, such as of a full disk
            raise OSError(str(error)) from None


@float32_weights()
def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint, its networks in eval mode, on the CPU and without gradients.

    Args:
        path: the .safetensors file.

    Raises:
        CheckpointError: for a missing, damaged or foreign file.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, not a checkpoint")
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safe_open(path, framework="pt") as file:
            checkpoint = _describe(path, file.metadata() or {})
            models = {"generator": checkpoint.generator, "f0_estimator": checkpoint.f0_estimator}
            present = {name: model for name, model in models.items() if model is not None}
            expected = {f"{name}.{key}" for name, model in present.items() for key in model.state_dict()}
            _check_keys(path, expected, set(file.keys()))
            for name, model in present.items():
                _fill(path, name, model, {key: file.get_tensor(f"{name}.{key}") for key in model.state_dict()})
    except SafetensorError as error:
        with path.open("rb") as damaged:
            refuse_pointer(damaged.read(64), str(path))
        raise CheckpointError(f"{path} is not a checkpoint of this package, or is damaged ({error})") from None
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    return checkpoint


def is_foreign(path: Path) -> bool:
    """Tell whether a file is another project's checkpoint, by name and header."""
    if path.suffix != ".safetensors":
        return True
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") != "vocoders"
    except (SafetensorError, OSError):  # damaged: load_checkpoint reports it
        return False


def _describe(path: Path, header: dict[str, str]) -> Checkpoint:
    """Build the checkpoint of a header, on "meta"."""
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
        keys = ("mel_config", "training", "generator", "f0_estimator", "lag", "lookahead")
        parts = {key: json.loads(header[key]) for key in keys if key in header}
        mel_config = bind(MelConfig, parts["mel_config"], "mel_config")
        measured = dict(parts.get("lookahead", {}))
        checkpoint = Checkpoint(mel_config, training=dict(parts.get("training", {})), lag=_frames(parts, "lag"))
        with torch.device("meta"):  # shapes only
            if "generator" in parts:
                name, config = parts["generator"]["name"], parts["generator"]["config"]
                checkpoint.generator = build_generator(name, config, mel_config)
                if "generator" in measured:
                    checkpoint.generator.lookahead = _frames(measured, "generator")
            if "f0_estimator" in parts:
                checkpoint.f0_estimator = build_f0_estimator(parts["f0_estimator"], mel_config)
                if (lookahead := _frames(measured, "f0_estimator")) is not None:
                    checkpoint.f0_estimator.lookahead = lookahead
    except VocoderError as error:
        raise CheckpointError(f"the header of {path} describes a model that cannot be built: {error}") from None
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError, ArithmeticError, RuntimeError) as error:
        reason = str(error).split("\n")[0]
        raise CheckpointError(f"the header of {path} is damaged ({type(error).__name__}: {reason})") from None
    return checkpoint


def _frames(parts: dict[str, Any], key: str) -> int | None:
    """Return a count of frames or samples, or None."""
    count = parts.get(key)
    if count is not None and (type(count) is not int or count < 0):
        raise ValueError(f"{key} {count!r:.20}")
    return count


def _check_keys(path: Path, expected: set[str], present: set[str]) -> None:
    lacking, superfluous = expected - present, present - expected
    for names, problem in (
        (lacking, "lacks tensors that its header describes"),
        (superfluous, "holds tensors that its header does not describe"),
    ):
        if names:
            raise CheckpointError(f"{path} {problem}: {few(names)}")


def _fill(path: Path, name: str, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load the tensors of a network on "meta", after checking all."""
    for key, value in model.state_dict().items():
        tensor = tensors[key]
        if tensor.shape != value.shape:
            raise CheckpointError(
                f"the header of {path} describes {name}.{key} of shape {tuple(value.shape)}, "
                f"the file holds {tuple(tensor.shape)}"
            )
        if not tensor.is_floating_point() or not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path} is damaged: {name}.{key} does not hold finite floats")
        # Windows cannot replace the file that safetensors maps.
        tensors[key] = tensor.to(value.dtype, copy=sys.platform == "win32")
    model.load_state_dict(tensors, assign=True)
    model.eval().requires_grad_(False)
