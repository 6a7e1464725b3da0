"""The benchmark of the server counts wrong responses, and reads memory after every part of the requests."""

import io

import numpy as np
import pytest

from recipes.benchmarks import serving
from tests.support import models
from tests.support.server import serving as in_a_thread
from tests.support.server import small_model


@pytest.mark.slow
def test_serving_runs(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--clients", "2", "--audio", "0.2", "--seconds", "0.2", "--rounds", "1", "--batch", "2"]
    assert serving.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in (line.split("|") for line in lines[3:5])
    }
    assert set(rows) == {"library in a loop", "server, batch 2"}
    assert int(rows["server, batch 2"][0]) >= 2
    assert rows["server, batch 2"][-1] == "0"
    with in_a_thread(small_model()) as client:
        buffer = io.BytesIO()
        np.save(buffer, models.mel(12)[0].numpy())
        result = serving.memory(client.port, buffer.getvalue(), 120, steps=2)
    assert [count for count, _ in result] == [0, 60, 120]
    assert all(size > 10 for _, size in result)
