"""LJ Speech 1.1: download it, and write train.txt, valid.txt and test.txt with HiFi-GAN's held-out recordings."""

from __future__ import annotations

from pathlib import Path

from recipes.data.corpora import Corpus, Split, run
from recipes.data.downloads import Archive

CORPUS = Corpus(
    name="ljspeech",
    title="LJ Speech 1.1",
    source="https://keithito.com/LJ-Speech-Dataset",
    marker="wavs",
    layout="LJSpeech-1.1/wavs/LJ001-0001.wav",
    clips=13100,
    size="2.6 GB",
    archives=(
        Archive(
            "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
            "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",  # as in torchaudio.datasets
            "wavs",
        ),
    ),
)

# Chapter: recordings, the 150 that HiFi-GAN holds out (jik876/hifi-gan, LJSpeech-1.1/validation.txt).
HELD_OUT = """
001: 28 68; 002: 149 157 167; 003: 42 307; 004: 169 233; 005: 101 108 202 234 248; 006: 1 18 34 78; 007: 217 243;
008: 87 131 140 158 174; 010: 47 61 105 233 234 258 262 270 293; 011: 9 256; 012: 44 145; 013: 20 77 228;
014: 20 54 101 103 263 272 311; 015: 197; 016: 89 407 443; 017: 33 38; 018: 18 119 280; 019: 178 240; 021: 49 155;
022: 46 173; 024: 87 110 119; 025: 91; 026: 29 39 64 105 137; 027: 6; 028: 134 138 189 281; 029: 188; 030: 98;
031: 7 91 227; 032: 100 165 198; 033: 46 72 135; 034: 83 179; 035: 125 162 189 208; 036: 216;
037: 93 157 178 219 222; 038: 17 52 77 161 212; 039: 103 149; 040: 107 119 161 169; 041: 98; 042: 17 70 161;
043: 147 178 183 185; 044: 57 109; 045: 81 147 204; 046: 193 244; 047: 59 142; 048: 35 63 104 187 271; 049: 31 59 174;
050: 49 113 150 189 269 270 271 272 273 274 275 276 277 278
"""


def held_out_names() -> list[str]:
    """List the 150 names in order, such as LJ001-0028."""
    chapters = (chapter.split(":") for chapter in HELD_OUT.split(";"))
    return [f"LJ{chapter.strip()}-{int(number):04d}" for chapter, numbers in chapters for number in numbers.split()]


def split(root: Path) -> Split:
    """Split as HiFi-GAN; of its 150 held-out recordings every third validates, the others test."""
    names = held_out_names()
    lists: Split = {"train": [], "valid": [], "test": []}
    for path in sorted(root.glob("wavs/*.wav")):
        index = names.index(path.stem) if path.stem in names else None
        lists["train" if index is None else "test" if index % 3 else "valid"].append(path)
    return lists


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run(CORPUS, split, CORPUS.parser(__doc__).parse_args(arguments))
