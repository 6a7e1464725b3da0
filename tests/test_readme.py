"""The README says what is so."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import ROOT
from vocoders import load
from vocoders.cli.vocode import vocode
from vocoders.dsp.mel import MEL_CONFIGS

README = (ROOT / "README.md").read_text()


def test_the_first_two_commands_are_the_main_job_and_the_tests() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    main_job, tests = (block.strip() for block in blocks[:2])
    assert main_job.count("\n") == tests.count("\n") == 0
    mel = re.search(r"vocode (\S+) -o out\.wav$", main_job)
    assert mel
    assert (ROOT / mel[1]).is_file()
    assert tests.endswith("pytest")


def test_the_first_lines_of_python() -> None:
    block = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)[0]
    with np.load(ROOT / "tests" / "data" / "hello.npz") as file:
        mel = file["mel"][:, :90]
    names = {"mel": mel, "f0": np.full(90, 120.0), "other": mel / np.log(10)}
    exec(compile(block, "README.md", "exec"), names)
    assert names["audio"].shape == (90 * 256,)
    np.testing.assert_allclose(names["mel"], mel, atol=1e-5)


def test_the_table_of_conventions() -> None:
    rows = re.findall(
        r"^\| `([\w-]+)` \| (\d+) \| (\d+) / (\d+) / (\d+) \| (\d+) \| (\d+)-(\d+) \|", README, re.MULTILINE
    )
    assert {row[0] for row in rows} == set(MEL_CONFIGS)
    for name, *figures in rows:
        mel_config = MEL_CONFIGS[name]
        expected = [
            mel_config.sample_rate,
            mel_config.n_fft,
            mel_config.hop_length,
            mel_config.win_length,
            mel_config.n_mels,
            mel_config.fmin,
            mel_config.fmax,
        ]
        assert [int(figure) for figure in figures] == expected


def test_the_export_section_runs(voice_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    section = README.partition("\n## Export\n")[2].partition("\n## ")[0]
    commands, python = re.findall(r"^```(?:sh|python)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert commands.splitlines()[0] == "vocoders export -o voice.onnx"  # which is what made voice_onnx
    monkeypatch.chdir(tmp_path)
    shutil.copy(voice_onnx, "voice.onnx")
    mel = ROOT / "tests" / "data" / "hello.npz"
    synthesis = commands.splitlines()[1].replace("tests/data/hello.npz", str(mel)).split()
    assert (synthesis[0], vocode(synthesis[1:])) == ("vocode", 0)
    assert soundfile.info("out.wav").duration > 5
    names = {"mel": np.load(mel)["mel"]}
    exec(python, names)
    assert names["used_f0"].shape == (1, 1, names["mel"].shape[1])
    # With the same noise it is what load gives.
    noise = names["inputs"]["noise"][0, 0]
    monkeypatch.setattr("vocoders.inference.synthesis.white_noise", lambda start, stop, seed: noise[start:stop])
    np.testing.assert_allclose(names["audio"][0, 0], load("voice.onnx")(names["mel"]), atol=1e-5)


def test_the_streaming_section_runs() -> None:
    section = README.partition("\n## Streaming\n")[2].partition("\n## ")[0]
    (python,) = re.findall(r"^```python\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    voc, mel = load(), np.load(ROOT / "tests" / "data" / "hello.npz")["mel"]
    played: list[np.ndarray] = []
    exec(python, {"voc": voc, "chunks": np.array_split(mel, 9, axis=1), "play": played.append})
    assert len(played) > 5
    np.testing.assert_allclose(np.concatenate(played), voc(mel), atol=1e-5)


def test_options_that_it_names_exist(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        vocode(["--help"])
    assert stopped.value.code == 0
    help_text = capsys.readouterr().out
    for option in ("--f0", "--seed", "--device", "--mel-config", "--raw-mel"):
        assert option in README
        assert option in help_text


def test_files_that_it_links_exist() -> None:
    for target in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / target).exists(), target


def test_no_placeholder_is_left() -> None:
    for path in ROOT.rglob("*.md"):
        if ".venv" not in path.parts:
            assert not re.findall(r"\b[A-Z]{2,}_[A-Z_]+\b", path.read_text().replace("MIT_LICENSE", "")), path
