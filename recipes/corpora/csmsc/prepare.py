"""CSMSC: write train.txt, valid.txt and test.txt with Parallel WaveGAN's split."""

from __future__ import annotations

from pathlib import Path

from recipes.data.corpora import Corpus, Split, held_out, run

CORPUS = Corpus(
    name="csmsc",
    title="CSMSC",
    source=(
        "https://www.data-baker.com/open_source.html (a manual download, for non-commercial use) and unpack BZNSYP.rar "
        "there"
    ),
    marker="Wave",
    layout="BZNSYP/Wave/000001.wav",
    clips=10000,
)


def split(root: Path) -> Split:
    """Split as kan-bayashi/ParallelWaveGAN, egs/csmsc: the last 100 test, the 100 before validate."""
    return held_out(sorted(root.glob("Wave/*.wav")), valid=100, test=100)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run(CORPUS, split, CORPUS.parser(__doc__).parse_args(arguments))
