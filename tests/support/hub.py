"""Make repositories in a cache of huggingface_hub, without a network."""

from pathlib import Path

import pytest

_COMMIT = "0123456789abcdef0123456789abcdef01234567"


def snapshot(hub: Path, repository: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder for a repository's files in a new cache, the only one that huggingface_hub uses."""
    place = hub / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(_COMMIT)
    folder = place / "snapshots" / _COMMIT
    folder.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return folder
