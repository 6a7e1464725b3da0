"""The resumable state of a training run: one folder a step, complete or not there.

state/step-00002000/tensors.safetensors   weights, their running mean, the optimiser's moments, the RNG
state/step-00002000/state.json            step, the optimiser's settings
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vocoders.errors import VocoderError


def save_state(folder: Path, step: int, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> None:
    """Write the state after ``step`` steps, then drop all older ones but the last."""
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    description = optimizer.state_dict()
    for index, slots in description["state"].items():
        for slot, value in slots.items():
            tensors[f"optimizer.{index}.{slot}"] = value
    tensors["rng"] = torch.get_rng_state()

    final = folder / f"step-{step:08d}"
    partial = folder / f"{final.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, partial / "tensors.safetensors")
    (partial / "state.json").write_text(json.dumps({"step": step, "optimizer": description["param_groups"]}))
    for path in [*partial.iterdir(), partial]:
        _sync(path)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    _sync(folder)
    for old in _complete(folder)[:-2]:
        shutil.rmtree(old)


def load_state(folder: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> int:
    """Restore the newest complete state into ``modules`` and ``optimizer``; returns its step, 0 when there is none."""
    states = _complete(folder)
    if not states:
        return 0
    description: dict[str, Any] = json.loads((states[-1] / "state.json").read_text())
    tensors = load_file(states[-1] / "tensors.safetensors")
    try:
        for name, module in modules.items():
            module.load_state_dict(_below(tensors, f"{name}."))
    except RuntimeError as error:
        raise VocoderError(f"{states[-1]} was trained with another recipe: {' '.join(str(error).split())}") from None
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in _below(tensors, "optimizer.").items():
        index, slot = key.split(".", 1)
        slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": description["optimizer"]})
    torch.set_rng_state(tensors["rng"])
    return int(description["step"])


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _complete(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.suffix != ".partial")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)
