"""Repositories of the Hugging Face hub, in the local cache of huggingface_hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from vocoders.errors import VocoderError, reason


def cached_folder(repository: str) -> Path | None:
    """Return the folder with those files of a repository that are in the cache; None where there are none.

    Args:
        repository: "org/name".

    Raises:
        VocoderError: for an impossible name.
    """
    with _explained(repository):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(snapshot_download(repository, local_files_only=True))
        except LocalEntryNotFoundError:
            return None


def download(repository: str, patterns: Sequence[str]) -> Path:
    """Download files of a repository into the cache.

    Args:
        repository: "org/name".
        patterns: names of the files, with ``*`` for any characters; those that the repository does not hold are
            ignored.

    Returns:
        The folder of the repository in the cache. It need not exist where no file has one of these names.

    Raises:
        VocoderError: when there is no such repository or it cannot be reached.
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
