"""VCTK 0.92: download it, and write train.txt, valid.txt and test.txt with nine speakers held out."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from recipes.data.corpora import Corpus, Split, run
from recipes.data.downloads import Archive

CORPUS = Corpus(
    name="vctk",
    title="VCTK 0.92",
    source="https://datashare.ed.ac.uk/handle/10283/3443",
    marker="wav48_silence_trimmed",
    layout="VCTK-Corpus-0.92/wav48_silence_trimmed/p225/p225_001_mic1.flac",
    size="11.7 GB",
    archives=(
        Archive(  # address and checksum as in torchaudio.datasets
            "https://datashare.is.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
            "f96258be9fdc2cbff6559541aae7ea4f59df3fcaf5cf963aae5ca647357e359c",
            "wav48_silence_trimmed",
            into="VCTK-Corpus-0.92",
        ),
    ),
)

# HiFi-GAN holds out nine speakers without naming them; its demo page has the first four (issue 128 of jik876/hifi-gan).
# The other five are the last by name, as in papers on bandwidth extension.
TEST_SPEAKERS = ("p226", "p271", "p292", "p318", "p363", "p364", "p374", "p376", "s5")


def split(root: Path, microphone: str) -> Split:
    """Split by speaker: nine test; of the others the last recording validates and the rest trains."""
    speakers: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(root.glob(f"wav48_silence_trimmed/*/*_{microphone}.flac")):
        speakers[path.parent.name].append(path)
    lists: Split = {"train": [], "valid": [], "test": []}
    for speaker, paths in speakers.items():
        if speaker in TEST_SPEAKERS:
            lists["test"] += paths
        else:
            lists["train"] += paths[:-1]
            lists["valid"] += paths[-1:]
    return lists


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CORPUS.parser(__doc__)
    parser.add_argument(
        "--mic",
        choices=("mic1", "mic2"),
        default="mic1",
        help="which of the two microphones; mic2 is not complete (default: mic1)",
    )
    options = parser.parse_args(arguments)
    return run(CORPUS, lambda root: split(root, options.mic), options)
