"""List and read recordings."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

import numpy as np
import soundfile
import torch
from torch import Tensor
from tqdm import tqdm

from recipes.data.audio import read_sound, resample
from recipes.data.config import DataRecipe
from vocoders.cli.common import say
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError, few
from vocoders.files import LFS_POINTER
from vocoders.io.audio import AUDIO_SUFFIXES


@dataclass(frozen=True)
class Clip:
    """A sound file, with sample rate in Hz and number of samples from its header."""

    path: Path
    sample_rate: int
    samples: int

    @property
    def file(self) -> Path | BinaryIO:
        """The file to read, from its beginning."""
        return self.path


def list_clips(root: Path, list_file: Path) -> list[Clip]:
    """List the sound files named in ``list_file``, one a line, relative to ``root``."""
    try:
        names = list_file.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise VocoderError(
            f"cannot read the list of recordings {list_file}: {error.strerror}; a folder of sound files needs none: "
            f"python -m recipes.train MODEL DIR"
        ) from None
    except UnicodeDecodeError:
        raise VocoderError(f"the list of recordings {list_file} is not text in UTF-8; save it as such") from None
    paths = [root / name.strip() for name in names if name.strip()]
    if not paths:
        raise VocoderError(f"{list_file} names no recordings")
    return open_clips(paths, str(list_file))


def find_clips(root: Path) -> list[Clip]:
    """Read the headers of all sound files below a folder."""
    return open_clips(find_sounds(root), str(root))


def find_sounds(root: Path) -> list[Path]:
    """List all sound files below a folder, except hidden ones, which may be half-written."""
    if not root.is_dir():
        raise VocoderError(f"there is no folder {root}")
    paths = [p for p in root.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and not p.name.startswith(".")]
    paths.sort(key=lambda path: path.parts)  # same order everywhere; Windows would ignore case
    if not paths:
        raise VocoderError(f"{root} holds no recordings; known endings: {', '.join(sorted(AUDIO_SUFFIXES))}")
    return paths


def open_clips(paths: list[Path], source: str) -> list[Clip]:
    """Read the headers of sound files from ``source``; report unreadable ones on standard error and skip them."""
    clips, bad = [], []
    for path in tqdm(paths, desc="recordings", unit="file", disable=None if len(paths) > 1000 else True):
        try:
            info = soundfile.info(path)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.strip().rstrip(".") if path.exists() else "no such file"
            with suppress(OSError), path.open("rb") as file:
                if file.read(40) == LFS_POINTER:
                    reason = f'a Git LFS pointer; fetch it: git -C "{path.parent}" lfs pull'
            bad.append(f"{path} ({reason})")
            continue
        if info.frames:
            clips.append(Clip(path, info.samplerate, info.frames))
        else:
            bad.append(f"{path} (empty)")
    if not clips:
        raise VocoderError(f"none of the {len(bad)} recordings of {source} can be read, such as {bad[0]}")
    if bad:
        say(f"left out {len(bad)} of {len(paths)} recordings that cannot be read: {few(bad, '; ')}")
    return clips


def find_namesake(folder: Path, recording: PurePath, suffixes: Iterable[str]) -> Path | None:
    """Find the file named like ``recording``, a relative path, in its subfolder or in ``folder`` itself."""
    stem = recording.with_suffix("")
    for base in (folder / stem, folder / stem.name):
        for suffix in suffixes:
            path = base.with_name(base.name + suffix)
            if path.is_file():
                return path
    return None


def choose(clips: list[Clip], count: int | None) -> list[Clip]:
    """Take ``count`` clips, evenly spaced; all if there are no more or ``count`` is None."""
    if count is None or count >= len(clips):
        return clips
    return [clips[round(index)] for index in np.linspace(0, len(clips) - 1, count)]


def split_clips(data: DataRecipe) -> tuple[list[Clip], list[Clip]]:
    """Split a recipe's recordings into training and at most ``data.valid_clips`` for validation.

    Without a training list, all files train. Without a validation list, one file in a hundred validates, chosen by a
    hash of its name so that adding files moves none.
    """
    root = Path(data.dir)
    listed = list_clips(root, root / data.valid) if data.valid else None
    clips = list_clips(root, root / data.train) if data.train else find_clips(root)
    if listed is None:
        hashes = {clip: _hash(clip.path.relative_to(root)) for clip in clips}
        valid = [clip for clip in clips if hashes[clip] < 0.01] or [min(clips, key=lambda clip: hashes[clip])]
    else:
        valid = listed
    # With both lists given, a recording may be in both.
    taken = set() if data.train and data.valid else {clip.path for clip in valid}
    train = [clip for clip in clips if clip.path not in taken]
    if not train and listed is not None:
        raise VocoderError(f"{root / str(data.valid)} lists all recordings of {root}: none is left to train on")
    return train or clips, choose(valid, data.valid_clips)


def _hash(name: PurePath) -> float:
    """Hash a name to [0, 1), the same on every system."""
    return int.from_bytes(hashlib.sha256(name.as_posix().encode()).digest()[:8], "big") / 2**64


def read_clip(clip: Clip, mel_config: MelConfig, channels: int = 1) -> Tensor:
    """Read a clip at the mel config's rate, cut to whole frames: float32 (channels, frames * hop_length)."""
    try:
        source = read_sound(clip.file, channels)
    except soundfile.LibsndfileError as error:
        raise VocoderError(f"{clip.path} cannot be decoded: {error}") from None
    audio = torch.from_numpy(resample(source, clip.sample_rate, mel_config.sample_rate))
    if not torch.isfinite(audio).all() or audio.shape[1] < mel_config.hop_length:
        raise VocoderError(f"{clip.path} is shorter than a frame, {mel_config.hop_length} samples, or not finite")
    return audio[:, : audio.shape[1] // mel_config.hop_length * mel_config.hop_length]


def readable(clips: list[Clip], mel_config: MelConfig) -> list[Clip]:
    """Keep the clips that ``read_clip`` can read; report the others on standard error."""
    kept, bad = [], []
    for clip in clips:
        try:
            read_clip(clip, mel_config)
            kept.append(clip)
        except VocoderError as error:
            bad.append(str(error))
    if not kept:
        raise VocoderError(f"none of the recordings to validate on can be read, such as {bad[0]}")
    if bad:
        say(f"left out {len(bad)} of {len(clips)} recordings to validate on: {few(bad, '; ')}")
    return kept
