"""Hugging Face hub repositories in the local cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vocoders.errors import VocoderError, reason


def cached_folder(repository: str) -> Path | None:
    """Return the cache folder of a repository ("org/name"), None without files."""
    with _explained(repository):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(repository, local_files_only=True))
        except LocalEntryNotFoundError:
            return None


def download(repository: str, patterns: Sequence[str]) -> Path:
    """Download the files of a repository ("org/name") that match ``patterns``, and return its cache folder.

    The folder may be missing where no file matches.
    """
    with _explained(repository):
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(repository, allow_patterns=list(patterns)))


@contextmanager
def _explained(repository: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub into one sentence."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except LocalEntryNotFoundError:
        raise VocoderError(
            f"'{repository}' is no local file, not in the local cache, and the Hugging Face hub cannot be reached"
        ) from None
    except (HfHubHTTPError, HFValidationError) as error:
        raise VocoderError(f"cannot load '{repository}' from the Hugging Face hub: {reason(error)}") from None
