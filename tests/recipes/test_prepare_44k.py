"""The corpus of hnmask-44k, from small clones."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from recipes.corpora.openvoices import prepare_44k
from recipes.corpora.openvoices.prepare_44k import Source, main
from tests.support import signals

ROW: dict[str, Any] = {"minutes": 1, "commit": "0", "kind": "", "licence": "", "credit": ""}


def make_clones(folder: Path) -> None:
    for repository in ("one", "two"):
        for i in range(12):
            for take in ("a", "b"):
                path = folder / repository / take / f"{i:02}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                audio = 0.05 * signals.voice(48000, 0.3, f0=150 + 10 * i)
                soundfile.write(path, np.stack([audio, -audio], 1), 48000)  # a mean of the channels would be silent
    loud = 2 * signals.voice(48000, 0.3) / 0.3
    soundfile.write(folder / "one" / "a" / "clipped.wav", loud.clip(-1, 1), 48000)
    soundfile.write(folder / "one" / "a" / "silent.wav", np.zeros(48000), 48000)
    (folder / "one" / "a" / "broken.wav").write_bytes(b"RIFF")


def test_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sources = [
        Source(speaker="singer", role="train", repository="x/one", pattern=r"^[ab]/.*\.wav$", **ROW),
        Source(speaker="guest", role="unseen", repository="x/two", pattern=r"^a/.*\.wav$", **ROW),
        Source(speaker="absent", role="train", repository="x/three", pattern=".", **ROW),
    ]
    monkeypatch.setattr(prepare_44k, "load_sources", lambda: sources)
    make_clones(tmp_path / "clones")
    corpus = tmp_path / "corpus"
    command = [str(corpus), "--clones", str(tmp_path / "clones")]
    assert main(command) == 2
    assert "has no clip of absent: clone https://github.com/x/three there" in capsys.readouterr().err
    assert main([*command, "--without", "abesnt"]) == 2
    assert "there is no speaker abesnt" in capsys.readouterr().err
    assert main([*command, "--without", "absent"]) == 0
    printed, errors = capsys.readouterr()
    assert re.search("^singer: 24 clips, .* left out: 1 clipped, 1 silent$", printed, re.MULTILINE)
    assert "broken.wav" in errors
    lists = {name: (corpus / f"{name}.txt").read_text().split() for name in ("train", "valid", "unseen")}
    assert [len(lists[name]) for name in ("train", "valid", "unseen")] == [20, 4, 12]
    assert {Path(name).stem for name in lists["valid"]}.isdisjoint(Path(name).stem for name in lists["train"])
    clips = [soundfile.read(corpus / name) for name in lists["train"] + lists["valid"]]
    assert {rate for _, rate in clips} == {44100}
    level = np.median([20 * np.log10(np.sqrt(np.mean(audio**2))) for audio, _ in clips])
    assert level == pytest.approx(prepare_44k.LEVEL_DB, abs=0.1)


def test_every_source_is_whole() -> None:
    sources = prepare_44k.load_sources()
    assert len({source.speaker for source in sources}) == len(sources)
    for source in sources:
        assert source.role in ("train", "unseen")
        assert re.fullmatch("[0-9a-f]{7}", source.commit)
        assert source.licence
        assert source.credit
        re.compile(source.pattern)
