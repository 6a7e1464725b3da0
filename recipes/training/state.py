"""The resumable state of a training run: one folder a step, complete or not there.

state/step-00002000/tensors.safetensors   weights, their running mean, the optimisers' moments
state/step-00002000/state.json            step, the optimisers' settings, the recipe
"""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recipes.training.recipe import Recipe
from vocoders.errors import VocoderError
from vocoders.files import atomic_write

Optimizers = dict[str, torch.optim.Optimizer]

# What may differ when a run goes on; all else would make it another run under the same name.
_FREE = {
    "data.dir",
    "data.mels",
    "data.workers",
    "data.valid_clips",
    "generator.init",
    "generator.f0_estimator",
    "adversarial.init",
    "train.steps",
    "train.threads",
    "train.log_every",
    "train.save_every",
    "train.validate_every",
}


def save_state(
    folder: Path, step: int, best: float, modules: dict[str, nn.Module], optimizers: Optimizers, recipe: Recipe
) -> None:
    """Write the state after ``step`` steps, then drop all older ones but the last.

    Raises VocoderError, with the older ones untouched, when it cannot be written.
    """
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    groups: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        description = optimizer.state_dict()
        groups[name] = description["param_groups"]
        for index, slots in description["state"].items():
            for slot, value in slots.items():
                tensors[f"{name} optimizer.{index}.{slot}"] = value
    final = folder / f"step-{step:08d}"
    partial = folder / f"{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        # Copies on the CPU: tensors may share memory, which safetensors refuses, and a GPU may be full.
        copies = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}
        save_file(copies, partial / "tensors.safetensors")
        settings = {"step": step, "best": best, "optimizers": groups, "recipe": recipe.model_dump(mode="json")}
        (partial / "state.json").write_text(json.dumps(settings))
        for path in [*partial.iterdir(), partial]:
            _sync(path)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        kept = _complete(folder)
        left = f"the state {kept[-1].name} is kept" if kept else "there is no older one"
        raise VocoderError(f"cannot save the state of step {step} in {folder}: {error}; {left}") from None
    for old in _complete(folder)[:-2]:
        shutil.rmtree(old)


def load_state(
    folder: Path, modules: dict[str, nn.Module], optimizers: Optimizers, recipe: Recipe
) -> tuple[int, float]:
    """Restore the newest complete state into ``modules`` and ``optimizers``; returns its step and best validation.

    These are 0 and infinity when there is no state.

    Raises VocoderError when the run was begun with another recipe, and names what differs.
    """
    states = _complete(folder)
    if not states:
        return 0, math.inf
    description: dict[str, Any] = json.loads((states[-1] / "state.json").read_text())
    before, now = (_flat(r) for r in (description["recipe"], recipe.model_dump(mode="json")))
    changed = [
        key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key) and key not in _FREE
    ]
    if changed:
        listed = ", ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in changed)
        raise VocoderError(f"the run in {folder.parent} was begun with another recipe: {listed}; choose another --out")
    tensors = load_file(states[-1] / "tensors.safetensors")
    for name, module in modules.items():
        module.load_state_dict(_below(tensors, f"{name}."))
    for name, optimizer in optimizers.items():
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, f"{name} optimizer.").items():
            index, slot = key.split(".", 1)
            slots.setdefault(int(index), {})[slot] = value
        optimizer.load_state_dict({"state": slots, "param_groups": description["optimizers"][name]})
    return int(description["step"]), float(description["best"])


def save_discriminators(adversary: nn.Module, recipe: Recipe, path: Path) -> None:
    """One file with all discriminators, that the recipe of another run can start from (``adversarial.init``)."""
    named = {"discriminators": json.dumps(recipe.discriminators), "sample_rate": str(recipe.mel.sample_rate)}
    copies = {key: v.detach().to("cpu", copy=True).contiguous() for key, v in adversary.state_dict().items()}
    with atomic_write(path) as partial:
        save_file(copies, partial, named)


def load_discriminators(adversary: nn.Module, recipe: Recipe, path: Path) -> None:
    """Restore what ``save_discriminators`` wrote. Raises VocoderError when it holds others than the recipe names."""
    try:
        with safe_open(path, "pt") as file:
            named = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise VocoderError(f"cannot read the discriminators {path}: {error}") from None
    stored, rate = json.loads(named.get("discriminators", "{}")), named.get("sample_rate")
    if stored != recipe.discriminators or rate != str(recipe.mel.sample_rate):
        raise VocoderError(
            f"{path} holds the discriminators {stored} for {rate} Hz, the recipe names {recipe.discriminators} for "
            f"{recipe.mel.sample_rate} Hz"
        )
    adversary.load_state_dict(load_file(path))


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"a.b": value}; an empty mapping, such as a discriminator with its defaults, is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict) and value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _complete(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.suffix != ".partial")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
