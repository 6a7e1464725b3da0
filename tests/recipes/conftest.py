from pathlib import Path

import pytest

from tests.support import corpus


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny corpus; a test that changes it makes its own."""
    return corpus.make(tmp_path_factory.mktemp("data") / "corpus")
