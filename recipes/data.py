"""Random segments from a list of sound files, with F0 labels.

What segment number i holds follows from the seed and i alone. So the order of the data needs no state of its own:
training that resumes at step n asks for the segments from n * batch_size on.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from recipes.recipe import DataRecipe
from vocoders.errors import VocoderError
from vocoders.files import replacing
from vocoders.jobs import AUDIO_SUFFIXES
from vocoders.mel import MelSpec

if TYPE_CHECKING:
    from recipes.predicted_mels import PredictedMels

F0_PERIOD = 0.005  # seconds between F0 labels
F0_RANGE = (71.0, 800.0)  # Hz, WORLD's own; twice as wide doubles the doubtful frames of DIO


@dataclass(frozen=True)
class Clip:
    path: Path
    sample_rate: int
    samples: int


def list_clips(root: Path, list_file: Path) -> list[Clip]:
    """The sound files that ``list_file`` names, one a line, relative to ``root``."""
    try:
        names = list_file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise VocoderError(
            f"cannot read the list of recordings {list_file}: {error.strerror}; the prepare.py of a dataset writes it"
        ) from None
    paths = [root / name.strip() for name in names if name.strip()]
    if not paths:
        raise VocoderError(f"{list_file} names no recordings")
    return open_clips(paths, str(list_file))


def find_clips(root: Path) -> list[Clip]:
    """All sound files of a folder and the folders in it."""
    if not root.is_dir():
        raise VocoderError(f"there is no folder {root}")
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not paths:
        raise VocoderError(f"{root} holds no recordings; known endings: {', '.join(sorted(AUDIO_SUFFIXES))}")
    return open_clips(paths, str(root))


def open_clips(paths: list[Path], source: str) -> list[Clip]:
    """Sound files by their headers. Bad ones are listed on standard error and left out, unless all are."""
    clips, bad = [], []
    for path in tqdm(paths, desc="recordings", unit="file", disable=None if len(paths) > 1000 else True):
        try:
            info = soundfile.info(path)
        except soundfile.LibsndfileError as error:
            reason = error.error_string.strip().rstrip(".") if path.exists() else "no such file"
            bad.append(f"{path} ({reason})")
            continue
        if info.frames:
            clips.append(Clip(path, info.samplerate, info.frames))
        else:
            bad.append(f"{path} (empty)")
    if not clips:
        raise VocoderError(f"none of the {len(bad)} recordings of {source} can be read, such as {bad[0]}")
    if bad:
        print(f"left out {len(bad)} of {len(paths)} recordings that cannot be read: {'; '.join(bad)}", file=sys.stderr)
    return clips


def choose(clips: list[Clip], count: int | None) -> list[Clip]:
    """``count`` clips, evenly spaced; all when there are no more, or when it is None."""
    if count is None or count >= len(clips):
        return clips
    return [clips[round(place)] for place in np.linspace(0, len(clips) - 1, count)]


def split_clips(data: DataRecipe) -> tuple[list[Clip], list[Clip]]:
    """What to train and what to validate on.

    Without a list to train on every sound file of the folder is taken. Without one to validate on, one file in a
    hundred is, by a hash of its name: adding files moves none from one side to the other.
    """
    root = Path(data.dir)
    listed = list_clips(root, root / data.valid) if data.valid else None
    clips = list_clips(root, root / data.train) if data.train else find_clips(root)
    if listed is None:
        places = {clip: _place(str(clip.path.relative_to(root))) for clip in clips}
        valid = [clip for clip in clips if places[clip] < 0.01] or [min(clips, key=lambda clip: places[clip])]
    else:
        valid = listed
    # With both lists given, a recording in both is the user's decision.
    taken = set() if data.train and data.valid else {clip.path for clip in valid}
    train = [clip for clip in clips if clip.path not in taken]
    if not train and listed is not None:
        raise VocoderError(f"{root / str(data.valid)} lists all recordings of {root}: none is left to train on")
    return train or clips, choose(valid, data.valid_clips)


def _place(name: str) -> float:
    """A number in [0, 1) that hangs on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def label_f0(audio: np.ndarray, sample_rate: int, f0_range: tuple[float, float] = F0_RANGE) -> np.ndarray:
    """F0 in Hz, 0 = unvoiced, one value each F0_PERIOD seconds from 0 on: WORLD's DIO refined by StoneMask.

    Of WORLD's two estimators Harvest calls nearly everything voiced and changes its mind on voicing twice as often
    when a little noise is added.
    """
    import pyworld

    audio = audio.astype(np.float64)
    coarse, times = pyworld.dio(audio, sample_rate, *f0_range, frame_period=F0_PERIOD * 1000)
    return pyworld.stonemask(audio, coarse, times, sample_rate).astype(np.float32)


def label_clip(clip: Clip, f0_range: tuple[float, float]) -> np.ndarray:
    """The labels of a clip; all unvoiced where it cannot be decoded, for then no segment is drawn from it either."""
    try:
        audio = soundfile.read(clip.path, dtype="float64", always_2d=True)[0].mean(1)
    except soundfile.LibsndfileError:
        audio = np.zeros(clip.samples)
    return label_f0(audio, clip.sample_rate, f0_range)


def f0_at(labels: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Labels at ``times`` in seconds: linear between two voiced labels, else the nearest."""
    place = np.clip(times / F0_PERIOD, 0, len(labels) - 1)
    left = np.floor(place).astype(int)
    right = np.minimum(left + 1, len(labels) - 1)
    share = place - left
    a, b = labels[left], labels[right]
    nearest = np.where(share < 0.5, a, b)
    return np.where((a > 0) & (b > 0), a * (1 - share) + b * share, nearest).astype(np.float32)


def aligned(spec: MelSpec) -> MelSpec:
    """The convention with its frames placed as generators place them: frame t in the middle of hop t.

    The frames of a "center" convention lie half a hop earlier and are one more; otherwise they are the same. Segments
    are analysed so, and frames, labels and samples match whatever the convention.
    """
    return spec.model_copy(update={"padding": "same"}) if spec.padding == "center" else spec


def frame_times(frames: int, spec: MelSpec) -> np.ndarray:
    """The middle of each mel frame, in seconds."""
    offset = 0.0 if spec.padding == "center" else spec.hop_length / 2
    return (np.arange(frames) * spec.hop_length + offset) / spec.sample_rate


class F0Labels:
    """F0 labels of all clips, computed once and kept in the folder ``cache``, a file for each thousand clips."""

    def __init__(self, clips: list[Clip], cache: Path, f0_range: tuple[float, float] = F0_RANGE) -> None:
        blocks = [clips[i : i + _BLOCK] for i in range(0, len(clips), _BLOCK)]
        named = [[f"{F0_PERIOD} {f0_range}", *(f"{clip.path} {clip.samples}" for clip in block)] for block in blocks]
        paths = [cache / f"f0-{hashlib.sha256(chr(10).join(names).encode()).hexdigest()[:16]}.npz" for names in named]
        todo = sum(len(block) for block, path in zip(blocks, paths, strict=True) if not path.exists())
        label = partial(label_clip, f0_range=f0_range)
        with contextlib.ExitStack() as stack:
            progress = stack.enter_context(tqdm(total=todo, desc="F0 labels", unit="clip", disable=None))
            compute: Callable[..., Iterable[np.ndarray]] = map
            if todo > 64:  # worth starting processes for
                context = multiprocessing.get_context("spawn")
                compute = partial(stack.enter_context(ProcessPoolExecutor(mp_context=context)).map, chunksize=8)
            for block, path in zip(blocks, paths, strict=True):
                if path.exists():
                    continue
                labels = []
                for values in compute(label, block):
                    labels.append(values)
                    progress.update()
                cache.mkdir(parents=True, exist_ok=True)
                with replacing(path) as unfinished:
                    np.savez(unfinished, values=np.concatenate(labels), lengths=[len(values) for values in labels])
        stored = [np.load(path) for path in paths]
        self.values = np.concatenate([part["values"] for part in stored])
        self.ends = np.cumsum(np.concatenate([part["lengths"] for part in stored]))

    def __getitem__(self, index: int) -> np.ndarray:
        start = self.ends[index - 1] if index else 0
        return self.values[start : self.ends[index]]


_BLOCK = 1000


class SegmentDataset(Dataset[dict[str, Tensor]]):
    """Random segments: audio (1, frames * hop_length) and f0 (1, frames), see the head of this file.

    Clips are drawn in proportion to their length. Speed (pitch and tempo together, by resampling) and gain are drawn
    from the recipe's ranges; a clip shorter than the segment is padded with zeros. Without labels f0 is 0 throughout.
    With predicted mels each item also holds its mel (n_mels, frames).
    """

    def __init__(
        self,
        clips: list[Clip],
        labels: F0Labels | None,
        data: DataRecipe,
        spec: MelSpec,
        frames: int,
        seed: int,
        mels: PredictedMels | None = None,
    ) -> None:
        self.clips, self.labels, self.data, self.spec, self.frames, self.seed = clips, labels, data, spec, frames, seed
        self.mels = mels
        seconds = np.array([clip.samples / clip.sample_rate for clip in clips])
        self.odds = np.cumsum(seconds / seconds.sum())

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        draw = np.random.default_rng([self.seed, index])
        for _ in range(20):
            try:
                return self.segment(draw)
            except (soundfile.LibsndfileError, ValueError) as error:  # a damaged file whose header is whole
                print(f"passing over a recording that cannot be decoded: {error}", file=sys.stderr)
        raise VocoderError("twenty recordings in a row cannot be decoded")

    def segment(self, draw: np.random.Generator) -> dict[str, Tensor]:
        """A segment drawn from ``draw``. Raises LibsndfileError or ValueError when its recording cannot be decoded."""
        from torchaudio.functional import resample

        chosen = min(int(np.searchsorted(self.odds, draw.random())), len(self.clips) - 1)
        clip, hop = self.clips[chosen], self.spec.hop_length
        # A rate that is a multiple of a 50th of ours keeps the resampling filters few and short.
        step = self.spec.sample_rate // 50
        speed = np.exp(draw.uniform(*np.log(self.data.speed)))
        unchanged = self.data.speed == (1.0, 1.0)
        rate = clip.sample_rate if unchanged else max(step, round(clip.sample_rate * speed / step) * step)
        speed = rate / clip.sample_rate
        length = self.frames * hop
        wanted = int(np.ceil(length * rate / self.spec.sample_rate))
        item: dict[str, Tensor] = {}
        if self.mels is None:
            start = int(draw.integers(0, max(clip.samples - wanted, 0) + 1))
        else:
            mel = self.mels[clip]
            # A "center" convention places its frames half a hop earlier: its first one lies before the recording.
            centred = self.mels.spec.padding == "center"
            first = int(draw.integers(int(centred), max(mel.shape[1] - self.frames, int(centred)) + 1))
            start = round((first - centred / 2) * hop * clip.sample_rate / self.spec.sample_rate)
            mel = mel[:, first : first + self.frames]
            silence = self.frames - mel.shape[1]
            item["mel"] = torch.nn.functional.pad(mel, (0, silence), value=self.mels.spec.log_floor)
        with soundfile.SoundFile(clip.path) as file:
            file.seek(min(start, clip.samples))
            source = torch.from_numpy(file.read(wanted, dtype="float32", always_2d=True).mean(1))
        if not torch.isfinite(source).all():
            raise ValueError(f"{clip.path} holds values that are not finite")
        audio = resample(source, rate, self.spec.sample_rate)[:length]
        audio = torch.nn.functional.pad(audio, (0, length - len(audio)))
        audio = audio * 10 ** (draw.uniform(*self.data.gain_db) / 20)
        f0: np.ndarray = np.zeros(self.frames, np.float32)
        if self.labels is not None:
            times = start / clip.sample_rate + frame_times(self.frames, self.spec) * speed
            f0 = f0_at(self.labels[chosen], times) * speed
            f0[times * clip.sample_rate >= clip.samples] = 0
        return item | {"audio": audio.clamp(-1, 1)[None], "f0": torch.from_numpy(f0).float()[None]}


def read_clip(clip: Clip, spec: MelSpec) -> Tensor:
    """A whole clip, mono, at the convention's rate, cut to whole frames: (1, frames * hop_length).

    Raises VocoderError when it cannot be decoded, is not finite, or is shorter than a frame.
    """
    from torchaudio.functional import resample

    try:
        source = torch.from_numpy(soundfile.read(clip.path, dtype="float32", always_2d=True)[0].mean(1))
    except soundfile.LibsndfileError as error:
        raise VocoderError(f"{clip.path} cannot be decoded: {error}") from None
    audio = resample(source, clip.sample_rate, spec.sample_rate)
    if not torch.isfinite(audio).all() or len(audio) < spec.hop_length:
        raise VocoderError(f"{clip.path} is shorter than a frame, {spec.hop_length} samples, or not finite")
    return audio[None, : len(audio) // spec.hop_length * spec.hop_length]


def readable(clips: list[Clip], spec: MelSpec) -> list[Clip]:
    """Those that ``read_clip`` can read; the others are listed on standard error, unless that is all of them."""
    kept, bad = [], []
    for clip in clips:
        try:
            read_clip(clip, spec)
            kept.append(clip)
        except VocoderError as error:
            bad.append(str(error))
    if not kept:
        raise VocoderError(f"none of the recordings to validate on can be read, such as {bad[0]}")
    if bad:
        print(f"left out {len(bad)} of {len(clips)} recordings to validate on: {'; '.join(bad)}", file=sys.stderr)
    return kept
