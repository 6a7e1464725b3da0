"""LibriTTS or LibriTTS-R: download chosen parts, and write train.txt, valid.txt and test.txt by its own parts."""

from __future__ import annotations

from pathlib import Path

from recipes.data.corpora import Corpus, Split, evenly, run
from recipes.data.downloads import Archive
from vocoders.errors import VocoderError

TRAIN = ("train-clean-100", "train-clean-360", "train-other-500")
VALID, TEST = "dev-clean", "test-clean"
MAX_VALID = 100  # of the 5736 of dev-clean, as training validates often

# SHA-256 as in torchaudio.datasets
LIBRITTS = {
    "train-clean-100": "c5608bf1ef74bb621935382b8399c5cdd51cd3ee47cec51f00f885a64c6c7f6b",
    "train-clean-360": "ce7cff44dcac46009d18379f37ef36551123a1dc4e5c8e4eb73ae57260de4886",
    "train-other-500": "e35f7e34deeb2e2bdfe4403d88c8fdd5fbf64865cae41f027a185a6965f0a5df",
    "dev-clean": "da0864e1bd26debed35da8a869dd5c04dfc27682921936de7cff9c8a254dbe1a",
    "test-clean": "234ea5b25859102a87024a4b9b86641f5b5aaaf1197335c95090cde04fe9a4f5",
}
# MD5 from OpenSLR's md5sum.txt, as in ml-explore/mlx-data
LIBRITTS_R = {
    "train-clean-100": "6df668d8f5f33e70876bfa33862ad02b",
    "train-clean-360": "382eb3e64394b3da6a559f864339b22c",
    "train-other-500": "a37a8e9f4fe79d20601639bf23d1add8",
    "dev-clean": "2c1f5312914890634cc2d15783032ff3",
    "test-clean": "4d373d453eb96c0691e598061bbafab7",
}


def corpus(restored: bool, parts: list[str]) -> Corpus:
    """Describe LibriTTS, or LibriTTS-R if ``restored``: archives of ``parts``, dev-clean and test-clean."""
    top, number, checksums = ("LibriTTS_R", 141, LIBRITTS_R) if restored else ("LibriTTS", 60, LIBRITTS)
    archives = []
    for part in (*parts, VALID, TEST):
        file = f"{part.replace('-', '_') if restored else part}.tar.gz"
        url = f"https://www.openslr.org/resources/{number}/{file}"
        archives.append(Archive(url, checksums[part], f"{top}/{part}"))
    return Corpus(
        name="libritts",
        title=top.replace("_", "-"),
        source=f"https://www.openslr.org/{number}",
        marker=f"{top}/{parts[0]}",
        layout=f"{top}/{parts[0]}/SPEAKER/CHAPTER/NAME.wav",
        size="about 85 GB, with --parts train-clean-100 10 GB",
        archives=tuple(archives),
    )


def split(root: Path, parts: list[str]) -> Split:
    """Split by part: ``parts`` train, a hundred recordings of dev-clean validate, test-clean tests."""
    for part in (*parts, VALID, TEST):
        if not (root / part).is_dir():
            raise VocoderError(f"{root} lacks {part}; --download fetches it")
    recordings = {part: sorted((root / part).glob("*/*/*.wav")) for part in (*parts, VALID, TEST)}
    return {
        "train": [path for part in parts for path in recordings[part]],
        "valid": evenly(recordings[VALID], MAX_VALID),
        "test": recordings[TEST],
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = corpus(False, list(TRAIN)).parser(__doc__)
    parser.add_argument(
        "--restored", action="store_true", help="LibriTTS-R instead (folder LibriTTS_R, https://www.openslr.org/141)"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=TRAIN, default=list(TRAIN), help="parts to train on (default: all three)"
    )
    options = parser.parse_args(arguments)
    chosen = corpus(options.restored, options.parts)
    top = Path(chosen.marker).parts[0]
    return run(chosen, lambda root: split(root / top, options.parts), options)
