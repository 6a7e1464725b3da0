"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vocoders.errors import VocoderError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
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
