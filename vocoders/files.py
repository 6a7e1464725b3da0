"""Atomic writes of files and folders, and reads with clear errors."""

from __future__ import annotations

import errno
import mmap
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vocoders.errors import VocoderError

if sys.platform != "win32":
    import fcntl

Bytes = bytes | mmap.mmap

LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # the first bytes of one
_PREFIX = ".vocoders-"  # of files and folders that are not finished
_STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")  # open files, even where they lead to a regular one

_swept: set[Path] = set()  # folders in which this process has removed what killed processes left


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it replaces ``path`` if the block succeeds and is removed if it fails.

    A file that is replaced passes on its permissions and, where that is allowed, its owner. A symbolic link is
    followed. A device, a pipe or an open file of the process, such as /dev/stdout, cannot be replaced: the path itself
    is yielded, to be written directly.

    Args:
        path: the file to write.

    Raises:
        VocoderError: when the path is a folder or cannot be written.
    """
    with _explained(path):
        old = _status(path)
        if old and stat.S_ISDIR(old.st_mode):
            raise VocoderError(f"cannot write {path}: it is a folder")
        if str(path).startswith(_STREAMS) or (old and not stat.S_ISREG(old.st_mode)):
            yield path
            return
        if old and not os.access(path, os.W_OK):  # a folder lets a file be replaced that may not be written
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        target = Path(os.path.realpath(path))
        mode = 0o600 if old else 0o666  # less what the umask takes
        with _partial(target, lambda new: os.close(os.open(new, os.O_CREAT | os.O_EXCL, mode))) as partial:
            yield partial
            sync(partial)
            _pass_on(old, partial)
            partial.replace(target)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it becomes ``path`` if the block succeeds and is removed if it fails.

    Args:
        path: a folder that does not exist yet, or is empty.

    Raises:
        VocoderError: before the block, when the path is taken or cannot be written; after it, when what was written
            did not reach the disk.
    """
    with _explained(path):
        old = _status(path)
        if old and (not stat.S_ISDIR(old.st_mode) or any(path.iterdir())):
            raise VocoderError(f"{path} exists already; remove it, or name another folder")
        target = Path(os.path.realpath(path))
        mode = 0o700 if old else 0o777
        with _partial(target, lambda new: os.mkdir(new, mode)) as partial:
            yield partial
            for written in [*partial.rglob("*"), partial]:
                sync(written)
            _pass_on(old, partial)
            if old:  # empty; Windows does not replace a folder
                target.rmdir()
            partial.replace(target)
            sync(target.parent)


def check_not_input(output: Path, *inputs: Path | None) -> None:
    """Check that a file to be written is none of those that are read, by another name or a link either.

    Raises:
        VocoderError: when it is.
    """
    for path in inputs:
        if path is not None and path.exists() and output.exists() and output.samefile(path):
            raise VocoderError(f"{output} is both input and output; name another file to write")


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        VocoderError: when it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VocoderError(f"cannot make the folder {path}: {error.strerror or error}") from None


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


def sync(path: Path) -> None:
    """Have a file or a folder written to the disk, so that a power cut leaves it whole.

    Raises:
        OSError: when the disk cannot take it.
    """
    if path.is_file():
        with path.open("r+b") as file:  # Windows syncs only what is open for writing
            os.fsync(file.fileno())
    elif sys.platform != "win32":  # which cannot open a folder
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader of the pipe has gone: for the program to handle
        raise
    except OSError as error:
        raise VocoderError(f"cannot write {path}: {error.strerror or error}") from None


def _status(path: Path) -> os.stat_result | None:
    """Return what the system knows of a path, links followed; None where there is nothing."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


@contextmanager
def _partial(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Make a file or folder beside ``target``, locked as long as this process needs it, and remove it in the end."""
    _remove_left(target.parent)
    while True:
        path = target.with_name(f"{_PREFIX}{secrets.token_hex(8)}{target.suffix}")
        make(path)
        lock = _lock(path)
        if path.exists():  # else another process took it for a left one, before it was locked
            break
        _unlock(lock)
    try:
        yield path
    finally:
        _remove(path)
        _unlock(lock)


def _pass_on(old: os.stat_result | None, partial: Path) -> None:
    """Give a partial file or folder the owner and the permissions of the one that it replaces."""
    if old is None:
        return
    if sys.platform != "win32":
        with suppress(PermissionError):
            os.chown(partial, old.st_uid, old.st_gid)
    partial.chmod(old.st_mode & 0o777)


def _remove_left(folder: Path) -> None:
    """Remove the partial files and folders that nobody holds locked: their processes were killed."""
    if folder in _swept or sys.platform == "win32":
        return
    _swept.add(folder)
    for left in folder.glob(f"{_PREFIX}*"):
        if (lock := _lock(left)) is not None:
            with suppress(OSError):  # it may belong to another user
                _remove(left)
            _unlock(lock)


def _lock(path: Path) -> int | None:
    """Lock a file or folder until ``_unlock`` or the end of the process; None where that is not possible."""
    if sys.platform == "win32":
        return None
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the file system knows no locks
        os.close(handle)
        return None
    return handle


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
