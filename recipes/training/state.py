"""Save and restore the state of a run, one folder for each saved step.

state/step-00002000/tensors.safetensors   weights, their moving average, the optimisers' moments
state/step-00002000/state.json            layout version, step, recipe
state/step-00002000/SHA256SUMS            checksums of both
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recipes.training.distributed import DistributedContext
from recipes.training.schema import Recipe
from vocoders.errors import VocoderError
from vocoders.files import map_file, read_file, sync

Optimizers = dict[str, torch.optim.Optimizer]

VERSION = 4
"""Layout version."""

_SUMS = "SHA256SUMS"

# keys that may differ when a run resumes
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
    folder: Path,
    step: int,
    best: float,
    modules: dict[str, nn.Module],
    optimizers: Optimizers,
    recipe: Recipe,
    epoch: int | None = None,
) -> None:
    """Write a state whole, then delete all others but the one before it.

    ``best`` is the lowest selection metric so far, ``epoch`` the steps of an epoch; ``optimizers`` go by module.
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
        # Copies on the CPU: safetensors refuses shared memory, and a GPU may be full.
        copies = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}
        save_file(copies, partial / "tensors.safetensors")
        description: dict[str, Any] = {"version": VERSION, "step": step, "best": best, "epoch": epoch}
        description["recipe"] = recipe.model_dump(mode="json")
        (partial / "state.json").write_text(json.dumps(description), encoding="utf-8")
        (partial / _SUMS).write_bytes(_checksums(partial))
        for path in [*partial.iterdir(), partial]:
            sync(path)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        sync(folder)
    except (OSError, SafetensorError, VocoderError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        kept = _complete(folder)
        left = f"the state {kept[-1].name} is kept" if kept else "there is no older one"
        raise VocoderError(f"cannot save the state of step {step} in {folder}: {error}; {left}") from None
    kept = [path for path in _complete(folder) if path <= final][-2:]
    for other in set(_complete(folder)) - set(kept):  # A later state is damaged: the run resumed from an older one.
        shutil.rmtree(other)


def load_state(
    folder: Path,
    modules: dict[str, nn.Module],
    optimizers: Optimizers,
    recipe: Recipe,
    distributed: DistributedContext | None = None,
) -> tuple[int, float, int | None]:
    """Restore the newest intact state, and warn about damaged ones.

    Returns step, best metric and steps of an epoch; 0, infinity and None without a state.
    """
    path, description, tensors, damaged = _newest(folder)
    if path is None:
        if not damaged:
            return 0, math.inf, None
        raise VocoderError(
            f"every state in {folder} is damaged ({'; '.join(damaged)}); start a new run with another --out"
            f"{_initial_weights(folder.parent, recipe)}"
        )
    if description.get("version") != VERSION:
        raise VocoderError(
            f"the state {path} has the layout {description.get('version')}, this release reads {VERSION}; resume the "
            f"run with its own release, or start a new one with another --out{_initial_weights(folder.parent, recipe)}"
        )
    before, now = (_flat(r) for r in (description["recipe"], recipe.model_dump(mode="json")))
    changed = [
        key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key) and key not in _FREE
    ]
    if changed:
        listed = ", ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in changed)
        raise VocoderError(f"the run in {folder.parent} was begun with another recipe: {listed}; choose another --out")
    if damaged:
        text = f"note: a damaged state is left out ({'; '.join(damaged)}), and the older {path.name} beside it is taken"
        (distributed or DistributedContext()).note(text)
    try:
        _restore(tensors, modules, optimizers)
    except (KeyError, RuntimeError, ValueError):
        raise VocoderError(
            f"the weights in the state {path} are those of another release; resume the run with that release, or "
            f"start a new one with another --out{_initial_weights(folder.parent, recipe)}"
        ) from None
    return int(description["step"]), float(description["best"]), description["epoch"]


def _newest(folder: Path) -> tuple[Path | None, dict[str, Any], dict[str, Tensor], list[str]]:
    """Read the newest intact state: path, description, tensors, and the faults of later ones."""
    damaged: list[str] = []
    for path in reversed(_complete(folder)):
        try:
            return path, *_read_state(path), damaged
        except VocoderError as error:
            damaged.append(f"{path.name}: {error}")
    return None, {}, {}, damaged


def _read_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the description and tensors of a state."""
    if read_file(path / _SUMS) != _checksums(path):
        raise VocoderError("its files are not as they were written, their checksums differ")
    return json.loads(read_file(path / "state.json")), load_file(path / "tensors.safetensors")


def _restore(tensors: dict[str, Tensor], modules: dict[str, nn.Module], optimizers: Optimizers) -> None:
    for name, module in modules.items():
        module.load_state_dict(_below(tensors, f"{name}."))
    for name, optimizer in optimizers.items():
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, f"{name} optimizer.").items():
            index, slot = key.split(".", 1)
            # Copy: the file is mapped, and Windows could not delete it later.
            slots.setdefault(int(index), {})[slot] = value.clone()
        # Settings come from the recipe and the device.
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def _checksums(path: Path) -> bytes:
    """Compute a state's checksums in the format of sha256sum."""
    names = ("state.json", "tensors.safetensors")
    return "".join(f"{hashlib.sha256(map_file(path / name)).hexdigest()}  {name}\n" for name in names).encode()


def _initial_weights(folder: Path, recipe: Recipe) -> str:
    """Return the option that starts a new run from the model in ``folder``."""
    part = "generator" if recipe.generator is not None else "f0_estimator"
    return f" --set {part}.init={folder / 'model.safetensors'}"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to {"a.b": value}; an empty mapping is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict) and value
        flat |= _flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _complete(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-" + "[0-9]" * 8))
