"""Write a published model as files: its configuration, with random weights."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from tests.support.layouts import LAYOUTS
from tests.support.published import write_tar
from vocoders.importers.files import read_config
from vocoders.nn.alias_free import low_pass_filter

Settings = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A published model.

    Attributes:
        family: a key of IMPORTERS.
        checkpoint: file name.
        config_file: name of its configuration, in the checkpoint if that is an archive; "" if none, and ``config`` says
            what the code has.
        config: keys and values, or YAML.
        place: where the weights lie in the checkpoint.
        prefix: prefix of the keys; others are written beside them.
        folder: folder of the files in the repository.
        others: further files, left empty.
        channels: key of a channel count, divided by 8 for a large model.
        stats: bands of the statistics in stats.h5, 0 for none.
    """

    family: str
    checkpoint: str
    config_file: str
    config: Settings | str
    place: tuple[str, ...] = ()
    prefix: str = ""
    folder: str = ""
    others: tuple[str, ...] = ()
    channels: str = ""
    stats: int = 0

    def write(self, place: Path, full: bool = False) -> None:
        """Write the files; a large model has fewer channels unless ``full``."""
        folder = place / self.folder
        folder.mkdir(parents=True, exist_ok=True)
        weights: Any = self.weights(self.write_config(folder, full))
        if self.prefix:
            weights["other.weight"] = torch.zeros(4, 4)
        if self.checkpoint.endswith(".nemo"):
            torch.save(weights, folder / "model_weights.ckpt")
            parts = ("model_config.yaml", "model_weights.ckpt")
            write_tar(folder / self.checkpoint, {part: part for part in parts})
            for part in parts:
                (folder / part).unlink()
        elif self.checkpoint.endswith(".safetensors"):
            safetensors.torch.save_file(weights, folder / self.checkpoint)
        else:
            for key in reversed(self.place):
                weights = {key: weights, "steps": 7}
            torch.save(weights, folder / self.checkpoint)
        if self.stats:
            import h5py

            with h5py.File(folder / "stats.h5", "w") as file:
                file["mean"], file["scale"] = np.zeros(self.stats, np.float32), np.ones(self.stats, np.float32)
        for name in self.others:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).touch()

    def write_config(self, folder: Path, full: bool) -> Settings:
        """Write the configuration, if there is one, and return it."""
        config = self.config
        if self.channels and not full:
            assert isinstance(config, dict)
            config = config | {self.channels: config[self.channels] // 8}
        if not self.config_file:
            assert isinstance(config, dict)
            return config
        path = folder / self.config_file
        path.write_text(config if isinstance(config, str) else json.dumps(config))  # JSON is YAML
        return read_config(path)

    def weights(self, config: Settings) -> dict[str, torch.Tensor]:
        """Make random weights on torch's default device."""
        return {self.prefix + key: _random(key, shape) for key, shape in LAYOUTS[self.family](config).items()}


def _random(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    if key.endswith("filter"):
        return low_pass_filter().reshape(shape)
    return torch.rand(shape).sub_(0.5).div_(math.sqrt(max(1, math.prod(shape[1:]))))
