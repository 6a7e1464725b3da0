"""Finished audio of other systems beside our own: where it is laid, and what is missing."""

import json
from pathlib import Path, PurePath

import numpy as np
import pytest
import soundfile

from recipes.data.audio import resample
from recipes.evaluate import main
from recipes.evaluation.finished import FinishedAudio, offset
from recipes.evaluation.metrics import Signal
from tests.support import corpus, signals
from vocoders.dsp.mel import MEL_CONFIGS

RATE = 22050
MEL_CONFIG = MEL_CONFIGS["hifigan-22k"]
SPEECH = signals.speech(RATE)


@pytest.mark.parametrize("late", [0, 128, -128, 1008])
def test_audio_is_moved_to_where_its_mel_fits(late: int) -> None:
    """Half a hop, as of a "center" mel config, and the delay of an MP3; the sign of the waveform is no matter."""
    moved = -0.7 * np.pad(SPEECH, (max(late, 0), 0))[max(-late, 0) :]
    assert offset(moved, SPEECH, MEL_CONFIG) == pytest.approx(late, abs=16)


def test_audio_of_another_rate_and_length_is_laid_over_the_recording(tmp_path: Path) -> None:
    late = np.pad(SPEECH, (512, 0))[:-4000]
    soundfile.write(tmp_path / "a.flac", resample(late, RATE, 44100), 44100)
    reference = Signal(SPEECH, RATE)
    found = FinishedAudio("peer", tmp_path).read(PurePath("speaker/a.wav"), reference, MEL_CONFIG)
    assert found is not None
    assert (len(found.audio), found.sample_rate) == (len(SPEECH), RATE)
    kept = slice(100, len(SPEECH) - 4100)
    np.testing.assert_allclose(found.audio[kept], SPEECH[kept], atol=0.03)
    assert not found.audio[-3900:].any()
    assert FinishedAudio("peer", tmp_path).read(PurePath("b.wav"), reference, MEL_CONFIG) is None


def test_finished_audio_is_a_row_and_a_sound_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recording itself as finished audio is perfect; the other one is missing."""
    data, peer = corpus.make(tmp_path / "corpus"), tmp_path / "peer"
    peer.mkdir()
    soundfile.write(peer / "0.wav", *soundfile.read(data / "0.flac"))
    out, page = tmp_path / "out.json", tmp_path / "page"
    arguments = ["--data", str(data), "--clips", "2", "--others", f"my peer={peer}", "--json", str(out)]
    assert main([*arguments, "--report", str(page)]) == 0
    results = json.loads(out.read_text())
    assert results["clips"] == ["0.flac", "3.flac"]
    assert list(results["mean"])[:4] == ["recording", "hnmask-22k", "griffin-lim", "my peer"]
    figures, missing = results["per_clip"]["my peer"]
    assert figures["stoi"] > 0.999
    assert figures["log_mel_l1"] < 0.01
    assert "speed" not in figures
    assert missing == {}
    assert results["mean"]["my peer"] == figures
    assert [len(lines) for lines in results["lines"].values()] == [2] * 4
    assert [path.name for path in page.glob("*peer.flac")] == ["0000-3-my-peer.flac"]
    assert "finished audio: my peer" in (page / "index.html").read_text()
    assert capsys.readouterr().err == "note: my peer has no audio of 1 of 2 recordings: 3.flac\n"


def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, void, junk = corpus.make(tmp_path / "corpus"), tmp_path / "void", tmp_path / "junk"
    for folder in (void, junk):
        folder.mkdir()
    (junk / "0.wav").write_text("no sound")
    for option, message in (
        ("peer", "--others takes NAME=DIR, got 'peer'"),
        ("=peer", "--others takes NAME=DIR"),
        (f"peer={tmp_path / 'none'}", f"there is no folder {tmp_path / 'none'}"),
        (f"peer={void}", f"{void} holds no sound file named like a recording, such as 0"),
        (f"recording={data}", "two rows of the table would be called 'recording'"),
        (f"peer={junk}", f"{junk / '0.wav'} cannot be decoded"),
    ):
        assert main(["--data", str(data), "--clips", "1", "--others", option]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("recipes.evaluate: ")
        assert message in line
