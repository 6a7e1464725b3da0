"""JVS 1: write train.txt, valid.txt and test.txt of its normal speech, with twelve speakers held out."""

from __future__ import annotations

from pathlib import Path

from recipes.data.corpora import Corpus, Split, run

CORPUS = Corpus(
    name="jvs",
    title="JVS ver1",
    source=(
        "https://sites.google.com/site/shinnosuketakamichi/research-topics/jvs_corpus (a manual download, under its "
        "terms of use) and unpack it there"
    ),
    marker="jvs*/parallel100",
    layout="jvs_ver1/jvs001/parallel100/wav24kHz16bit/VOICEACTRESS100_001.wav",
    clips=12997,
)

# parallel100: the same sentences by all; nonpara30: each speaker's own. Whisper and falsetto are left out.
STYLES = ("parallel100", "nonpara30")
VALID_SPEAKERS = ("jvs089", "jvs090")  # a man and a woman
TEST_SPEAKERS = tuple(f"jvs{number:03d}" for number in range(91, 101))  # six women and four men


def split(root: Path) -> Split:
    """Split by speaker; the choice of speakers is our own."""
    lists: Split = {"train": [], "valid": [], "test": []}
    for path in sorted(path for style in STYLES for path in root.glob(f"jvs*/{style}/wav24kHz16bit/*.wav")):
        speaker = path.relative_to(root).parts[0]
        lists["test" if speaker in TEST_SPEAKERS else "valid" if speaker in VALID_SPEAKERS else "train"].append(path)
    return lists


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run(CORPUS, split, CORPUS.parser(__doc__).parse_args(arguments))
