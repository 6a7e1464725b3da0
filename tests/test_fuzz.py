"""Damaged files end in a right result or in one sentence, within limits on memory and time."""

import json
import subprocess
import sys

import pytest

from tests.support import ROOT


@pytest.mark.slow
def test_damaged_files(fuzz: int) -> None:
    """The inputs are made and read in a process of their own, which a crash or a hang ends; another one goes on."""
    begin: list[str] = []
    faults: list[str] = []
    count = 0
    while len(faults) < 10:
        command = [sys.executable, "-m", "tests.support.fuzz", str(30 * fuzz), *begin]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", cwd=ROOT)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        inputs = [line["input"] for line in lines if "input" in line]
        faults += [line["fault"] for line in lines if "fault" in line]
        count += len(inputs)
        if not done.returncode:
            break
        assert inputs, done.stderr
        faults.append(f"{inputs[-1]}: the process ended with status {done.returncode}")
        kind, number = inputs[-1].split()
        begin = [kind, str(int(number) + 1)]
    print(f"{count} inputs")
    assert faults == []
    assert count > 2000
