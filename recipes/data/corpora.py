"""Prepare a corpus: find or download it, check it, write train.txt, valid.txt and test.txt.

Lists hold one path a line, relative to their folder. The corpus keeps its published layout. Every step can be repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes.data.clips import open_clips
from recipes.data.downloads import Archive, find, obtain
from vocoders.cli.common import Parser, prepare_streams, say
from vocoders.errors import VocoderError, printable
from vocoders.files import atomic_write

NAMES = ("train", "valid", "test")
Split = dict[str, list[Path]]
"""Sound files of each of NAMES."""


@dataclass(frozen=True)
class Corpus:
    """A published dataset.

    Attributes:
        name: folder in recipes/corpora.
        title: its own name.
        source: where to get it; completes "get it from".
        marker: relative path by which ``find`` finds it.
        layout: a path that shows the published layout.
        clips: number of recordings of a complete copy, if known.
        archives: archives to download; empty if it must be fetched by hand.
        size: size of the download, in words.
    """

    name: str
    title: str
    source: str
    marker: str
    layout: str
    clips: int | None = None
    archives: tuple[Archive, ...] = ()
    size: str = ""

    def parser(self, description: str | None) -> argparse.ArgumentParser:
        """Make the parser of the shared options; ``description`` is the docstring of the corpus's prepare.py."""
        parser = Parser(
            prog=f"python -m recipes.prepare {self.name}",
            description=" ".join((description or "").split()),
            epilog=f"Expected in DIR, or up to two folders further down: {self.layout}. Available from {self.source}.",
        )
        folder = Path("data") / self.name
        parser.add_argument(
            "dir",
            type=Path,
            metavar="DIR",
            nargs="?",
            default=folder,
            help=f"folder of the corpus, where the lists are written; default: {folder.as_posix()}",
        )
        if self.archives:
            parser.add_argument(
                "--download", action="store_true", help=f"download into DIR what is not there yet ({self.size})"
            )
        return parser


def run(corpus: Corpus, split: Callable[[Path], Split], options: argparse.Namespace) -> int:
    """Run ``python -m recipes.prepare NAME``; ``split`` makes the lists from the folder of ``corpus.marker``.

    Returns the exit status. 0: the lists are written; 1: written without unreadable recordings; 2: not written, and one
    sentence on standard error says why.
    """
    prepare_streams()
    try:
        complete = prepare(corpus, split, options.dir, getattr(options, "download", False))
    except (VocoderError, OSError) as error:
        say(f"recipes.prepare {corpus.name}: {error}")
        return 2
    except KeyboardInterrupt:
        say("stopped; run again to resume")
        return 130
    return 0 if complete else 1


def prepare(corpus: Corpus, split: Callable[[Path], Split], folder: Path, download: bool) -> bool:
    """Write a dataset's lists into ``folder``; return whether every recording can be read, as others are left out."""
    if download:
        obtain(corpus.archives, folder)
    root = find(folder, corpus.marker)
    if root is None:
        fetches = f"--download fetches it ({corpus.size}), or " if corpus.archives else ""
        raise VocoderError(
            f"{corpus.title} is not in {folder}, where {corpus.layout} is expected; "
            f"{fetches}get it from {corpus.source}"
        )
    lists = split(root)
    paths = [path for name in NAMES for path in lists[name]]
    if not paths:
        raise VocoderError(f"{root} holds no recordings such as {corpus.layout}")
    if corpus.clips is not None and len(paths) != corpus.clips:
        say(f"note: {len(paths)} recordings are here, the published dataset has {corpus.clips}")
    seconds = {clip.path: clip.samples / clip.sample_rate for clip in open_clips(paths, str(root))}
    for name in NAMES:
        lists[name] = [path for path in lists[name] if path in seconds]
        if not lists[name]:
            raise VocoderError(f"{root} has nothing for {name}.txt; is the dataset complete?")
    for name in NAMES:
        hours = sum(seconds[path] for path in lists[name]) / 3600
        write_list(folder, name, lists[name], f"{len(lists[name])} recordings, {hours:.2f} h")
    return len(seconds) == len(paths)


def held_out(paths: Sequence[Path], valid: int, test: int) -> Split:
    """Split by order: the last ``test`` recordings test, the ``valid`` before them validate, the others train."""
    start = len(paths) - valid - test
    if start <= 0:
        raise VocoderError(
            f"there are {len(paths)} recordings, and {valid + test} would be held out; is the dataset complete?"
        )
    return {"train": list(paths[:start]), "valid": list(paths[start:-test]), "test": list(paths[-test:])}


def evenly(paths: Sequence[Path], count: int) -> list[Path]:
    """Take ``count`` of ``paths``, evenly spaced from the first on; all if there are fewer."""
    return [paths[i * len(paths) // count] for i in range(count)] if len(paths) > count else list(paths)


def write_list(folder: Path, name: str, paths: Sequence[Path], summary: str) -> None:
    """Write NAME.txt with paths relative to ``folder``, unless it is up to date, and print ``summary``."""
    target = folder / f"{name}.txt"
    content = "".join(f"{path.relative_to(folder).as_posix()}\n" for path in paths).encode()
    same = target.is_file() and target.read_bytes() == content
    if not same:
        with atomic_write(target) as partial:
            partial.write_bytes(content)
    print(printable(f"{target}: {summary}{' (as before)' if same else ''}"))
