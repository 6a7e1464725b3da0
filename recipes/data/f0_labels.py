"""F0 labels of recordings, by WORLD."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
from tqdm import tqdm

from recipes.data.clips import Clip
from vocoders.files import atomic_write

if TYPE_CHECKING:
    pass

F0_PERIOD = 0.005  # seconds between F0 labels
F0_RANGE = (71.0, 800.0)  # Hz, WORLD's own; twice as wide doubles the doubtful frames of DIO


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
                with atomic_write(path) as unfinished:
                    np.savez(unfinished, values=np.concatenate(labels), lengths=[len(values) for values in labels])
        stored = [np.load(path) for path in paths]
        self.values = np.concatenate([part["values"] for part in stored])
        self.ends = np.cumsum(np.concatenate([part["lengths"] for part in stored]))

    def __getitem__(self, index: int) -> np.ndarray:
        start = self.ends[index - 1] if index else 0
        return self.values[start : self.ends[index]]


_BLOCK = 1000
