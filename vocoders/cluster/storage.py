"""Files by URL, such as s3://bucket/folder, by fsspec."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vocoders.errors import VocoderError

# Stores with atomic uploads; elsewhere the uploaded file is renamed.
_ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "az", "oss", "oci"}


def is_url(text: str) -> bool:
    return "://" in text


def join(folder: str, place: str) -> str:
    """Join a folder or URL and a relative path."""
    return f"{folder.rstrip('/')}/{place}" if is_url(folder) else str(Path(folder) / place)


def filesystem(url: str) -> tuple[Any, str]:
    """Return a URL's file system and path."""
    import fsspec

    if url.startswith("memory://"):
        raise VocoderError(f"{url} is in the memory of one process, where no other worker sees it; name a store")
    with _errors(f"cannot open {url}"):
        system, path = fsspec.core.url_to_fs(url)
        return system, path


def list_files(url: str) -> dict[str, int]:
    """List the files below a folder or matching a glob: URL -> bytes, sorted."""
    system, path = filesystem(url)
    with _errors(f"cannot list {url}"):
        system.invalidate_cache()
        found = system.glob(path, detail=True) if "*" in path or "?" in path else system.find(path, detail=True)
        files = {system.unstrip_protocol(name): info for name, info in found.items() if info["type"] == "file"}
        return {name: int(files[name].get("size") or 0) for name in sorted(files)}


def read(url: str) -> bytes:
    system, path = filesystem(url)
    with _errors(f"cannot read {url}"):
        data: bytes = system.cat_file(path)
        return data


@contextlib.contextmanager
def open_file(url: str) -> Iterator[Any]:
    """Open a file for sequential reading."""
    system, path = filesystem(url)
    with _errors(f"cannot read {url}"):
        file = system.open(path, "rb")
    with file:
        yield file


def upload(source: Path, url: str) -> None:
    """Copy a local file to a URL atomically."""
    system, path = filesystem(url)
    protocols = {system.protocol} if isinstance(system.protocol, str) else set(system.protocol)
    with _errors(f"cannot write {url}"):
        if protocols & _ATOMIC:
            system.put_file(str(source), path)
            return
        folder, _, name = path.rpartition("/")
        partial = f"{folder}/.vocoders-{uuid.uuid4().hex}-{name}"
        system.makedirs(folder, exist_ok=True)
        try:
            system.put_file(str(source), partial)
            system.mv(partial, path)
        except BaseException:
            with contextlib.suppress(Exception):
                system.rm_file(partial)
            raise


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    """Turn a store's error into a VocoderError."""
    try:
        yield
    except VocoderError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise VocoderError(f"{what}: {reason}") from None
