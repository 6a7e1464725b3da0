"""NISQA in the table, by a stand-in for the network of torchmetrics, whose weights are not ours to ship."""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from recipes.evaluate import main
from recipes.evaluation.metrics import Signal
from recipes.evaluation.nisqa import nisqa
from tests.support import corpus

NETWORK = "torchmetrics.functional.audio.nisqa"
Install = Callable[[Callable[[torch.Tensor, int], torch.Tensor]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a function where torchmetrics has the network."""

    def put(assess: Callable[[torch.Tensor, int], torch.Tensor]) -> None:
        module: Any = ModuleType(NETWORK)
        module.non_intrusive_speech_quality_assessment = assess
        monkeypatch.setitem(sys.modules, NETWORK, module)

    return put


def peak_as_score(audio: torch.Tensor, rate: int) -> torch.Tensor:
    """(samples,) -> (5,): the score, which tells signals and rates apart, and four more that are not used."""
    return torch.tensor([float(audio.abs().max()) + rate / 10000, 9, 9, 9, 9])


def test_scores_stand_beside_those_of_the_recordings(
    tmp_path: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(peak_as_score)
    data, out = corpus.make(tmp_path / "corpus"), tmp_path / "out.json"
    assert main(["--data", str(data), "--clips", "2", "--nisqa", "--json", str(out)]) == 0
    header, _, *rows = ([cell.strip() for cell in row.split("|")] for row in capsys.readouterr().out.splitlines())
    shown = {row[1]: row[header.index("NISQA")] for row in rows}
    means = {system: figures.get("nisqa") for system, figures in json.loads(out.read_text())["mean"].items()}
    assert list(shown) == ["recording", "hnmask-22k", "griffin-lim", "hnmask-22k: F0 from the mel"]
    assert shown["recording"].startswith(f"{means['recording']:.2f} ± ")
    assert shown["hnmask-22k: F0 from the mel"] == ""
    peaks = [np.abs(soundfile.read(data / name)[0]).max() for name in ("0.flac", "3.flac")]
    assert means["recording"] == pytest.approx(2.205 + np.mean(peaks), abs=0.05)  # resampled to 22.05 kHz
    assert len({means[name] for name in ("recording", "hnmask-22k", "griffin-lim")}) == 3


def test_lengths_that_nisqa_cannot_score(install: Install) -> None:
    install(peak_as_score)
    for seconds, score in ((0.4, np.nan), (1.0, 1.8), (49.0, 1.8), (51.0, np.nan)):
        silence = np.zeros(int(seconds * 16000), np.float32)
        silence[0] = 0.2
        assert nisqa(Signal(silence, 16000)) == pytest.approx(score, nan_ok=True)


def failing(error: Exception) -> Callable[[torch.Tensor, int], torch.Tensor]:
    def assess(audio: torch.Tensor, rate: int) -> torch.Tensor:
        raise error

    return assess


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("needs librosa and requests"), 'pip install -e ".[nisqa]"'),
        (ConnectionError("no route to host"), "cannot be downloaded; put weights/nisqa.tar"),
        (EOFError("ran out of input"), "does not hold NISQA's weights; remove it"),
        (pickle.UnpicklingError("invalid load key, '<'"), "does not hold NISQA's weights; remove it"),
        (RuntimeError("not a ZIP archive"), "does not hold NISQA's weights; remove it"),
    ],
)
def test_what_is_missing_is_one_sentence(
    error: Exception, message: str, tmp_path: Path, install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(failing(error))
    refused(tmp_path, message, capsys)


def test_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, NETWORK, None)
    refused(tmp_path, 'NISQA needs torchmetrics, librosa and requests: pip install -e ".[nisqa]"', capsys)


def refused(folder: Path, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = corpus.make(folder / "corpus")
    before = sorted(folder.rglob("*"))
    assert main(["--data", str(data), "--nisqa", "--json", str(folder / "a.json"), "--report", str(folder / "b")]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("recipes.evaluate: ")
    assert len(error.splitlines()) == 1
    assert message in error
    assert sorted(folder.rglob("*")) == before
