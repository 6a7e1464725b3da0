"""Download archives of datasets: resume, check, and unpack whole or not at all.

pooch cannot resume, and curl -C - fails on servers without ranges.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from tqdm import tqdm

from vocoders.errors import VocoderError
from vocoders.files import make_folder

_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Archive:
    """A file that a dataset's page offers.

    Attributes:
        url: its address.
        checksum: published SHA-256 or MD5 in hexadecimal, if any.
        marker: relative path by which ``find`` finds the unpacked content.
        into: folder to unpack into, for an archive without a top-level folder.
    """

    url: str
    checksum: str | None
    marker: str
    into: str = ""

    @property
    def name(self) -> str:
        """File name."""
        return self.url.rsplit("/", 1)[-1]


def find(folder: Path, marker: str) -> Path | None:
    """Find the folder that holds ``marker``, a relative path or pattern, at most two levels below ``folder``."""
    for depth in ("", "*/", "*/*/"):
        for path in sorted(folder.glob(depth + marker)):
            root = path.parents[len(Path(marker).parts) - 1]
            if not any(part.startswith(".") for part in root.relative_to(folder).parts):
                return root
    return None


def obtain(archives: Iterable[Archive], folder: Path) -> None:
    """Download and unpack the archives that ``folder`` lacks."""
    make_folder(folder)
    for archive in archives:
        if find(folder, archive.marker) is None:
            path = fetch(archive, folder)
            unpack(path, archive, folder)
            print(f"unpacked {path}, which can be deleted now")


def fetch(archive: Archive, folder: Path) -> Path:
    """Download an archive into ``folder`` and verify its checksum; an existing file is only verified."""
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
    """Whether a file has this SHA-256 or MD5, told apart by length; True without a checksum."""
    if checksum is None:
        return True
    digest = hashlib.sha256() if len(checksum) == 64 else hashlib.md5(usedforsecurity=False)
    with _open_with_progress(path, "checksum") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest() == checksum


@contextmanager
def _open_with_progress(path: Path, label: str) -> Iterator[IO[bytes]]:
    """Open a file for reading, with a progress bar."""
    total = path.stat().st_size
    with (
        path.open("rb") as file,
        tqdm.wrapattr(file, "read", total=total, desc=label, disable=None) as wrapped,
    ):
        yield cast(IO[bytes], wrapped)


def download(url: str, partial: Path, attempts: int = 5, pause: float = 2.0) -> None:
    """Download ``url`` into ``partial``, resuming after its present end.

    Gives up after ``attempts`` in a row without new bytes, ``pause`` seconds apart, and keeps the file for the next
    run.
    """
    failures = 0
    while failures < attempts:
        before = _size(partial)
        try:
            if _resume(url, partial):
                return
            problem = "the connection was closed early"
        except urllib.error.HTTPError as error:
            problem = f"the server says {error.code} {error.reason}"
            if error.code < 500:
                raise VocoderError(f"cannot download {url}: {problem}") from None
        except (OSError, http.client.HTTPException) as error:
            problem = str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
        failures = 0 if _size(partial) > before else failures + 1
        time.sleep(pause)
    raise VocoderError(f"cannot download {url}: {problem}; run again to resume after {_size(partial)} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _resume(url: str, partial: Path) -> bool:
    """Make one attempt; return whether the file is complete."""
    start = _size(partial)
    headers = {"User-Agent": "vocoders"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing left to send: the file is complete, or it changed on the server.
        length = re.search(r"/(\d+)$", error.headers.get("Content-Range") or "")
        if length and int(length[1]) == start:
            return True
        partial.unlink()
        return False
    with response:
        if response.status != 206:
            start = 0  # a server without ranges sends all
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
    """Unpack a .zip or .tar.* that holds ``archive.marker`` into ``folder``, whole or not at all."""
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
    """Unpack into a new folder."""
    target.mkdir(parents=True)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as zipped:  # checks each CRC
            for member in tqdm(zipped.infolist(), desc=path.name, unit="file", disable=None):
                zipped.extract(member, target)
        return
    with _open_with_progress(path, path.name) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
        # Python before 3.11.4 has no filter, which keeps files inside the target.
        safe: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(target, **safe)


def _merge(source: Path, target: Path) -> None:
    """Move the content of ``source`` into ``target``, whole folders where possible."""
    for child in sorted(source.iterdir()):
        goal = target / child.name
        if not goal.exists():
            child.rename(goal)
        elif child.is_dir() and goal.is_dir():
            _merge(child, goal)
