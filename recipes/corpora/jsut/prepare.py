"""JSUT 1.1: download it, and write train.txt, valid.txt and test.txt with Parallel WaveGAN's split."""

from __future__ import annotations

from pathlib import Path

from recipes.data.corpora import Corpus, Split, held_out, run
from recipes.data.downloads import Archive

CORPUS = Corpus(
    name="jsut",
    title="JSUT 1.1",
    source="https://sites.google.com/site/shinnosuketakamichi/publication/jsut",
    marker="basic5000",
    layout="jsut_ver1.1/basic5000/wav/BASIC5000_0001.wav",
    clips=7696,
    size="2.7 GB",
    # No checksum is published; the archive has CRCs, and ``clips`` counts the files.
    archives=(Archive("http://ss-takashi.sakura.ne.jp/corpus/jsut_ver1.1.zip", None, "basic5000"),),
)


def split(root: Path) -> Split:
    """Split as kan-bayashi/ParallelWaveGAN, egs/jsut: by path, the last 250 test, the 250 before validate."""
    return held_out(sorted(root.glob("*/wav/*.wav")), valid=250, test=250)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run(CORPUS, split, CORPUS.parser(__doc__).parse_args(arguments))
