"""The corpus of the built-in models, from synthetic clones; and that its recipes train."""

import base64
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from recipes.corpora.openvoices import prepare
from recipes.corpora.openvoices.prepare import RATE, SPEAKERS, Speaker, main
from recipes.training.loop import run_training
from recipes.training.recipe import load_recipe
from tests.support import ROOT, models, signals
from vocoders import load

RECIPES = ROOT / "recipes" / "corpora" / "openvoices"
VALID = (RECIPES / "valid.txt").read_text().split()
GAINS = {speaker.name: 10 ** (speaker.gain_db / 20) for speaker in SPEAKERS}
Corpus = Callable[..., int]

# Sources, and what they are called in the corpus. Beside them lie files that are no clips of it.
VALIDATED = {
    "dataset-voice-kathleen/data/arctic_b0519_1592525659.wav": "kathleen-en-f/arctic_b0519_1592525659.flac",
    "dataset-voice-nathalie/verified/nl_rhasspy_99.flac": "nathalie-nl-f/nl_rhasspy_99.flac",
    "turkish-makam-acapella-sections-dataset/guelen/01_Olmaz_6_meyan.wav": "makam-guelen-tr-sing/01_Olmaz_6_meyan.flac",
}
TRAINED = {
    "dataset-voice-kathleen/data/arctic_a0001_1592748574.wav": "kathleen-en-f/arctic_a0001_1592748574.flac",
    "dataset-voice-kathleen/data/arctic_a0001_1592748585.wav": "kathleen-en-f/arctic_a0001_1592748585.flac",
    "dataset-voice-nathalie/verified/nl_rhasspy_9.flac": "nathalie-nl-f/nl_rhasspy_9.flac",
    "dataset-voice-flemishguy/wavs/nl_rhasspy_1_1601817815.wav": "flemishguy-nl-m/nl_rhasspy_1_1601817815.flac",
    "dataset-voice-flemishguy/wavs/nl_rhasspy_2_1601817805.wav": "flemishguy-nl-m/nl_rhasspy_2_1601817805.flac",
    "turkish-makam-acapella-sections-dataset/goekhan/02_Gel_2_zemin.wav": "makam-goekhan-tr-sing/02_Gel_2_zemin.flac",
    "turkish-makam-acapella-sections-dataset/idil/Sakin--Gec_8_zemin_2_from_85_22_to_94_47.wav": (
        "makam-idil-tr-sing/Sakin--Gec_8_zemin_2_from_85_22_to_94_47.flac"
    ),
}
OTHER_TAKE = {
    "dataset-voice-kathleen/data/arctic_b0519_1592525646.wav": "kathleen-en-f/arctic_b0519_1592525646.flac",
}
NO_CLIPS = (
    "turkish-makam-acapella-sections-dataset/goekhan/02_Kimseye.wav",
    "turkish-makam-acapella-sections-dataset/goekhan/02_Hicran_Part1_T1.wav",
    "turkish-makam-acapella-sections-dataset/idil/Sakin--Gec--Kalma.wav",
    "turkish-makam-acapella-sections-dataset/safiye/01_Aksam_0_zemin.wav",
    "dataset-voice-nathalie/audio/nl_rhasspy_9.webm",
    "dataset-voice-kathleen/data/arctic_a0001_1592748574.txt",
)
CLIPS = VALIDATED | TRAINED | OTHER_TAKE
SECONDS, SILENCE = 0.3, 0.25


def recording(name: str) -> tuple[np.ndarray, int]:
    """(samples, channels) and rate as in the repository of that name; those of the singers begin and end in silence."""
    if name.startswith("dataset-voice-kathleen"):
        return np.stack([signals.voice(48000, SECONDS)] * 2, 1), 48000
    if name.startswith("dataset-voice-nathalie"):
        return signals.voice(48000, SECONDS)[:, None], 48000
    if name.startswith("dataset-voice-flemishguy"):
        return signals.voice(RATE, SECONDS)[:, None] * (2.5 if "_2_" in name else 0.5), RATE
    first = np.pad(signals.voice(44100, SECONDS), int(SILENCE * 44100))
    return np.stack([first, 1.5 * first[::-1] if "guelen" in name else first], 1), 44100


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Synthetic clones in ``tmp_path``, and the command that makes the corpus there, to be called with options."""
    for name in CLIPS:
        audio, rate = recording(name)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, audio, rate, subtype="PCM_16")
    for name in NO_CLIPS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("nothing that prepare.py opens")
    return lambda *options: main([str(tmp_path), *map(str, options)])


def lists(folder: Path) -> dict[str, list[str]]:
    return {name: (folder / f"{name}.txt").read_text().splitlines() for name in ("train", "valid")}


def made(folder: Path) -> set[str]:
    names = {speaker.name for speaker in SPEAKERS}
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.parent.name in names}


def test_clips_and_lists(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert corpus("--all") == 0
    assert made(tmp_path) == set(CLIPS.values())
    assert lists(tmp_path) == {"train": sorted(TRAINED.values()), "valid": sorted(VALIDATED.values())}
    captured = capsys.readouterr()
    assert "train.txt: 7 clips, 0.0 min\n" in captured.out
    assert "39 of 42 validation clips are missing" in captured.err


def test_how_a_clip_is_processed(corpus: Corpus, tmp_path: Path) -> None:
    assert corpus("--all") == 0
    for source, target in CLIPS.items():
        info = soundfile.info(tmp_path / target)
        assert (info.samplerate, info.channels, info.format, info.subtype) == (RATE, 1, "FLAC", "PCM_16")
        audio, _ = soundfile.read(tmp_path / target)
        # 100 ms of silence stay on either side, in whole frames; resampling blurs where the sound begins and ends.
        kept = SECONDS + (0.2 if "makam" in target else 0)
        assert len(audio) / RATE == pytest.approx(kept, abs=0.025)
        gain = GAINS[target.split("/")[0]]
        if "_2_" in target and "flemish" in target:
            assert np.abs(audio).max() == pytest.approx(0.97, abs=1e-3)  # lowered, for its gain would have it clip
        elif "flemish" in target:  # not even resampled, but rounded to 16 bits twice
            np.testing.assert_allclose(audio, recording(source)[0][:, 0] * gain, atol=(gain + 1) / 32768)
        else:  # the first channel, with its gain
            original, rate = recording(source)
            energy = (original[:, 0] ** 2).sum() / rate
            assert (audio**2).sum() / RATE == pytest.approx(energy * gain**2, rel=0.01)


def test_optional_speakers(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their clips train, and none of them validates; without the option the lists are what they were."""
    source = tmp_path / "martin" / "data/voices/martin/notes/exports/mono/A#3-2.wav"
    source.parent.mkdir(parents=True)
    soundfile.write(source, signals.voice(44100, SECONDS), 44100)
    assert corpus("--all", "--vocobox", tmp_path / "martin") == 0
    added = "vocobox-martin-fr-sing/A#3-2.flac"
    assert lists(tmp_path) == {"train": sorted([*TRAINED.values(), added]), "valid": sorted(VALIDATED.values())}
    assert corpus("--all") == 0
    assert lists(tmp_path)["train"] == sorted(TRAINED.values())
    assert corpus("--all", "--kerstin", tmp_path / "none") == 2
    text = capsys.readouterr().err.splitlines()[-1]
    assert f"there is no {tmp_path / 'none'} (https://github.com/rhasspy/dataset-voice-kerstin at f731271)" in text


def test_silence() -> None:
    loud, click = signals.noise(RATE, 0.5), np.zeros(RATE // 100)
    click[0] = 1
    faint = 10 ** (-60 / 20) * signals.noise(RATE, 0.4, seed=1)
    for quiet in (faint, np.zeros_like(faint)):
        np.testing.assert_array_equal(
            prepare.trim(np.concatenate([quiet, loud, quiet])),
            np.concatenate([quiet[-10 * (RATE // 100) :], loud, quiet[: 10 * (RATE // 100)]]),
        )
        assert len(prepare.trim(np.concatenate([click, quiet, loud]))) == (RATE // 100) + len(quiet) + len(
            loud
        )  # no silence
    for alone in (loud, np.zeros(RATE), np.zeros(5), np.zeros(0)):
        np.testing.assert_array_equal(prepare.trim(alone), alone)


def test_a_second_run_changes_nothing(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert corpus("--all") == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert corpus("--all") == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert [line.endswith("(as before)") for line in capsys.readouterr().out.splitlines()] == [False] * 2 + [True] * 2


def test_an_interrupted_run_resumes(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert, seen = prepare.convert, []

    def stop(source: Path, gain_db: float) -> np.ndarray:
        seen.append(source)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return convert(source, gain_db)

    monkeypatch.setattr(prepare, "convert", stop)
    assert corpus("--all") == 130
    assert len(made(tmp_path)) == 3
    assert not (tmp_path / "train.txt").exists()
    assert corpus("--all") == 0
    assert len(seen) == len(CLIPS) + 1
    assert made(tmp_path) == set(CLIPS.values())


def test_a_clip_that_cannot_be_read(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = "dataset-voice-kathleen/data/arctic_a0001_1592748574.wav"
    (tmp_path / damaged).write_text("version https://git-lfs.github.com/spec/v1")
    assert corpus("--all") == 1
    assert f"left out 1 of 11 clips that cannot be read: {tmp_path / damaged} (" in capsys.readouterr().err
    assert lists(tmp_path)["train"] == sorted(set(TRAINED.values()) - {CLIPS[damaged]})
    soundfile.write(tmp_path / damaged, np.zeros((0, 2)), 48000)
    assert corpus("--all") == 1
    assert f"{tmp_path / damaged} (empty)" in capsys.readouterr().err
    assert not (tmp_path / CLIPS[damaged]).exists()


def one_sentence(captured: str) -> str:
    *notes, sentence = captured.splitlines()
    assert all(note.startswith("note: ") for note in notes)
    assert sentence.startswith("recipes.prepare openvoices: ")
    return sentence


def test_clones_that_are_missing(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dataset-voice-nathalie").rename(tmp_path / "elsewhere")
    assert corpus("--all") == 2
    text = one_sentence(capsys.readouterr().err)
    assert "dataset-voice-nathalie (https://github.com/rhasspy/dataset-voice-nathalie at 3b3e91f)" in text
    assert text.endswith("clone it, or name its folder with --nathalie")
    assert not made(tmp_path)
    assert corpus("--all", "--nathalie", tmp_path / "elsewhere") == 0
    assert main([str(tmp_path / "none")]) == 2
    assert "--kathleen, --nathalie, --flemishguy, --makam" in one_sentence(capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "none").exists()


def test_clones_of_something_else(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert corpus("--all", "--makam", tmp_path / "dataset-voice-kathleen") == 2
    assert "is it a clone of MTG/turkish-makam" in one_sentence(capsys.readouterr().err)
    assert corpus() == 2  # not all of the commit is there: their numbers are not known
    text = one_sentence(capsys.readouterr().err)
    assert "dataset-voice-kathleen holds 4 recordings data/*.wav, and 1620 at commit c51cb97" in text


def test_clones_without_validation_clips_are_refused(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in VALIDATED:
        (tmp_path / name).rename((tmp_path / name).with_stem("other_1_other"))
    assert corpus("--all") == 2
    assert "the clones have nothing for valid.txt" in one_sentence(capsys.readouterr().err)


def test_folders_that_cannot_be_written(corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nathalie-nl-f").write_text("a file, not a folder")
    assert corpus("--all") == 2
    assert "cannot make the folder" in one_sentence(capsys.readouterr().err)


def test_the_commit_of_a_clone(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clone = tmp_path / "dataset-voice-kathleen"
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", clone, *arguments], check=True, env=os.environ | {"GIT_CONFIG_GLOBAL": os.devnull})
    commit = prepare.head(clone)
    assert commit is not None
    assert prepare.head(tmp_path / "dataset-voice-nathalie") is None  # although the folder may lie in a repository
    assert corpus("--all") == 0
    text = capsys.readouterr().err
    assert f"note: {clone} is at {commit[:7]}; the corpus was made from c51cb97" in text
    assert f"note: {tmp_path / 'dataset-voice-nathalie'} does not say at which commit it is" in text
    monkeypatch.setitem(prepare.REPOSITORIES, "kathleen", prepare.Repository("rhasspy/k", commit[:7]))
    assert corpus("--all", "--kathleen", clone) == 0
    assert str(clone) not in capsys.readouterr().err


def test_the_corpus_is_a_part_of_the_clones(tmp_path: Path) -> None:
    clips = [tmp_path / f"{i}.wav" for i in range(9)]
    for path in clips:
        path.touch()
    bits = np.array([0, 1, 1, 0, 0, 0, 1, 0, 1], np.uint8)
    speaker = Speaker("a", "makam", "*.wav", 9, 0.0, base64.b64encode(np.packbits(bits).tobytes()).decode())
    assert prepare.choose(speaker, tmp_path, everything=False) == [clips[i] for i in (1, 2, 6, 8)]
    assert prepare.choose(replace(speaker, included=""), tmp_path, everything=False) == clips
    assert prepare.choose(speaker, tmp_path, everything=True) == clips


def test_the_corpus_has_as_many_clips_as_its_lists() -> None:
    counts = [
        np.unpackbits(np.frombuffer(base64.b64decode(speaker.included), np.uint8), count=speaker.count).sum()
        if speaker.included
        else speaker.count
        for speaker in SPEAKERS
    ]
    assert counts == [786, 906, 757, 12, 29, 17, 519, 104]
    assert sum(counts[:6]) == 2465 + len(VALID)


def test_the_list_of_the_validation_clips() -> None:
    assert len(set(VALID)) == len(VALID) == 42
    assert sorted(VALID) == VALID
    corpus = {speaker.name for speaker in SPEAKERS if not prepare.REPOSITORIES[speaker.source].optional}
    assert {Path(name).parent.name for name in VALID} == corpus
    assert all(name.endswith(".flac") for name in VALID)


@pytest.mark.parametrize("name", ["hifigan", "istftnet", "parallel-wavegan", "wavehax"])
def test_the_recipes_of_the_four_families_train(name: str, corpus: Corpus, tmp_path: Path) -> None:
    assert corpus("--all") == 0
    recipe = load_recipe(name, data="openvoices")
    assert recipe.generator is not None
    changes = {
        "data.dir": str(tmp_path),
        "data.workers": 0,
        "generator.config": models.small(recipe.generator.name, recipe.mel_config),
        "discriminators": {name: models.SMALL_DISCRIMINATORS[name] for name in recipe.discriminators},
        "adversarial.start": min(recipe.adversarial.start, 1),
        "train.steps": 2,
        "train.batch_size": 1,
        "train.segment_frames": 10,
        "train.threads": 1,
    }
    small = load_recipe(name, [f"{key}={json.dumps(value)}" for key, value in changes.items()], "openvoices")
    voc = load(run_training(small, tmp_path / "run"))
    assert (voc.training["steps"], voc.mel_config) == (2, recipe.mel_config)
