import os
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests run in as many processes as cores

import pytest

from tests.support.exported import Exported


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The small model of a generator's name, exported. Each once in a session: it takes seconds."""
    from tests.support import models
    from vocoders.onnx.export import export_onnx
    from vocoders.onnx.vocoder import OnnxVocoder

    @cache
    def make(name: str) -> OnnxVocoder:
        path = tmp_path_factory.mktemp("exported") / f"{name}.onnx"
        export_onnx(models.checkpoint(name), path)
        return OnnxVocoder(path)

    return make


@pytest.fixture(scope="session")
def voice_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in voice, exported as the README does it."""
    from vocoders.cli.vocoders import vocoders

    path = tmp_path_factory.mktemp("voice") / "voice.onnx"
    assert vocoders(["export", "-o", str(path)]) == 0
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of exported models as slow: exporting takes seconds."""
    for item in items:
        if not {"exported", "voice_onnx"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=150, help="requests of the fuzz tests, about (default: 150)")


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--fuzz")
