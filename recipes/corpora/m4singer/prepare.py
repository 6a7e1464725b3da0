"""M4Singer: write train.txt, valid.txt and test.txt with whole songs held out, those of Amphion among them."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import Path

from recipes.data.corpora import Corpus, Split, run

CORPUS = Corpus(
    name="m4singer",
    title="M4Singer",
    source="https://github.com/M4Singer/M4Singer (by its application form) and unpack it there",
    marker="meta.json",
    layout="m4singer/Alto-1#美错/0000.wav with m4singer/meta.json",
)

# Amphion's test songs (preprocessors/__init__.py), one per register
TEST_SONGS = ("Alto-1#美错", "Bass-1#十年", "Soprano-2#同桌的你", "Tenor-5#爱笑的眼睛")


def split(root: Path) -> Split:
    """Split by song: Amphion's four test; the last other song of each of their singers validates."""
    songs: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(root.glob("*#*/*.wav")):
        songs[unicodedata.normalize("NFC", path.parent.name)].append(path)  # some systems unpack decomposed names
    singers = {song.split("#")[0] for song in TEST_SONGS}
    last = {song.split("#")[0]: song for song in sorted(songs) if song not in TEST_SONGS}
    valid = {song for singer, song in last.items() if singer in singers}
    lists: Split = {"train": [], "valid": [], "test": []}
    for song, paths in songs.items():
        lists["test" if song in TEST_SONGS else "valid" if song in valid else "train"] += paths
    return lists


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run(CORPUS, split, CORPUS.parser(__doc__).parse_args(arguments))
