"""What the prepare.py of all datasets share: finding or downloading a dataset, checking it, writing its three lists.

A dataset keeps its published layout. Beside it, in the folder that the user names, lie train.txt, valid.txt and
test.txt: paths of sound files relative to that folder, one a line. Everything here can be stopped and run again.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import re
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from tqdm import tqdm

from recipes.data.clips import open_clips
from vocoders.errors import VocoderError
from vocoders.files import atomic_write

NAMES = ("train", "valid", "test")
Split = dict[str, list[Path]]
"""The sound files of each of NAMES."""

_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Archive:
    """A file that a dataset's page offers for download."""

    url: str
    checksum: str | None
    """SHA-256 or MD5 in hexadecimal, as published; None where nothing is."""
    marker: str
    """What ``find`` finds once this archive is unpacked."""
    into: str = ""
    """Folder to unpack into, for an archive without one of its own."""

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Corpus:
    """A dataset as published."""

    name: str
    """Of its folder in recipes/."""
    title: str
    source: str
    """Where and how anyone gets it: the end of "get it from"."""
    marker: str
    """What ``find`` finds where the dataset lies."""
    layout: str
    """A path that shows the published layout."""
    clips: int | None = None
    """Recordings that the lists of a complete copy hold, where that number is known."""
    archives: tuple[Archive, ...] = ()
    size: str = ""
    """Of the download."""

    def parser(self, description: str) -> argparse.ArgumentParser:
        """The options that all datasets share; ``description`` is the docstring of the dataset's prepare.py."""
        parser = argparse.ArgumentParser(
            prog=f"python -m recipes.{self.name}.prepare",
            description=" ".join(description.split()),
            epilog=f"Expected in DIR, or up to two folders further down: {self.layout}. To be had from {self.source}.",
        )
        parser.add_argument("dir", type=Path, metavar="DIR", help="folder of the dataset; the lists are written there")
        if self.archives:
            parser.add_argument(
                "--download", action="store_true", help=f"fetch into DIR what is not there yet ({self.size})"
            )
        return parser


def run(corpus: Corpus, split: Callable[[Path], Split], options: argparse.Namespace) -> int:
    """The whole of ``python -m recipes.NAME.prepare``: returns the exit status.

    ``split`` gets the folder that holds ``corpus.marker``. Status 0: all is well; 1: the lists are written, but some
    recordings are unreadable and left out; 2: there is nothing to list, with one sentence that says why.
    """
    try:
        return _prepare(corpus, split, options.dir, getattr(options, "download", False))
    except (VocoderError, OSError) as error:
        print(f"recipes.{corpus.name}.prepare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run again to go on", file=sys.stderr)
        return 130


def _prepare(corpus: Corpus, split: Callable[[Path], Split], folder: Path, download: bool) -> int:
    if download:
        obtain(corpus, folder)
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
        print(f"note: {len(paths)} recordings are here, the published dataset has {corpus.clips}", file=sys.stderr)
    seconds = {clip.path: clip.samples / clip.sample_rate for clip in open_clips(paths, str(root))}
    for name in NAMES:
        lists[name] = [path for path in lists[name] if path in seconds]
        if not lists[name]:
            raise VocoderError(f"{root} has nothing for {name}.txt; is the dataset complete?")
    for name in NAMES:
        new = write_list(folder / f"{name}.txt", [path.relative_to(folder).as_posix() for path in lists[name]])
        hours = sum(seconds[path] for path in lists[name]) / 3600
        print(f"{folder / name}.txt: {len(lists[name])} recordings, {hours:.2f} h{'' if new else ' (as before)'}")
    return 0 if len(seconds) == len(paths) else 1


def find(folder: Path, marker: str) -> Path | None:
    """The folder that holds ``marker``, a relative path or pattern: ``folder`` or one at most two levels below."""
    for depth in ("", "*/", "*/*/"):
        for found in sorted(folder.glob(depth + marker)):
            root = found.parents[len(Path(marker).parts) - 1]
            if not any(part.startswith(".") for part in root.relative_to(folder).parts):
                return root
    return None


def held_out(paths: Sequence[Path], valid: int, test: int) -> Split:
    """Split by order: the last ``test`` to test, the ``valid`` before them to validate, all before to train.

    Raises VocoderError when nothing would be left to train on.
    """
    start = len(paths) - valid - test
    if start <= 0:
        raise VocoderError(
            f"there are {len(paths)} recordings, of which {valid + test} would be held out; is the dataset complete?"
        )
    return {"train": list(paths[:start]), "valid": list(paths[start:-test]), "test": list(paths[-test:])}


def evenly(paths: Sequence[Path], count: int) -> list[Path]:
    """``count`` of ``paths``, evenly spaced, the first among them; all when there are fewer."""
    return [paths[i * len(paths) // count] for i in range(count)] if len(paths) > count else list(paths)


def write_list(path: Path, names: Sequence[str]) -> bool:
    """Write one name a line; returns False, and leaves the file as it is, when it says the same already."""
    content = "".join(f"{name}\n" for name in names).encode()
    if path.is_file() and path.read_bytes() == content:
        return False
    with atomic_write(path) as partial:
        partial.write_bytes(content)
    return True


def obtain(corpus: Corpus, folder: Path) -> None:
    """Download and unpack those archives of ``corpus`` whose content is not in ``folder`` yet."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VocoderError(f"cannot make the folder {folder}: {error.strerror}") from None
    for archive in corpus.archives:
        if find(folder, archive.marker) is None:
            path = fetch(archive, folder)
            unpack(path, archive, folder)
            print(f"unpacked {path}, which can be deleted now")


def fetch(archive: Archive, folder: Path) -> Path:
    """The path of the archive in ``folder``, complete and with the published checksum.

    A file that lies there already is taken. Raises VocoderError when it cannot be had or its checksum is wrong; of
    a download with a wrong checksum nothing is kept.
    """
    path = folder / archive.name
    if path.exists():
        if not matches(path, archive.checksum):
            raise VocoderError(f"{path} does not have the published checksum; delete it and run again")
        return path
    partial = folder / f"{archive.name}.partial"
    download(archive.url, partial)
    if not matches(partial, archive.checksum):
        partial.unlink()
        raise VocoderError(
            f"what {archive.url} sends does not have the published checksum, so it was deleted; run again, and if it "
            f"happens again, get the file by other means and put it into {folder}"
        )
    partial.replace(path)
    return path


def matches(path: Path, checksum: str | None) -> bool:
    """Whether a file has this SHA-256 or MD5 (told apart by their length). True for None: the archive's own must do."""
    if checksum is None:
        return True
    digest = hashlib.sha256() if len(checksum) == 64 else hashlib.md5(usedforsecurity=False)
    with _reading(path, "checksum") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest() == checksum


@contextmanager
def _reading(path: Path, label: str) -> Iterator[IO[bytes]]:
    """A file opened to read, with a bar that shows how far."""
    total = path.stat().st_size
    with (
        path.open("rb") as file,
        tqdm.wrapattr(file, "read", total=total, desc=label, disable=None) as shown,
    ):
        yield cast(IO[bytes], shown)


def download(url: str, partial: Path, patience: int = 5, pause: float = 2.0) -> None:
    """Fetch ``url`` into the file ``partial``, after what it holds already.

    Args:
        patience: attempts in a row that may bring nothing new.
        pause: seconds between attempts.
    Raises: VocoderError when the server refuses, or patience ends. What has come by then is kept for the next run.
    """
    failures = 0
    while failures < patience:
        before = _size(partial)
        try:
            if _go_on(url, partial):
                return
            problem = "the connection broke off"
        except urllib.error.HTTPError as error:
            problem = f"the server says {error.code} {error.reason}"
            if error.code < 500:
                raise VocoderError(f"cannot download {url}: {problem}") from None
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
        failures = 0 if _size(partial) > before else failures + 1
        time.sleep(pause)
    raise VocoderError(f"cannot download {url}: {problem}; run again to go on after {_size(partial)} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _go_on(url: str, partial: Path) -> bool:
    """One attempt; returns whether the file is complete now."""
    start = _size(partial)
    headers = {"User-Agent": "vocoders"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing lies beyond: either all of it is here, or the file on the server is another one by now.
        length = re.search(r"/(\d+)$", error.headers.get("Content-Range") or "")
        if length and int(length[1]) == start:
            return True
        partial.unlink()
        return False
    with response:
        if response.status != 206:
            start = 0  # a server that knows no ranges sends everything
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            partial.open("ab" if start else "wb") as file,
            tqdm(total=total, initial=start, desc=partial.stem, unit="B", unit_scale=True, disable=None) as bar,
        ):
            while block := response.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
    return total is None or _size(partial) == total


def unpack(path: Path, archive: Archive, folder: Path) -> None:
    """Unpack a .zip or .tar.* into ``folder``; ``archive.marker`` is there when, and only when, all of it is.

    Raises VocoderError for a damaged archive and for one that holds no such marker.
    """
    staging = folder / f".unpacking-{archive.name}"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        _extract(path, staging / archive.into)
    except (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
        raise VocoderError(f"cannot unpack {path}: {error}") from None
    if find(staging, archive.marker) is None:
        shutil.rmtree(staging)
        raise VocoderError(f"{path} does not hold {archive.marker}; is it another version of the dataset?")
    _merge(staging, folder)
    shutil.rmtree(staging)


def _extract(path: Path, target: Path) -> None:
    target.mkdir(parents=True)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as zipped:  # checks the CRC of each file
            for member in tqdm(zipped.infolist(), desc=path.name, unit="file", disable=None):
                zipped.extract(member, target)
        return
    with _reading(path, path.name) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
        # Python before 3.10.12 and 3.11.4 has no filter; it keeps files from being written outside of the target.
        safe: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(target, **safe)


def _merge(source: Path, target: Path) -> None:
    """Move what ``source`` holds into ``target``, a folder as a whole where ``target`` has none of that name."""
    for child in sorted(source.iterdir()):
        goal = target / child.name
        if not goal.exists():
            child.rename(goal)
        elif child.is_dir() and goal.is_dir():
            _merge(child, goal)
