"""The benchmark of a training step runs for a generator with a discriminator, and for a discriminator alone."""

import pytest

from recipes.benchmarks import training_step


@pytest.mark.parametrize("generator", ["none", "wavehax"])
@pytest.mark.slow
def test_training_step_runs(generator: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--generators", generator, "--discriminators", "multi-resolution", "--runs", "1", "--batch", "1"]
    assert training_step.main([*arguments, "--samples", "2400", "--threads", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1].split("|")
    assert last[2].strip() == "multi-resolution"
    assert float(last[3]) > 0
    assert 0 < float(last[4]) < 10_000  # MiB
