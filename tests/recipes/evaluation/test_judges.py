"""The judges in table and JSON."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from recipes.evaluate import main
from recipes.evaluation import judges
from recipes.evaluation.metrics import Signal
from tests.support import corpus, signals


def test_scores_stand_beside_those_of_the_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def judge(place: int, _: Signal | None, x: Signal) -> float:
        """The peak tells signals apart, the whole number the judges."""
        return place + 1 + float(np.abs(x.audio).max())

    for place, name in enumerate(judges.JUDGES):
        monkeypatch.setitem(judges.JUDGES, name, partial(judge, place))
    monkeypatch.setattr(judges, "SECONDS", 0.5)  # the clips of the tests are short
    data, out = corpus.make(tmp_path / "corpus"), tmp_path / "out.json"
    assert main(["--data", str(data), "--clips", "2", "--judges", "--json", str(out)]) == 0
    header, _, *rows = ([cell.strip() for cell in row.split("|")] for row in capsys.readouterr().out.splitlines())
    assert header[2:5] == ["DistillMOS", "DNSMOS", "ViSQOL"]
    shown = {row[1]: row[2:5] for row in rows}
    assert shown["recording"][2] == ""  # nothing to be compared with
    assert shown["hnmask-22k: F0 from the mel"] == ["", "", ""]
    means = json.loads(out.read_text())["mean"]
    for system in ("recording", "hnmask-22k", "griffin-lim"):
        assert shown[system][0].startswith(f"{means[system]['distillmos']:.2f} ± ")
        assert means[system]["dnsmos"] == pytest.approx(means[system]["distillmos"] + 1)
    assert means["griffin-lim"]["visqol"] == pytest.approx(means["griffin-lim"]["distillmos"] + 2)


def test_what_cannot_be_judged_is_undefined(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in judges.JUDGES:
        monkeypatch.setitem(judges.JUDGES, name, lambda reference, estimate: 3.0)
    loud = np.full(32000, 0.1, np.float32)
    for audio, score in ((loud, 3.0), (loud[:16000], 3.0), (loud[:15999], np.nan), (0 * loud, np.nan)):
        for pair in ((audio, loud), (loud, audio)):
            scores = judges.judge(*(Signal(x, 16000) for x in pair))
            assert scores == pytest.approx(dict.fromkeys(judges.JUDGES, score), nan_ok=True)


@pytest.mark.parametrize("package", ["distillmos", "speechmos", "visqol"])
def test_without_a_package(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(judges.JUDGES):
        if name != {"speechmos": "dnsmos"}.get(package, package):
            monkeypatch.delitem(judges.JUDGES, name)
    for load in (judges._load_distillmos, judges._load_visqol):
        load.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    data = corpus.make(tmp_path / "corpus")
    before = sorted(tmp_path.rglob("*"))
    assert main(["--data", str(data), "--judges", "--json", str(tmp_path / "a.json")]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error == f'recipes.evaluate: the judges need {package}: pip install -e ".[judges]"\n'
    assert sorted(tmp_path.rglob("*")) == before


def test_the_real_judges(capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("distillmos", "speechmos", "visqol"):
        pytest.importorskip(package, reason=f'{package} is not installed: pip install -e ".[judges]"')
    clean = signals.voice(44100, 2.0).astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    reference = Signal(clean, 44100)
    good, bad = (judges.judge(reference, Signal(clean + level * noise, 44100)) for level in (1e-5, 0.1))
    assert 1 <= bad["visqol"] < 4 < good["visqol"] <= 5
    assert 1 <= bad["dnsmos"] < good["dnsmos"] <= 5
    assert 1 <= min(good["distillmos"], bad["distillmos"]) <= 5
    assert good["distillmos"] != bad["distillmos"]
    assert set(judges.judge(reference, reference)) == {"distillmos", "dnsmos"}
    assert capsys.readouterr().out == ""
