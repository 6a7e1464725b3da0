import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tests run in as many processes as cores

import pytest

from tests.support.exported import Exported, MadeOnce


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Return the path of a file, which the first process of a session that asks for it makes."""
    from filelock import FileLock  # comes with torch

    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # one for all workers

    def path(name: str, make: Callable[[Path], None]) -> Path:
        file = folder / "made" / name
        file.parent.mkdir(exist_ok=True)
        with FileLock(f"{file}.lock"):
            if not file.exists():
                make(file)
        return file

    return path


@pytest.fixture(scope="session")
def exported(made_once: MadeOnce) -> Exported:
    """The small model of a generator's name, exported. Each once in a session: it takes seconds."""
    from tests.support import models
    from vocoders.onnx.export import export_onnx
    from vocoders.onnx.vocoder import OnnxVocoder

    @cache
    def make(name: str) -> OnnxVocoder:
        def export(path: Path) -> None:
            export_onnx(models.checkpoint(name), path)

        return OnnxVocoder(made_once(f"{name}.onnx", export))

    return make


@pytest.fixture(scope="session")
def voice_for_sherpa(made_once: MadeOnce) -> Path:
    """The built-in model, exported for sherpa-onnx as docs/export.md does it."""
    from vocoders.cli.vocoders import vocoders

    def export(path: Path) -> None:
        assert vocoders(["export", "--target", "sherpa-onnx", "-o", str(path)]) == 0

    return made_once("sherpa.onnx", export)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of exported models as slow: exporting takes seconds."""
    for item in items:
        if not {"exported", "voice_for_sherpa"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("slow")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=150, help="requests of the fuzz tests, about (default: 150)")


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--fuzz")
