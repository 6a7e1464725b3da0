"""Read what a generator takes beside the mel: a folder of NAME.npz, named like the recordings."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from recipes.data.clips import Clip, find_namesake
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.inputs import Input, check_value

_SLACK = 2  # frames that an array may be longer or shorter than its recording


class InputFiles:
    """The inputs of each recording: arrays of NAME.npz, also in subfolders; ``mel_config`` is in terms of the audio."""

    def __init__(self, folder: Path, root: Path, inputs: Sequence[Input], mel_config: MelConfig) -> None:
        self.folder, self.root, self.inputs, self.mel_config = folder, root, inputs, mel_config

    def check(self, clips: Sequence[Clip]) -> None:
        """Refuse recordings whose arrays are missing or of another shape, by the headers of the files."""
        bad = []
        for clip in tqdm(clips, desc="inputs", unit="file", disable=None):
            try:
                self._check(clip)
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                bad.append(f"{clip.path.name} ({error})")
        if bad:
            raise VocoderError(
                f"{len(bad)} of {len(clips)} recordings lack their inputs in data.inputs = {self.folder}, such as "
                f"{bad[0]}; save for each recording NAME.wav a file NAME.npz with {layout(self.inputs)}"
            )

    def read(self, clip: Clip, first: int, frames: int | None = None) -> dict[str, Tensor]:
        """Read the inputs of ``frames`` frames, or all, from ``first`` on: (channels, length) by "input NAME"."""
        values = {}
        with np.load(self._path(clip)) as file:
            for item in self.inputs:
                stored, each = file[item.name], item.columns(1, self.mel_config.hop_length)
                value = check_value(item, stored, 1, stored.shape[-1] if item.is_signal else 1, self.mel_config)[0]
                if item.is_signal:
                    value = value[:, first * each :]
                    length = value.shape[1] if frames is None else frames * each
                    value = np.pad(value, ((0, 0), (0, max(0, length - value.shape[1]))), "edge")[:, :length]
                values[f"input {item.name}"] = torch.from_numpy(value)
        return values

    def _path(self, clip: Clip) -> Path:
        path = find_namesake(self.folder, clip.path.relative_to(self.root), (".npz",))
        if path is None:
            raise VocoderError(f"no {clip.path.stem}.npz")
        return path

    def _check(self, clip: Clip) -> None:
        arrays = _headers(self._path(clip))
        frames = clip.samples / clip.sample_rate * self.mel_config.sample_rate / self.mel_config.hop_length
        for item in self.inputs:
            if item.name not in arrays:
                raise VocoderError(f"no array '{item.name}'")
            zeros, each = arrays[item.name], item.columns(1, self.mel_config.hop_length)
            columns = zeros.shape[-1] if zeros.ndim and item.is_signal else 1
            check_value(item, zeros, 1, columns, self.mel_config)
            if item.is_signal and abs(columns / each - frames) > _SLACK:
                raise VocoderError(f"'{item.name}' is {columns} long, the recording {round(frames * each)}")


def layout(inputs: Sequence[Input]) -> str:
    """Format names and shapes: "speaker (8), energy (1, frames)"."""
    lengths = {"frame": ", frames", "sample": ", samples", "utterance": ""}
    return ", ".join(f"{item.name} ({item.channels}{lengths[item.rate]})" for item in inputs)


def _headers(path: Path) -> dict[str, np.ndarray]:
    """Read the headers of an .npz: an array of zeros, of no memory, for each of its own."""
    arrays, header = {}, np.lib.format
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                first = header.read_magic(file) == (1, 0)
                shape, _, dtype = (header.read_array_header_1_0 if first else header.read_array_header_2_0)(file)
            arrays[name.removesuffix(".npy")] = np.broadcast_to(np.zeros((), dtype), shape)
    return arrays
