"""Make tiny copies of the datasets in recipes/, in their published layouts, to test each prepare.py."""

import shutil
from collections.abc import Callable
from pathlib import Path

import soundfile

from tests.support import signals

Expected = dict[str, set[str]]
"""Paths that belong in each list."""


def lists(folder: Path) -> Expected:
    """Read the lists of prepare.py."""
    return {name: set((folder / f"{name}.txt").read_text("utf-8").splitlines()) for name in ("train", "valid", "test")}


class Maker:
    """Writes sound files of one rate, and notes the list each belongs to."""

    def __init__(self, folder: Path, sample_rate: int, suffix: str = ".wav") -> None:
        self.folder = folder
        self.expected: Expected = {"train": set(), "valid": set(), "test": set()}
        self.originals = {}
        for kind, seconds in (("long", 0.5), ("short", 0.15)):
            self.originals[kind] = folder / f"{kind}{suffix}"
            folder.mkdir(parents=True, exist_ok=True)
            soundfile.write(self.originals[kind], signals.voice(sample_rate, seconds), sample_rate)

    def add(self, name: str | None, *paths: str) -> None:
        """Add files for a list, or for none."""
        for path in paths:
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.originals["long" if name == "train" else "short"], self.folder / path)
            if name:
                self.expected[name].add(path)

    def done(self) -> Expected:
        for path in self.originals.values():
            path.unlink()
        return self.expected


def ljspeech(folder: Path) -> Expected:
    make, wavs = Maker(folder, 22050), "LJSpeech-1.1/wavs"
    make.add("train", f"{wavs}/LJ001-0001.wav", f"{wavs}/LJ001-0027.wav", f"{wavs}/LJ050-0268.wav")
    make.add("valid", f"{wavs}/LJ001-0028.wav", f"{wavs}/LJ002-0157.wav")  # the first and the fourth held out
    make.add("test", f"{wavs}/LJ001-0068.wav", f"{wavs}/LJ002-0149.wav", f"{wavs}/LJ050-0278.wav")
    return make.done()


def libritts(folder: Path, top: str = "LibriTTS") -> Expected:
    make = Maker(folder, 24000)
    for name, part in (("train", "train-clean-100"), ("valid", "dev-clean"), ("test", "test-clean")):
        make.add(name, *(f"{top}/{part}/1{i}/2{i}/1{i}_2{i}_000001_000000.wav" for i in range(2)))
    make.add(None, f"{top}/train-clean-360/3/4/3_4_000001_000000.wav", f"{top}/dev-other/5/6/5_6_000001_000000.wav")
    return make.done()


def vctk(folder: Path) -> Expected:
    make, audio = Maker(folder, 48000, ".flac"), "VCTK-Corpus-0.92/wav48_silence_trimmed"
    for speaker in ("p225", "p227"):
        make.add("train", *(f"{audio}/{speaker}/{speaker}_00{i}_mic1.flac" for i in (1, 2)))
        make.add("valid", f"{audio}/{speaker}/{speaker}_003_mic1.flac")
    make.add("test", f"{audio}/p226/p226_001_mic1.flac", f"{audio}/s5/s5_001_mic1.flac")
    make.add(None, f"{audio}/p225/p225_001_mic2.flac")
    return make.done()


def jsut(folder: Path) -> Expected:
    make, top = Maker(folder, 48000), "jsut_ver1.1"
    make.add("train", *(f"{top}/basic5000/wav/BASIC5000_000{i}.wav" for i in range(1, 4)))
    make.add("valid", *(f"{top}/utparaphrase512/wav/UT-PARAPHRASE-sent{i:03d}-phrase1.wav" for i in range(250)))
    make.add("test", *(f"{top}/utparaphrase512/wav/UT-PARAPHRASE-sent{i:03d}-phrase1.wav" for i in range(250, 400)))
    make.add("test", *(f"{top}/voiceactress100/wav/VOICEACTRESS100_{i:03d}.wav" for i in range(100)))
    return make.done()


def jvs(folder: Path) -> Expected:
    make = Maker(folder, 24000)
    for name, speaker in (("train", "jvs001"), ("train", "jvs088"), ("valid", "jvs090"), ("test", "jvs091")):
        for style in ("parallel100", "nonpara30"):
            make.add(name, f"jvs_ver1/{speaker}/{style}/wav24kHz16bit/{style}_001.wav")
        make.add(None, f"jvs_ver1/{speaker}/whisper10/wav24kHz16bit/whisper_001.wav")
    return make.done()


def csmsc(folder: Path) -> Expected:
    make = Maker(folder, 48000)
    for name, first, end in (("train", 1, 4), ("valid", 4, 104), ("test", 104, 204)):
        make.add(name, *(f"BZNSYP/Wave/{i:06d}.wav" for i in range(first, end)))
    return make.done()


def opencpop(folder: Path) -> Expected:
    make, segments = Maker(folder, 44100), folder / "Opencpop" / "segments"
    names = {
        "train": [f"200100000{i}" for i in range(1, 4)],
        "valid": [f"20020000{i:02d}" for i in range(50)],
        "test": ["2044000001", "2086000001"],
    }
    for name, stems in names.items():
        make.add(name, *(f"Opencpop/segments/wavs/{stem}.wav" for stem in stems))
    make.add(None, "Opencpop/wavs/2001.wav")  # the whole song
    for name, stems in {"train": names["valid"] + names["train"], "test": names["test"]}.items():
        (segments / f"{name}.txt").write_text("".join(f"{stem}|啊|a|C4/Db4|0.5|0.5|0\n" for stem in stems), "utf-8")
    return make.done()


def m4singer(folder: Path) -> Expected:
    make = Maker(folder, 48000)
    make.add("train", *(f"m4singer/{song}/0000.wav" for song in ("Alto-1#A", "Bass-1#A", "Alto-2#Z Z", "Tenor-7#后来")))
    make.add("valid", "m4singer/Alto-1#B/0000.wav", "m4singer/Alto-1#B/0001.wav", "m4singer/Bass-1#B/0000.wav")
    make.add("test", "m4singer/Alto-1#美错/0000.wav", "m4singer/Bass-1#十年/0000.wav")
    (folder / "m4singer" / "meta.json").write_text("[]")
    return make.done()


CORPORA: dict[str, Callable[[Path], Expected]] = {
    "ljspeech": ljspeech,
    "libritts": libritts,
    "vctk": vctk,
    "jsut": jsut,
    "jvs": jvs,
    "csmsc": csmsc,
    "opencpop": opencpop,
    "m4singer": m4singer,
}
OPTIONS = {"libritts": ["--parts", "train-clean-100"]}
"""Options that the command needs beside the folder."""
