"""Find and convert models of other projects in folders and repositories.

The configuration tells the family, the file name the checkpoint. Conversions are cached in VOCODERS_CACHE, by default
~/.cache/vocoders.
"""

from __future__ import annotations

import hashlib
import json
import os
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from vocoders.checkpoint import save_checkpoint
from vocoders.errors import VocoderError, few
from vocoders.hub import refuse_unsupported
from vocoders.importers import IMPORTERS, import_checkpoint
from vocoders.importers.base import Importer, Settings
from vocoders.importers.files import STATISTICS, read_config


class Found(NamedTuple):
    """A checkpoint with its importer and its configuration, if the family has one."""

    importer: Importer
    checkpoint: Path
    config: Path | None


CONFIGURATIONS = tuple(sorted({name for importer in IMPORTERS.values() for name in importer.configs}))


def file_patterns(folder: Path) -> list[list[str]]:
    """Return the file patterns, with ``*``, of the models that a folder's configurations describe, by kind of file.

    Preferred kinds first: a repository may hold several forms, or a much larger training checkpoint.
    """
    without = [(folder, i) for i in IMPORTERS.values() if not (i.needs_config or i.prefix)]  # not tens of GB
    families = without + [(place, importer) for place in _places(folder) for importer, _ in _families(place)]
    return [
        [
            (place.relative_to(folder) / name).as_posix()
            for place, importer in families
            for name in (*importer.checkpoints[kind : kind + 1], *STATISTICS)
        ]
        for kind in range(max(len(importer.checkpoints) for importer in IMPORTERS.values()))
    ]


def holds_model(folder: Path) -> bool:
    """Whether a folder, or one in it, holds another project's model."""
    return any(_models(place) for place in _places(folder))


def recognize_folder(folder: Path) -> Found:
    """Find the only model of another project in a folder, or else in its subfolders."""
    places = _places(folder)
    for level in (places[:1], places[1:]):
        found = [model for place in level for model in _models(place)]
        if len(found) > 1:
            names = ", ".join(f"{model.checkpoint.relative_to(folder)} ({model.importer.name})" for model in found)
            raise VocoderError(f"{folder} holds several models: {names}; name the file of one")
        if found:
            return found[0]
    for place in places:
        for importer, config in _families(place):
            raise VocoderError(
                f"{config} describes a model of the family {importer.name}, but beside it is no checkpoint: "
                f"{' or '.join(importer.checkpoints)}"
            )
    _refuse_unsupported(folder, places)
    raise VocoderError(f"{folder} holds no model: {_content(folder)}")


def recognize_file(checkpoint: Path) -> Found:
    """Find a checkpoint's family by its name and the configuration beside it."""
    families = _families(checkpoint.parent)
    named = [pair for pair in families if any(fnmatch(checkpoint.name, name) for name in pair[0].checkpoints)]
    if not (candidates := named or [pair for pair in families if pair[1]]):
        _refuse_unsupported(checkpoint, [checkpoint.parent])
        raise VocoderError(
            f"{checkpoint} is not a checkpoint of this package, and no configuration beside it tells which family it "
            f"is of: {_content(checkpoint.parent)}"
        )
    if len(candidates) > 1:
        names = " or ".join(importer.name for importer, _ in candidates)
        raise VocoderError(f"{checkpoint} may be of the family {names}; 'vocoders import' converts it")
    importer, config = candidates[0]
    return Found(importer, checkpoint, config)


def convert(found: Found, repository: str | None = None) -> Path:
    """Convert a checkpoint once; return its path in the cache."""
    beside = (found.checkpoint.with_name(name) for name in STATISTICS)
    files = [path for path in (found.checkpoint, found.config, *beside) if path and path.is_file()]
    stamps = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    identity = json.dumps([version("vocoders"), found.importer.name, repository, stamps])
    name = f"{found.importer.name}-{hashlib.sha256(identity.encode()).hexdigest()[:20]}.safetensors"
    try:
        folder = Path(os.environ.get("VOCODERS_CACHE") or Path.home() / ".cache" / "vocoders")
    except RuntimeError:  # a user without an account entry, as in containers
        raise VocoderError(
            "there is no home folder to keep the converted model in; name a folder: export VOCODERS_CACHE=/tmp/vocoders"
        ) from None
    if not _is_whole(folder / name):
        checkpoint = import_checkpoint(found.importer.name, found.checkpoint, found.config, repository=repository)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_checkpoint(checkpoint, folder / name)
        except (OSError, VocoderError) as error:
            raise VocoderError(
                f"the converted model cannot be kept in {folder} ({error}); name another folder by VOCODERS_CACHE"
            ) from None
    return folder / name


def _is_whole(path: Path) -> bool:
    """Whether a cached conversion is complete."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False


def _places(folder: Path) -> list[Path]:
    """Return a folder and its subfolders."""
    return [folder, *sorted(path for path in folder.iterdir() if path.is_dir())] if folder.is_dir() else []


def _families(place: Path) -> list[tuple[Importer, Path | None]]:
    """Return the families that a folder's files tell of, with their configuration, if any."""
    found: list[tuple[Importer, Path | None]] = []
    for name in CONFIGURATIONS:
        if settings := _read(place / name):
            described = (i for i in IMPORTERS.values() if name in i.configs and i.recognizes(settings))
            found += ((importer, place / name) for importer in described)
    without = (i for i in IMPORTERS.values() if not i.needs_config and i not in [family for family, _ in found])
    found += ((importer, None) for importer in without if _checkpoints(importer, place))
    return found


def _read(config: Path) -> Settings | None:
    if not config.is_file():
        return None
    try:
        return read_config(config)
    except VocoderError:  # some other file
        return None


def _checkpoints(importer: Importer, place: Path) -> list[Path]:
    """Return a family's checkpoints in a folder, of the preferred kind."""
    names = sorted(path.name for path in place.iterdir() if path.is_file())
    for pattern in importer.checkpoints:
        if matching := [place / name for name in names if fnmatch(name, pattern)]:
            return matching
    return []


def _models(place: Path) -> list[Found]:
    return [Found(i, checkpoint, config) for i, config in _families(place) for checkpoint in _checkpoints(i, place)]


def _refuse_unsupported(path: Path, places: list[Path]) -> None:
    """Raise VocoderError when a path or the configurations in these folders tell of an unsupported vocoder."""
    settings = (_read(place / name) for place in places for name in CONFIGURATIONS)
    refuse_unsupported(path.name, path.resolve().parent.name, *(str(values) for values in settings if values))


def _content(folder: Path) -> str:
    """Describe a folder without a model, for messages."""
    names = [path.name for path in folder.iterdir()]
    if not names:
        return "it is empty"
    families = f"the known families, {', '.join(IMPORTERS)}"
    for name in CONFIGURATIONS:
        if (folder / name).is_file():
            read_config(folder / name)  # raises what is wrong
            return f"{name} is of none of {families}"
    return f"it holds {few(names)}, and no configuration of {families}"
