"""Files that appear whole or not at all."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vocoders.errors import VocoderError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path`` that takes its place when the block ends well, and vanishes when not.

    A symbolic link is followed. Raises VocoderError when the file cannot be written.
    """
    partial = None
    try:
        target = path.resolve()
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".vocoders-", suffix=path.suffix)
        os.close(handle)
        partial = Path(name)
        yield partial
        mask = os.umask(0)
        os.umask(mask)
        partial.chmod(0o666 & ~mask)
        partial.replace(target)
    except OSError as error:
        raise VocoderError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


Bytes = bytes | mmap.mmap


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises VocoderError when it is missing, a folder, unreadable or empty."""
    return map_file(path)[:]


def map_file(path: Path) -> Bytes:
    """As ``read_file``, but what can be mapped into memory is not read before it is used."""
    try:
        with path.open("rb") as file:
            try:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            except (ValueError, OSError):  # empty, or no regular file
                data = file.read()
    except FileNotFoundError:
        raise VocoderError(f"there is no file {path}") from None
    except OSError as error:
        raise VocoderError(f"cannot read {path}: {error.strerror}") from None
    if not data:
        raise VocoderError(f"{path} is empty (0 bytes)")
    return data


@contextmanager
def writing(path: Path) -> Iterator[Path | BinaryIO]:
    """What to write in place of a file, which then appears whole or not at all; a device or pipe itself, open.

    Raises VocoderError when it cannot be written.
    """
    if path.is_dir():
        raise VocoderError(f"cannot write {path}: it is a folder")
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
    else:
        with atomic_write(path) as partial:
            yield partial


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a device or pipe directly. Raises VocoderError when it cannot be written."""
    with writing(path) as target:
        if isinstance(target, Path):
            target.write_bytes(data)
        else:
            target.write(data)
