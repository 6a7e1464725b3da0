"""The resumable state of a training run: a folder for each saved step, written whole or not at all.

state/step-00002000/tensors.safetensors   weights, their moving average, the optimisers' moments
state/step-00002000/state.json            version of the layout, step, the recipe
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recipes.training.recipe import Recipe
from vocoders.errors import VocoderError

Optimizers = dict[str, torch.optim.Optimizer]

VERSION = 2
"""Version of the layout. The first one has no such entry, and other names of weights."""

# Keys that may differ when a run resumes; any other change would make it another run.
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
    """Write a state, then delete all older ones but the last.

    Args:
        folder: folder of all states of the run.
        step: number of steps done.
        best: lowest value so far of the metric that selects the best checkpoint.
        modules: the modules that change during training, by name.
        optimizers: the optimisers, by the name of the module that they train.
        recipe: the recipe of the run.

    Raises:
        VocoderError: when it cannot be written; the older states are then untouched.
    """
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for name, optimizer in optimizers.items():
        for index, slots in optimizer.state_dict()["state"].items():
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
        description: dict[str, Any] = {"version": VERSION, "step": step, "best": best}
        description["recipe"] = recipe.model_dump(mode="json")
        (partial / "state.json").write_text(json.dumps(description), encoding="utf-8")
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
    """Restore the newest complete state into ``modules`` and ``optimizers``.

    Args:
        folder: as for ``save_state``.
        modules: as for ``save_state``.
        optimizers: as for ``save_state``.
        recipe: as for ``save_state``.

    Returns:
        The step and the best validation of the state; 0 and infinity when there is none.

    Raises:
        VocoderError: when the state has another layout, or the run was begun with another recipe; the message lists the
            keys that differ.
    """
    states = _complete(folder)
    if not states:
        return 0, math.inf
    description: dict[str, Any] = json.loads((states[-1] / "state.json").read_text(encoding="utf-8"))
    if description.get("version") != VERSION:
        raise VocoderError(
            f"the state {states[-1]} has the layout of {_release(description.get('version'))} release; resume the run "
            f"with that release, or start a new one with another --out{_initial_weights(folder.parent, recipe)}"
        )
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
            # A copy: the file is mapped, and Windows could not delete it once it is an old one.
            slots.setdefault(int(index), {})[slot] = value.clone()
        # Its settings are those of the recipe, and of the device.
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(description["step"]), float(description["best"])


def _release(version: Any) -> str:
    return "a later" if isinstance(version, int) and version > VERSION else "an earlier"


def _initial_weights(folder: Path, recipe: Recipe) -> str:
    """Return the option by which a new run starts from the model in ``folder``."""
    part = "generator" if recipe.generator is not None else "f0_estimator"
    return f" --set {part}.init={folder / 'model.safetensors'}"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to {"a.b": value}; an empty mapping, such as a discriminator's defaults, is a value."""
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
    """Have a file or a folder written to the disk, so that a power cut leaves it whole."""
    if path.is_file():
        with path.open("r+b") as file:  # Windows syncs only what is open for writing
            os.fsync(file.fileno())
    elif sys.platform != "win32":  # which cannot open a folder
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
