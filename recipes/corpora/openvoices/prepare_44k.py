"""The corpus of hnmask-44k: convert clips of public repositories, write train.txt, valid.txt and unseen.txt."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from recipes.corpora.openvoices.prepare import PEAK, trim
from recipes.data.audio import resample
from recipes.data.clips import choose, open_clips
from recipes.data.corpora import write_list
from vocoders.cli.common import Parser, prepare_streams, say
from vocoders.errors import VocoderError
from vocoders.files import make_folder, write_file
from vocoders.io.audio import encode_audio

RATE = 44100
LEVEL_DB = -23.3  # RMS; a speaker's gain brings the median of the clips here
FULL_SCALE = 0.999
CLIPPED = 3  # samples in a row at full scale; clips with more are left out
VALID = 2  # sentences of each training speaker that validate


@dataclass(frozen=True)
class Source:
    """A row of sources-44k.json: clips of a speaker or instrument in a GitHub repository.

    Attributes:
        speaker: folder in the corpus.
        role: "train", or "unseen" for a held-out speaker.
        minutes: most minutes to take, in evenly spaced clips.
        repository: owner/name.
        commit: commit of the corpus.
        pattern: regular expression of the clips' paths in the clone.
        kind: what is heard.
        licence: licence of the recordings.
        credit: whom to name.
        rate: sample rate in Hz of the clips to take; None for any.
    """

    speaker: str
    role: str
    minutes: float
    repository: str
    commit: str
    pattern: str
    kind: str
    licence: str
    credit: str
    rate: int | None = None

    def find(self, clones: Path) -> list[Path]:
        """List the clips in the clone, sorted, evenly spaced if more than ``minutes``."""
        clone = clones / self.repository.rsplit("/", 1)[-1]
        paths = [path for path in clone.rglob("*") if re.search(self.pattern, path.relative_to(clone).as_posix())]
        if not paths:
            raise VocoderError(
                f"{clone} has no clip of {self.speaker}: clone https://github.com/{self.repository} there, at "
                f"{self.commit}, or leave the speaker out with --without {self.speaker}"
            )
        clips = open_clips(sorted(paths, key=lambda path: path.parts), str(clone))
        clips = [clip for clip in clips if clip.sample_rate == self.rate or not self.rate]
        seconds = sum(clip.samples / clip.sample_rate for clip in clips)
        return [clip.path for clip in choose(clips, round(len(clips) * min(1, 60 * self.minutes / seconds)))]


def load_sources() -> list[Source]:
    """Read the table of sources."""
    text = Path(__file__).with_name("sources-44k.json").read_text(encoding="utf-8")
    return [Source(**row) for row in json.loads(text)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns the exit status. 0: the lists are written; 2: not written, and one sentence on standard error says why.
    """
    parser = Parser(
        prog="python -m recipes.corpora.openvoices.prepare_44k",
        description=" ".join((__doc__ or "").split()),
        epilog="recipes/corpora/openvoices/sources-44k.json names the repositories, their commits and licences.",
    )
    parser.add_argument("dir", type=Path, metavar="DIR", help="folder to build the corpus in")
    parser.add_argument("--clones", type=Path, metavar="DIR", help="folder of the clones (default: DIR)")
    parser.add_argument("--without", nargs="+", default=[], metavar="SPEAKER", help="speakers to leave out")
    options = parser.parse_args(arguments)
    prepare_streams()
    try:
        prepare(options.dir, options.clones or options.dir, options.without)
    except VocoderError as error:
        say(f"recipes.corpora.openvoices.prepare_44k: {error}")
        return 2
    except KeyboardInterrupt:
        say("stopped; run again to resume")
        return 130
    return 0


def prepare(folder: Path, clones: Path, without: list[str]) -> None:
    """Convert missing speakers and write the lists."""
    sources = load_sources()
    unknown = sorted(set(without) - {source.speaker for source in sources})
    if unknown:
        raise VocoderError(f"there is no speaker {', '.join(unknown)} in sources-44k.json")
    sources = [source for source in sources if source.speaker not in without]
    complete = {source: folder / source.speaker / "complete" for source in sources}
    todo = {source: source.find(clones) for source in sources if not complete[source].exists()}
    for source, found in todo.items():
        convert_speaker(source, found, folder / source.speaker, clones)
        write_file(complete[source], b"")
    lists: dict[str, list[Path]] = {"train": [], "valid": [], "unseen": []}
    for source in sources:
        paths = sorted((folder / source.speaker).rglob("*.flac"), key=lambda path: path.parts)
        if source.role == "unseen":
            lists["unseen"] += paths
        else:
            valid = validated(paths)
            lists["train"] += [path for path in paths if path.stem not in valid]
            lists["valid"] += [path for path in paths if path.stem in valid]
    for name, paths in lists.items():
        clips = open_clips(paths, str(folder))
        minutes = sum(clip.samples / clip.sample_rate for clip in clips) / 60
        write_list(folder, name, [clip.path for clip in clips], f"{len(clips)} clips, {minutes:.1f} min")


def convert_speaker(source: Source, paths: list[Path], folder: Path, clones: Path) -> None:
    """Convert a speaker's clips with one gain, and print what is left out."""
    clone = clones / source.repository.rsplit("/", 1)[-1]
    clips: dict[Path, np.ndarray] = {}
    left_out = {"unreadable": 0, "clipped": 0, "silent": 0}
    for path in tqdm(paths, desc=source.speaker, unit="clip", disable=None):
        try:
            audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            left_out["unreadable"] += 1
            continue
        audio = np.ascontiguousarray(audio[:, 0])  # differing channels would partly cancel in the mean
        if clipped(audio):
            left_out["clipped"] += 1
        elif np.abs(audio).max(initial=0) < 1e-3 or len(audio) < rate // 5:
            left_out["silent"] += 1
        else:
            clips[path] = trim(resample(audio, rate, RATE), RATE)
    levels = [np.sqrt(np.mean(np.square(audio))) for audio in clips.values()]
    gain = 10 ** (LEVEL_DB / 20) / float(np.median(levels))
    for path, audio in clips.items():
        peak = float(np.abs(audio).max())
        target = folder / path.relative_to(clone).with_suffix(".flac")
        make_folder(target.parent)
        write_file(target, encode_audio(audio * (gain if peak * gain <= PEAK else PEAK / peak), RATE, "flac"))
    counts = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
    print(f"{source.speaker}: {len(clips)} clips, gain {20 * np.log10(gain):.2f} dB; left out: {counts or 'none'}")


def clipped(audio: np.ndarray) -> bool:
    """Whether more than CLIPPED samples in a row of (samples,) are at full scale."""
    full = np.abs(audio) >= FULL_SCALE
    return bool(np.convolve(full, np.ones(CLIPPED + 1, int)).max(initial=0) > CLIPPED)


def validated(paths: list[Path]) -> set[str]:
    """Choose the sentences that validate, by file name across all folders of takes."""
    stems = sorted({path.stem for path in paths})
    return {stems[len(stems) * (2 * i + 1) // (2 * VALID)] for i in range(VALID)} if len(stems) > 10 else set()


if __name__ == "__main__":
    sys.exit(main())
