import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # signals.py


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz", type=int, default=150, help="requests of the fuzz tests, about (default: 150)")


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> int:
    return request.config.getoption("--fuzz")
