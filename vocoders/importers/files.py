"""Read configurations, checkpoints and statistics of other projects without running their code."""

from __future__ import annotations

import contextlib
import io
import json
import math
import pickle
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocoders.errors import VocoderError, reason
from vocoders.extras import require
from vocoders.files import map_file, read_file
from vocoders.importers.base import Importer, Settings
from vocoders.io.mels import read_array

STATISTICS = ("stats.h5", "stats.npy")  # files beside a checkpoint

_LARGEST_MEMBER = 4 << 30  # bytes: a compressed archive may expand without limit
_LARGEST_CONFIG = 1 << 20  # bytes; published ones have under 20,000
_MOST_VALUES = 100_000  # a YAML alias counts as many as it names
_MOST_STATISTICS = 1 << 16  # values
# Comments, and commas before closing brackets, which json5 allows; strings (group 1) are skipped. Unclosed ones extend
# to the end of the text, so no place is searched twice.
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*+"?)|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+"?)|,(?=\s*[\]}])', re.DOTALL)
_ZIP_START = b"PK\x03\x04"  # torch since 1.6
# torch before: MAGIC_NUMBER of torch/serialization.py, pickled
_LEGACY_START = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


def check_checkpoint(path: Path) -> None:
    """Raise VocoderError when the file is missing."""
    if path.is_dir():
        raise VocoderError(f"{path} is a folder, not a checkpoint")
    if not path.is_file():
        raise VocoderError(f"there is no file {path}")


def find_config(checkpoint: Path, importer: Importer) -> Path | None:
    """Find the configuration beside a checkpoint; None if the family needs none."""
    for name in importer.configs:
        if (checkpoint.parent / name).is_file():
            return checkpoint.parent / name
    if not importer.needs_config:
        return None
    *names, last = importer.configs
    listed = f"{', '.join(names)} or {last}" if names else last
    raise VocoderError(f"there is no {listed} beside {checkpoint}; give --config")


def find_stats(checkpoint: Path) -> Path:
    """Find the mel statistics beside a checkpoint; without them the model turns every mel into noise."""
    for name in STATISTICS:
        if (checkpoint.parent / name).is_file():
            return checkpoint.parent / name
    raise VocoderError(
        f"there is no stats.h5 or stats.npy beside {checkpoint}, which was trained on normalised mels; give --stats "
        f"(a .npy of a row of zeros and a row of ones for one that was not)"
    )


def read_config(path: Path) -> Settings:
    """Read YAML or JSON, with comments and trailing commas allowed.

    Tags that build objects, such as HyperPyYAML's "!new:Class", become plain values: a mapping has its tag at the key
    "!", a scalar's text begins with it.
    """
    return parse_config(read_file(path), str(path))


def parse_config(data: bytes, name: str) -> Settings:
    """Parse a configuration file called ``name``."""
    if len(data) > _LARGEST_CONFIG:
        raise VocoderError(f"{name} is not a readable configuration (it has {len(data)} bytes)")
    text, is_json = data.decode(errors="replace"), name.endswith(".json")
    if not is_json:
        require("reading a YAML configuration", "import", "yaml")
    try:
        values = _load_json(text) if is_json else _load_yaml(text)
    except Exception as error:
        raise VocoderError(f"{name} is not a readable configuration ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise VocoderError(f"{name} is not a configuration: it must hold keys and values")
    return values


def _load_json(text: str) -> Any:
    for pattern in (_COMMENT, _LAST_COMMA):
        text = pattern.sub(lambda m: m[1] or "", text)
    return json.loads(text)


def _load_yaml(text: str) -> Any:
    import yaml

    def plain(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return {"!": tag, **loader.construct_mapping(node, deep=True)}
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node, deep=True)
        return f"!{tag} {node.value}"

    class Loader(yaml.SafeLoader):
        """Builds plain values from tags, which its base refuses."""

    def count(node: yaml.Node, counts: dict[int, int]) -> int:
        """Count a node's values, aliased ones each time."""
        if id(node) not in counts:
            counts[id(node)] = _MOST_VALUES  # for an alias inside its own target
            inner: list[yaml.Node] = []
            if isinstance(node, yaml.CollectionNode):
                inner = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
            counts[id(node)] = 1 + sum(count(part, counts) for part in inner)
        return counts[id(node)]

    Loader.add_multi_constructor("!", plain)
    root = yaml.compose(text, Loader)
    if root is None:
        return None
    if count(root, {}) > _MOST_VALUES:
        raise ValueError(f"its aliases stand for more than {_MOST_VALUES} values")
    return Loader("").construct_document(root)


def read_metadata(path: Path) -> Settings:
    """Read the configuration in the metadata of a .safetensors, {} without one."""
    if path.suffix != ".safetensors":
        return {}
    with _opened(path) as file:
        text = (file.metadata() or {}).get("config", "{}")
    return parse_config(text.encode(), f"{path}.json")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a .safetensors."""
    from safetensors import SafetensorError, safe_open

    map_file(path)  # refuses a Git LFS pointer
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise VocoderError(f"{path} is damaged ({error})") from None


def read_weights(path: Path, prefix: str = "") -> Any:
    """Read a checkpoint: nested dictionaries of tensors, flat from .safetensors.

    Of a .safetensors only keys that begin with ``prefix`` are read.

    Pickles, also of torch before 1.6, are read with ``weights_only=True``.
    """
    map_file(path)  # refuses a Git LFS pointer
    if path.suffix == ".safetensors":
        with _opened(path) as file:
            return {name: file.get_tensor(name) for name in list(file.keys()) if name.startswith(prefix)}
    with path.open("rb") as file:
        start = file.read(len(_LEGACY_START))
    return _load_tensors(path, str(path), start.startswith(_ZIP_START), start)


def _load_tensors(source: Path | io.BytesIO, name: str, mapped: bool, start: bytes) -> Any:
    """Load a torch checkpoint that begins with ``start``; ``mapped``: without a copy in memory."""
    if not start.startswith((_ZIP_START, _LEGACY_START)):
        raise VocoderError(f"{name} is not a readable checkpoint (torch has written no such file)")
    try:
        if start.startswith(_ZIP_START):
            _check_zip(source)
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:
        raise VocoderError(
            f"{name} holds more than tensors; unpickling it could run code, so it is refused: where it was written, "
            f"save the weights alone by torch.save(generator.state_dict(), 'weights.pt')"
        ) from None
    except Exception as error:  # torch.load raises many kinds for damaged files
        raise VocoderError(f"{name} is not a readable checkpoint ({reason(error)})") from None


def _check_zip(source: Path | io.BytesIO) -> None:
    """Raise ValueError for compressed or overlapping zip members, whose stated size may be false."""
    with zipfile.ZipFile(source) as archive:
        members = archive.infolist()
        held = archive.start_dir
    if any(m.compress_type != zipfile.ZIP_STORED for m in members) or sum(m.file_size for m in members) > held:
        raise ValueError("its members are compressed or overlap, which torch does not write")
    if isinstance(source, io.BytesIO):
        source.seek(0)


def read_archive(path: Path, config: str, weights: str) -> tuple[Settings, Any]:
    """Read ``config`` and ``weights`` of a tar archive in memory."""
    found: dict[str, bytes] = {}
    map_file(path)  # refuses a Git LFS pointer
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if name not in (config, weights) or not member.isfile():
                    continue
                if member.size > _LARGEST_MEMBER:
                    raise VocoderError(f"{name} in {path} is larger than {_LARGEST_MEMBER >> 30} GiB")
                content = archive.extractfile(member)
                assert content is not None  # it is a file
                found[name] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise VocoderError(f"{path} is not a readable archive ({reason(error).rstrip(':')})") from None
    if missing := [name for name in (config, weights) if name not in found]:
        raise VocoderError(f"{path} does not hold {' and '.join(missing)}")
    data = found.pop(weights)
    tensors = _load_tensors(io.BytesIO(data), f"{weights} in {path}", False, data[: len(_LEGACY_START)])
    return parse_config(found[config], f"{config} in {path}"), tensors


def read_stats(path: Path, n_mels: int) -> tuple[Tensor, Tensor]:
    """Read mean and scale of mels, each (n_mels, 1), from a .npy (2, n_mels) or .h5 with "mean" and "scale"."""
    data = read_file(path)
    if path.suffix == ".npy":
        values = read_array(data, str(path))
        rows = [values[0], values[1]] if values.ndim >= 2 and len(values) >= 2 else []
    elif path.suffix in (".h5", ".hdf5"):
        rows = _read_hdf5(data, path)
    else:
        raise VocoderError(f"statistics must be .npy or .h5, not {path}; a joblib file is a pickle and is never loaded")
    flat = [np.asarray(row, dtype=np.float32).reshape(-1) for row in rows]
    if len(flat) != 2 or any(len(row) != n_mels for row in flat):
        raise VocoderError(f"{path} must hold mean and scale of {n_mels} bands")
    mean, scale = (torch.from_numpy(row)[:, None] for row in flat)
    if not (torch.isfinite(mean).all() and torch.isfinite(scale).all() and (scale > 0).all()):
        raise VocoderError(f"{path} must hold finite means, and scales above 0")
    return mean, scale


def _read_hdf5(data: bytes, path: Path) -> list[Any]:
    require("reading .h5 statistics", "import", "h5py")
    import h5py

    try:
        with h5py.File(io.BytesIO(data)) as file:
            return [_read_dataset(file, name) for name in ("mean", "scale")]
    except Exception as error:  # h5py raises many kinds for damaged files
        raise VocoderError(f"{path} does not hold mean and scale ({reason(error)})") from None


def _read_dataset(file: Any, name: str) -> Any:
    """Read a small dataset in the file itself: links and external storage could read any file."""
    import h5py

    dataset = file[name] if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise ValueError(f"'{name}' is not an array in this file")
    if dataset.dtype.kind not in "fiu":
        raise ValueError(f"'{name}' holds no numbers")
    if max(dataset.size, math.prod(dataset.chunks or ())) > _MOST_STATISTICS:
        raise ValueError(f"'{name}' claims the shape {dataset.shape}")
    return dataset[()]
