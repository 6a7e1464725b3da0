"""Pair inputs with outputs of a ``vocode`` call, before a model is loaded."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vocoders.errors import VocoderError
from vocoders.files import check_not_input
from vocoders.io.audio import AUDIO_SUFFIXES
from vocoders.io.foreign import refuse_foreign
from vocoders.io.mels import MEL_SUFFIXES


@dataclass(frozen=True)
class Job:
    """One input and its output; None for standard input or output.

    Attributes:
        format: of the output: a file ending without its dot, or "raw".
        title: name in messages, where it is not the file's.
    """

    source: Path | None
    target: Path | None
    format: str
    title: str | None = None

    @property
    def name(self) -> str:
        """Name of the input in messages."""
        return self.title or (str(self.source) if self.source else "standard input")

    @property
    def makes_mel(self) -> bool:
        """Whether the output is a mel."""
        return f".{self.format}" in MEL_SUFFIXES


def plan(
    inputs: Sequence[str], output: str, format: str | None, note: Callable[[str], None] = lambda _: None
) -> tuple[list[Job], bool]:
    """Pair each input (file, folder, glob, "-") with its output; also return whether they are a batch into a folder.

    ``format`` applies to a folder or standard output, "wav" by default; ``note`` takes a sentence on files left out.
    Raises VocoderError for a missing input, and an output that is ambiguous, made twice, an input, or contradicts
    ``format``.
    """
    sources = list(expand(inputs, Path(output), format or "wav", note=note))
    ends_in_separator = output.endswith(("/", os.sep))  # Windows takes both
    many = len(sources) > 1 or Path(inputs[0]).is_dir()
    ending = Path(output).suffix.lower()
    named = ending in (*AUDIO_SUFFIXES, *MEL_SUFFIXES, ".raw")
    if output != "-" and not Path(output).is_dir() and (ends_in_separator or many) and Path(output).exists():
        raise VocoderError(f"'{output}' must be a folder, but is a file")
    folder = output != "-" and (Path(output).is_dir() or ends_in_separator or (many and not named))
    if many and not folder:
        kind = "a stream" if output == "-" else "a file"
        raise VocoderError(f"{len(sources)} inputs need a folder as output, '{output}' is {kind}")
    if not folder and output != "-" and not named:
        known = " ".join((*AUDIO_SUFFIXES, ".raw", *MEL_SUFFIXES))
        raise VocoderError(f"'{output}' must end in one of {known}; a folder ends in /")
    if not folder and output != "-" and format and ending != f".{format}":
        raise VocoderError(f"--format {format} contradicts '{output}': name a file in .{format}, or leave --format out")
    if not folder:
        target = None if output == "-" else Path(output)
        jobs = [Job(sources[0][0], target, ending[1:] if target else format or "wav")]
    else:
        format = format or "wav"
        jobs = [Job(path, Path(output) / place.with_suffix(f".{format}"), format) for path, place in sources]
    _check(jobs)
    return jobs, folder


def expand(
    inputs: Sequence[str],
    output: Path,
    format: str,
    suffixes: Sequence[str] = AUDIO_SUFFIXES + MEL_SUFFIXES,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[tuple[Path | None, Path]]:
    """Find input files: yield each, None for standard input, and its place below an output folder.

    ``suffixes`` are the endings of a folder's inputs.
    """
    for text in inputs:
        path = Path(text)
        if text == "-":
            yield None, Path("stdin")
        elif path.is_dir():
            yield from ((p, p.relative_to(path)) for p in _files_below(path, output, format, suffixes, note))
        elif path.exists():
            yield path, Path(path.name)
        elif glob.has_magic(text):
            found = [Path(p) for p in sorted(glob.glob(text, recursive=True)) if Path(p).is_file()]
            if not found:
                raise VocoderError(f"no file matches '{text}'")
            # Once each: a link to a folder above repeats files endlessly.
            matches = {(os.path.realpath(p.parent), p.name): p for p in reversed(found)}
            yield from ((p, Path(p.name)) for p in reversed(matches.values()))
        else:
            raise VocoderError(f"there is no file {path}")


def _files_below(
    folder: Path, output: Path, format: str, suffixes: Sequence[str], note: Callable[[str], None]
) -> list[Path]:
    """List the inputs in a folder without earlier outputs; count and name other files."""
    files = [p for p in sorted(folder.rglob("*")) if not p.name.startswith(".") and not p.is_dir()]
    # Earlier outputs are no inputs: all of an output folder inside the input folder; files of the output's format
    # where the two are the same.
    made = os.path.realpath(output)  # unlike Path.resolve it takes circular links
    if made == os.path.realpath(folder):
        files = [p for p in files if p.suffix.lower() != f".{format}"]
    else:
        files = [p for p in files if Path(made) not in Path(os.path.realpath(p)).parents]
    others = [p for p in files if p.suffix.lower() not in suffixes]
    files = [p for p in files if p.suffix.lower() in suffixes]
    if others:
        names = ", ".join(str(p.relative_to(folder)) for p in others[:5]) + (", ..." if len(others) > 5 else "")
        listed = f"{len(others)} files of {folder} that are neither mels nor sounds which can be read: {names}"
        if not files:
            refuse_foreign(b"", str(others[0]))
            raise VocoderError(f"the folder {folder} holds no mel (.npy, .npz) and no sound file, only {listed}")
        note(f"left out {listed}")
    if not files:
        raise VocoderError(f"the folder {folder} holds no mel (.npy, .npz) and no sound file")
    return files


def _check(jobs: Sequence[Job]) -> None:
    taken: dict[Path, Job] = {}
    for job in jobs:
        if job.target is None:
            continue
        if job.target in taken:
            raise VocoderError(f"{taken[job.target].name} and {job.name} would both become {job.target}")
        taken[job.target] = job
        check_not_input(job.target, job.source)
