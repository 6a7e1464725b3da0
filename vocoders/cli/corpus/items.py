"""Inputs and outputs of a corpus, local or by URL, paired before workers start."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vocoders.cli.plan import expand
from vocoders.cluster import storage
from vocoders.errors import VocoderError
from vocoders.io.audio import AUDIO_SUFFIXES
from vocoders.io.mels import MEL_SUFFIXES

SHARD_SUFFIX = ".tar"

_FILE_SUFFIXES = AUDIO_SUFFIXES + MEL_SUFFIXES


@dataclass(frozen=True)
class Item:
    """One input and its output, or a shard of inputs and the folder of its outputs.

    Attributes:
        source: absolute path or URL, for a member of a shard with its name appended.
        place: the output, relative to the output folder.
        target: its absolute path or URL.
        exists: whether the output is there, and stays.
    """

    source: str
    place: str
    target: str
    size: int
    exists: bool = False

    @property
    def is_shard(self) -> bool:
        """Whether it is a tar of inputs."""
        return self.source.lower().endswith(SHARD_SUFFIX)


def resolve_output(output: str) -> str:
    """Return the output folder as an absolute path or a URL; VocoderError for a file."""
    if storage.is_url(output):
        system, path = storage.filesystem(output)
        url: str = system.unstrip_protocol(path)
        return url.rstrip("/")
    if output == "-" or Path(output).is_file():
        raise VocoderError(f"--ray writes to a folder, '{output}' is {'a stream' if output == '-' else 'a file'}")
    return os.path.abspath(output)


def list_outputs(output: str) -> set[str]:
    """List the files below the output folder."""
    if storage.is_url(output):
        return set(storage.list_files(output))
    return {os.path.join(folder, name) for folder, _, names in os.walk(output) for name in names}


def find_items(
    inputs: Sequence[str],
    output: str,
    format: str,
    there: Collection[str],
    note: Callable[[str], None] = lambda _: None,
) -> list[Item]:
    """Pair each input (file, folder, glob; path or URL) with its output; the largest first.

    Outputs are named as by ``vocode``, those of a shard as if it were unpacked to a folder of its name. Raises
    VocoderError for missing inputs and conflicting outputs.
    """
    items: dict[str, Item] = {}
    for source, place, size in (found for text in inputs for found in _find(text, output, format, note)):
        place = str(PurePosixPath(place).with_suffix("" if source.lower().endswith(SHARD_SUFFIX) else f".{format}"))
        target = storage.join(output, place)
        if target in items:
            raise VocoderError(f"{items[target].source} and {source} would both become {target}")
        if target == source:
            raise VocoderError(f"{target} is both input and output")
        items[target] = Item(source, place, target, size, target in there)
    return sorted(items.values(), key=lambda item: (-item.size, item.source))


def group_by_size(items: Sequence[Item], most_bytes: int) -> list[list[Item]]:
    """Group items of about ``most_bytes`` bytes of input; a shard is a group."""
    groups: list[list[Item]] = []
    room = 0
    for item in items:
        if item.is_shard or item.size > room or not groups:
            groups.append([])
            room = most_bytes
        groups[-1].append(item)
        room = 0 if item.is_shard else room - item.size - 1024  # an empty file is work, too
    return groups


def _find(text: str, output: str, format: str, note: Callable[[str], None]) -> Iterator[tuple[str, str, int]]:
    """Yield source, place and size of the inputs of one argument."""
    if text == "-":
        raise VocoderError("--ray reads files, not standard input")
    if storage.is_url(text):
        yield from _find_by_url(text, output, format)
        return
    for path, place in expand([text], Path(output), format, (*_FILE_SUFFIXES, SHARD_SUFFIX), note):
        assert path is not None
        yield os.path.abspath(path), place.as_posix(), path.stat().st_size


def _find_by_url(url: str, output: str, format: str) -> Iterator[tuple[str, str, int]]:
    files = storage.list_files(url)
    if not files:
        raise VocoderError(f"there is no file {url}")
    system, path = storage.filesystem(url)
    root = system.unstrip_protocol(path).rstrip("/")
    single = root in files
    magic = "*" in path or "?" in path
    for name, size in files.items():
        suffix = PurePosixPath(name).suffix.lower()
        if single or magic:
            yield name, PurePosixPath(name).name, size
        elif suffix in (*_FILE_SUFFIXES, SHARD_SUFFIX) and not PurePosixPath(name).name.startswith("."):
            made = name.startswith(f"{output}/") and (root != output or suffix == f".{format}")
            if not made:
                yield name, name.removeprefix(f"{root}/"), size
