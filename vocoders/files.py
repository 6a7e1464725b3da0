"""Atomic writes and clear read errors."""

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

LFS_POINTER = b"version https://git-lfs.github.com/spec/"  # first bytes
_PREFIX = ".vocoders-"  # of unfinished files and folders
_STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")  # open files, even regular ones

_swept: set[Path] = set()  # folders already cleaned by this process


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it replaces ``path`` if the block succeeds, else it is removed.

    Keeps permissions and, where allowed, the owner; follows symbolic links. For a device, a pipe or an open file such
    as /dev/stdout, ``path`` itself is yielded.

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
        if old and not os.access(path, os.W_OK):  # the folder may allow replacing a read-only file
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        target = Path(os.path.realpath(path))
        mode = 0o600 if old else 0o666  # minus the umask
        with _partial(target, lambda new: os.close(os.open(new, os.O_CREAT | os.O_EXCL, mode))) as partial:
            yield partial
            sync(partial)
            _pass_on(old, partial)
            partial.replace(target)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it becomes ``path`` if the block succeeds, else it is removed.

    Args:
        path: a new or empty folder.

    Raises:
        VocoderError: when the path is taken or cannot be written.
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
            if old:  # empty; Windows cannot replace a folder
                target.rmdir()
            partial.replace(target)
            sync(target.parent)


def check_not_input(output: Path, *inputs: Path | None) -> None:
    """Check that a file to be written is none of the inputs, links included; raise VocoderError."""
    for path in inputs:
        if path is not None and path.exists() and output.exists() and output.samefile(path):
            raise VocoderError(f"{output} is both input and output; name another file to write")


def make_folder(path: Path) -> None:
    """Make a missing folder and its parents, or raise VocoderError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VocoderError(f"cannot make the folder {path}: {error.strerror or error}") from None


def write_file(path: Path, data: bytes) -> None:
    """Write a file with ``atomic_write``."""
    with atomic_write(path) as partial:
        partial.write_bytes(data)


def read_file(path: Path) -> bytes:
    """Read a file.

    Raises:
        VocoderError: when it is missing, a folder, unreadable, empty or a Git LFS pointer.
    """
    return map_file(path)[:]


def map_file(path: Path) -> Bytes:
    """Read a file as ``read_file``, memory-mapped where possible."""
    try:
        with path.open("rb") as file:
            data: Bytes
            try:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            except (ValueError, OSError):  # empty, or not a regular file
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
    """Raise VocoderError if ``data``, of the file ``name``, is a Git LFS pointer."""
    if data[: len(LFS_POINTER)] == LFS_POINTER:
        folder = Path(name).parent
        raise VocoderError(f'{name} is a Git LFS pointer, not the file itself; fetch it: git -C "{folder}" lfs pull')


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, against a power cut; raise OSError."""
    if path.is_file():
        with path.open("r+b") as file:  # Windows needs it open for writing
            os.fsync(file.fileno())
    elif sys.platform != "win32":  # which cannot open a folder
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # for the program to handle
        raise
    except OSError as error:
        raise VocoderError(f"cannot write {path}: {error.strerror or error}") from None


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a path, links followed; None if it does not exist."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


@contextmanager
def _partial(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Make a file or folder beside ``target``, locked and then removed."""
    _remove_left(target.parent)
    while True:
        path = target.with_name(f"{_PREFIX}{secrets.token_hex(8)}{target.suffix}")
        make(path)
        lock = _lock(path)
        if path.exists():  # else another process removed it before the lock
            break
        _unlock(lock)
    try:
        yield path
    finally:
        _remove(path)
        _unlock(lock)


def _pass_on(old: os.stat_result | None, partial: Path) -> None:
    """Copy owner and permissions of the replaced file."""
    if old is None:
        return
    if sys.platform != "win32":
        with suppress(PermissionError):
            os.chown(partial, old.st_uid, old.st_gid)
    partial.chmod(old.st_mode & 0o777)


def _remove_left(folder: Path) -> None:
    """Remove partial files of killed processes."""
    if folder in _swept or sys.platform == "win32":
        return
    _swept.add(folder)
    for left in folder.glob(f"{_PREFIX}*"):
        if (lock := _lock(left)) is not None:
            with suppress(OSError):  # perhaps of another user
                _remove(left)
            _unlock(lock)


def _lock(path: Path) -> int | None:
    """Lock a file or folder until ``_unlock`` or exit; None where not possible."""
    if sys.platform == "win32":
        return None
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # locked by another process, or locks unsupported
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
