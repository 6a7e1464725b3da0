"""The corpus of the built-in models: convert clips of public repositories, write train.txt and valid.txt."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from recipes.data.audio import resample
from recipes.data.clips import open_clips
from recipes.data.corpora import write_list
from vocoders.cli.common import Parser, prepare_streams, say
from vocoders.errors import VocoderError, few
from vocoders.files import make_folder, write_file
from vocoders.io.audio import encode_audio

RATE = 24000
MARGIN = 10  # frames kept around the audible part
SILENCE_DB = -50.0  # relative to the level exceeded by a twentieth of a clip's frames
PEAK = 0.97


@dataclass(frozen=True)
class Repository:
    """A GitHub repository, owner/name, at the commit of the corpus.

    An optional one is not part of the built-in models' corpus, and used only if its clone is named.
    """

    name: str
    commit: str
    optional: bool = False

    @property
    def folder(self) -> str:
        """Folder that ``git clone`` makes."""
        return self.name.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Speaker:
    """Clips of a speaker in a repository.

    Attributes:
        name: the speaker's folder in the corpus.
        source: key of REPOSITORIES.
        pattern: glob of the clips in the clone; for makam, numbered sections, not whole songs.
        count: number of clips at the commit.
        gain_db: gain; for optional speakers, to a median level of -23.3 dB.
        included: base64, a bit per clip sorted by path: whether it is in the corpus; empty for all.
    """

    name: str
    source: str
    pattern: str
    count: int
    gain_db: float
    included: str = ""


_SOURCES = json.loads(Path(__file__).with_name("sources.json").read_text(encoding="utf-8"))
REPOSITORIES = {key: Repository(**row) for key, row in _SOURCES["repositories"].items()}
SPEAKERS = [Speaker(**row) for row in _SOURCES["speakers"]]


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns the exit status. 0: the lists are written; 1: written without unreadable clips; 2: not written, and one
    sentence on standard error says why.
    """
    parser = Parser(
        prog="python -m recipes.prepare openvoices",
        description=" ".join((__doc__ or "").split()),
        epilog="recipes/corpora/openvoices/README.md says what is in the repositories.",
    )
    parser.add_argument("dir", type=Path, metavar="DIR", help="folder to build the corpus in")
    for key, repository in REPOSITORIES.items():
        parser.add_argument(
            f"--{key}",
            type=Path,
            metavar="CLONE",
            help=f"clone of {repository.name} at {repository.commit} "
            f"(default: {'without it' if repository.optional else f'DIR/{repository.folder}'})",
        )
    parser.add_argument(
        "--all", action="store_true", help="convert all clips of the clones, not only those of the corpus"
    )
    options = parser.parse_args(arguments)
    prepare_streams()
    clones = {
        key: getattr(options, key) or options.dir / repository.folder
        for key, repository in REPOSITORIES.items()
        if getattr(options, key) or not repository.optional
    }
    try:
        return 0 if prepare(options.dir, clones, options.all) else 1
    except VocoderError as error:
        say(f"recipes.prepare openvoices: {error}")
        return 2
    except KeyboardInterrupt:
        say("stopped; run again to resume")
        return 130


def prepare(folder: Path, clones: dict[str, Path], everything: bool) -> bool:
    """Convert missing clips and write the lists; return whether every clip can be read, as others are left out.

    ``clones`` maps keys of REPOSITORIES to folders; ``everything`` converts all clips, not only the corpus's.
    """
    check_clones(clones)
    jobs = [
        (source, folder / speaker.name / f"{source.stem}.flac", speaker.gain_db)
        for speaker in SPEAKERS
        if speaker.source in clones
        for source in choose(speaker, clones[speaker.source], everything)
    ]
    for parent in sorted({target.parent for _, target, _ in jobs}):
        make_folder(parent)
    bad = []
    todo = [job for job in jobs if not job[1].exists()]
    for source, target, gain_db in tqdm(todo, desc="clips", unit="clip", disable=None):
        try:
            audio = convert(source, gain_db)
        except soundfile.LibsndfileError as error:
            bad.append(f"{source} ({error.error_string.strip().rstrip('.')})")
        else:
            if len(audio):
                write_file(target, encode_audio(audio, RATE, "flac"))
            else:
                bad.append(f"{source} (empty)")
    if bad:
        say(f"left out {len(bad)} of {len(jobs)} clips that cannot be read: {few(bad, '; ')}")
    complete = write_lists(folder, sorted(target for _, target, _ in jobs if target.exists()))
    return complete and not bad


def check_clones(clones: dict[str, Path]) -> None:
    """Check that all clones exist; warn of one at another commit."""
    missing = [key for key in clones if not clones[key].is_dir()]
    if missing:
        sources = (
            f"{clones[key]} (https://github.com/{REPOSITORIES[key].name} at {REPOSITORIES[key].commit})"
            for key in missing
        )
        options = (f"--{key}" for key in missing)
        raise VocoderError(
            f"there is no {', no '.join(sources)}: clone it, or name its folder with {', '.join(options)}"
        )
    for key, clone in clones.items():
        at, commit = head(clone), REPOSITORIES[key].commit
        if at is None or not at.startswith(commit):
            where = f"is at {at[:7]}" if at else "does not say at which commit it is"
            say(f"note: {clone} {where}; the corpus was made from {commit}")


def head(clone: Path) -> str | None:
    """Return the checked-out commit; None without git or the folder."""
    command = ["git", f"--git-dir={clone / '.git'}", "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, check=True).stdout.decode("ascii").strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def choose(speaker: Speaker, clone: Path, everything: bool) -> list[Path]:
    """List a speaker's clips in the clone, sorted: all, or those of the corpus, for which it must be complete."""
    paths = sorted(clone.glob(speaker.pattern), key=lambda path: path.parts)  # Windows would ignore case
    if not paths:
        raise VocoderError(f"{clone} holds no {speaker.pattern}; is it a clone of {REPOSITORIES[speaker.source].name}?")
    if everything:
        return paths
    if len(paths) != speaker.count:
        raise VocoderError(
            f"{clone} holds {len(paths)} recordings {speaker.pattern}, and {speaker.count} at commit "
            f"{REPOSITORIES[speaker.source].commit}; check that commit out completely, or use --all"
        )
    if not speaker.included:
        return paths
    chosen = np.unpackbits(np.frombuffer(base64.b64decode(speaker.included), np.uint8), count=len(paths))
    return [path for path, included in zip(paths, chosen, strict=True) if included]


def convert(source: Path, gain_db: float) -> np.ndarray:
    """Read a clip as in the corpus, at RATE, trimmed and with its gain: float32 (samples,), empty for an empty clip.

    Takes the first channel: in makam-guelen's clips the channels differ and would partly cancel; elsewhere they are
    equal.
    """
    audio, rate = soundfile.read(source, dtype="float32", always_2d=True)
    audio = np.ascontiguousarray(audio[:, 0])
    if len(audio):
        audio = trim(resample(audio, rate, RATE))
    peak = float(np.abs(audio).max(initial=0))
    gain = 10 ** (gain_db / 20)
    return audio * (gain if peak * gain <= PEAK else PEAK / peak)


def trim(audio: np.ndarray, rate: int = RATE) -> np.ndarray:
    """Cut leading and trailing silence of (samples,), except for a margin.

    Frames are silent if over -SILENCE_DB below the 95th percentile, which no single click changes.
    """
    size = rate // 100  # 10 ms
    frames = audio[: len(audio) // size * size].reshape(-1, size)
    if not len(frames):
        return audio
    level = 10 * np.log10((frames.astype(np.float64) ** 2).mean(1) + 1e-12)
    loud = np.flatnonzero(level > np.quantile(level, 0.95) + SILENCE_DB)
    return audio[max(loud[0] - MARGIN, 0) * size : (loud[-1] + 1 + MARGIN) * size]


def sentence(path: Path) -> tuple[str, str]:
    """Name the speaker and prompt of a clip; file names end in the time of the take."""
    return path.parent.name, re.sub(r"_\d{10}$", "", path.stem)


def write_lists(folder: Path, paths: list[Path]) -> bool:
    """Write valid.txt, and train.txt with all other sentences; return whether all could be read."""
    names = Path(__file__).with_name("valid.txt").read_text(encoding="utf-8").split()
    validated = {sentence(Path(name)) for name in names}
    lists = {
        "train": [path for path in paths if sentence(path) not in validated],
        "valid": [path for path in paths if path.relative_to(folder).as_posix() in set(names)],
    }
    missing = len(names) - len(lists["valid"])
    if missing:
        say(f"note: {missing} of {len(names)} validation clips are missing")
    for name, listed in lists.items():
        if not listed:
            raise VocoderError(f"the clones have nothing for {name}.txt; are they complete?")
    complete = True
    for name, listed in lists.items():
        clips = open_clips(listed, str(folder))
        minutes = sum(clip.samples / clip.sample_rate for clip in clips) / 60
        write_list(folder, name, [clip.path for clip in clips], f"{len(clips)} clips, {minutes:.1f} min")
        complete = complete and len(clips) == len(listed)
    return complete
