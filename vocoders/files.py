"""Atomic writes of files and folders, and reads with clear errors."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vocoders.errors import VocoderError

Bytes = bytes | mmap.mmap

LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # the first bytes of one


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it replaces ``path`` if the block succeeds and is removed if it fails.

    A symbolic link is followed. A device or a pipe cannot be replaced: the path itself is yielded, to be written
    directly.

    Args:
        path: the file to write.

    Raises:
        VocoderError: when the path is a folder or cannot be written.
    """
    partial = None
    try:
        if path.is_dir():
            raise VocoderError(f"cannot write {path}: it is a folder")
        if path.exists() and not path.is_file():
            yield path
            return
        target = path.resolve()
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".vocoders-", suffix=path.suffix)
        os.close(handle)
        partial = Path(name)
        yield partial
        partial.chmod(0o666 & ~_umask())
        partial.replace(target)
    except BrokenPipeError:  # the reader of the pipe has gone: for the program to handle
        raise
    except OSError as error:
        raise VocoderError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it becomes ``path`` if the block succeeds and is removed if it fails.

    Args:
        path: a folder that does not exist yet, or is empty.

    Raises:
        VocoderError: before the block, when the path is taken or cannot be written.
    """
    partial = None
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise VocoderError(f"{path} exists already; remove it, or name another folder")
        partial = Path(tempfile.mkdtemp(dir=path.resolve().parent, prefix=".vocoders-"))
        yield partial
        partial.chmod(0o777 & ~_umask())
        if path.is_dir():  # empty; Windows does not replace a folder
            path.rmdir()
        partial.replace(path)
    except OSError as error:
        raise VocoderError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def write_file(path: Path, data: bytes) -> None:
    """Write a file with ``atomic_write``.

    Raises:
        VocoderError: when it cannot be written.
    """
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def read_file(path: Path) -> bytes:
    """Read a file.

    Raises:
        VocoderError: when it is missing, a folder, unreadable, empty or a Git LFS pointer.
    """
    return map_file(path)[:]


def map_file(path: Path) -> Bytes:
    """Read a file as ``read_file`` does, but map it into memory where possible, so that only what is used is read.

    Raises:
        VocoderError: as for ``read_file``.
    """
    try:
        with path.open("rb") as file:
            data: Bytes
            try:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            except (ValueError, OSError):  # empty, or no regular file
                data = file.read()
    except FileNotFoundError:
        raise VocoderError(f"there is no file {path}") from None
    except OSError as error:
        raise VocoderError(f"cannot read {path}: {error.strerror}") from None
    if not data:
        raise VocoderError(f"{path} is empty (0 bytes)")
    refuse_pointer(data, str(path))
    return data


def refuse_pointer(data: Bytes, name: str) -> None:
    """Refuse the pointer that a Git repository holds in place of a large file.

    Raises:
        VocoderError: when the bytes of the file ``name`` are such a pointer.
    """
    if data[: len(LFS_POINTER)] == LFS_POINTER:
        folder = Path(name).parent
        raise VocoderError(f'{name} is a Git LFS pointer, not the file itself; fetch it: git -C "{folder}" lfs pull')


def _umask() -> int:
    """Return the permissions that new files of this process lack, which can only be read by setting them."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
