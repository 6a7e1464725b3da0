"""A server with small models, shared by the tests of a module."""

from collections.abc import Iterator

import pytest

from tests.support.server import ServerClient, serving, small_model
from vocoders.server.registry import ServedModel


@pytest.fixture(scope="module")
def model() -> ServedModel:
    return small_model()


@pytest.fixture(scope="module")
def client(model: ServedModel) -> Iterator[ServerClient]:
    """A client of a server whose models estimate F0, do not use it, and require it."""
    required = ServedModel("required", small_model(f0_estimator=False).vocoder)
    with serving(model, small_model("hifigan"), required) as client:
        yield client
