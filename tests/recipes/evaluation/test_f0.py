"""F0 estimators are measured by ``recipes.evaluate --f0``."""

from pathlib import Path

import pytest

from recipes import evaluate
from recipes.evaluation import f0
from tests.support import models
from vocoders.checkpoint import Checkpoint, save_checkpoint


def rows(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()]


@pytest.fixture(autouse=True)
def one_pitch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f0, "PITCHES", (200,))


def test_the_built_in_model_keeps_a_vowel_and_silence(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main(["--f0"]) == 0
    vowel, silence = rows(capsys.readouterr().out)[2:4]
    assert vowel[0] == "200"
    assert vowel[1] == vowel[3] == "100 %"
    assert abs(int(vowel[2])) < 20
    assert abs(int(vowel[4])) < 20
    assert abs(float(vowel[5])) < 1
    assert silence[:3] == ["silence", "0 %", ""]
    assert float(silence[5].removesuffix(" dBFS")) < -70


def test_models_without_an_estimator(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(Checkpoint(models.MEL_CONFIG, models.generator("hifigan")), path)
    assert evaluate.main([str(path), "--f0"]) == 0
    assert rows(capsys.readouterr().out)[2][:3] == ["200", "", ""]
    assert evaluate.main([str(path), "--f0", "--data", str(data)]) == 2
    assert "the model has no F0 estimator" in capsys.readouterr().err
    save_checkpoint(Checkpoint(models.MEL_CONFIG, models.generator("hnmask")), path)
    assert evaluate.main([str(path), "--f0"]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert "this model needs f0" in error


def test_disturbed_mels_and_shifted_f0(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f0, "SHIFTS", (0, 5))
    assert evaluate.main(["--f0", "--data", str(data), "--clips", "1"]) == 0
    _, disturbed, shifted = capsys.readouterr().out.strip().split("\n\n")
    table = rows(disturbed)[2:]
    assert [row[0] for row in table[:3]] == ["exact", "mild smoothing", "strong smoothing"]
    assert len(table) == 3 + len(f0.DISTURBANCES)
    assert float(table[0][2]) == 0
    unshifted, fifth = rows(shifted)[2:]
    assert [unshifted[0], fifth[0]] == ["0", "5"]
    assert float(unshifted[1]) <= float(unshifted[2]) < 30
