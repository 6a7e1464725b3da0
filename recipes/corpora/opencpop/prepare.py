"""Opencpop: write train.txt, valid.txt and test.txt from the dataset's own lists of segments."""

from __future__ import annotations

from pathlib import Path

from recipes.data.corpora import Corpus, Split, run
from vocoders.errors import VocoderError

CORPUS = Corpus(
    name="opencpop",
    title="Opencpop",
    source="https://wenet.org.cn/opencpop (by its form, under its licence) and unpack it there",
    marker="segments/wavs",
    layout="Opencpop/segments/wavs/2001000001.wav with Opencpop/segments/train.txt and test.txt",
    clips=3756,
)
VALID = 50


def split(root: Path) -> Split:
    """Split by the dataset's lists; its last 50 training segments validate, as in ParallelWaveGAN."""
    lists: Split = {}
    for name in ("train", "test"):
        path = root / "segments" / f"{name}.txt"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise VocoderError(f"cannot read Opencpop's own list {path}: {error}") from None
        names = sorted(line.split("|")[0].strip() for line in lines if line.strip())
        lists[name] = [root / "segments" / "wavs" / f"{name}.wav" for name in names]
    return {"train": lists["train"][:-VALID], "valid": lists["train"][-VALID:], "test": lists["test"]}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run(CORPUS, split, CORPUS.parser(__doc__).parse_args(arguments))
