"""Label recordings with F0 by WORLD (Morise et al. 2016)."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from recipes.data.audio import read_sound
from recipes.data.clips import Clip
from vocoders.files import atomic_write, make_folder

F0_PERIOD = 0.005  # seconds between F0 labels
F0_RANGE = (71.0, 800.0)  # Hz, WORLD's default; twice the range doubles DIO's errors
_BLOCK = 1000  # clips in a label file


def label_f0(audio: np.ndarray, sample_rate: int, f0_range: tuple[float, float] = F0_RANGE) -> np.ndarray:
    """Estimate F0 of (samples,) by WORLD's DIO and StoneMask: float32 Hz, 0 = unvoiced, every F0_PERIOD seconds from 0.

    Harvest calls nearly everything voiced, and a little noise changes its voicing twice as often.
    """
    import pyworld

    audio = audio.astype(np.float64)
    coarse, times = pyworld.dio(audio, sample_rate, *f0_range, frame_period=F0_PERIOD * 1000)
    return pyworld.stonemask(audio, coarse, times, sample_rate).astype(np.float32)


def label_clip(clip: Clip, f0_range: tuple[float, float]) -> np.ndarray:
    """Label a clip; an undecodable one is unvoiced, and never drawn."""
    try:
        audio = read_sound(clip.file, dtype="float64")[0]
    except soundfile.LibsndfileError:
        audio = np.zeros(clip.samples)
    return label_f0(audio, clip.sample_rate, f0_range)


def f0_at(labels: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Interpolate labels at ``times`` in seconds: linearly between voiced labels, else the nearest."""
    position = np.clip(times / F0_PERIOD, 0, len(labels) - 1)
    left = np.floor(position).astype(int)
    right = np.minimum(left + 1, len(labels) - 1)
    fraction = position - left
    a, b = labels[left], labels[right]
    nearest = np.where(fraction < 0.5, a, b)
    return np.where((a > 0) & (b > 0), a * (1 - fraction) + b * fraction, nearest).astype(np.float32)


class F0Labels:
    """F0 labels of all clips, computed once into the folder ``cache``, a file for each thousand clips.

    ``labels[index]`` is the result of ``label_f0`` for clip ``index``.
    """

    def __init__(self, clips: list[Clip], cache: Path, f0_range: tuple[float, float] = F0_RANGE) -> None:
        blocks = [clips[i : i + _BLOCK] for i in range(0, len(clips), _BLOCK)]
        paths = [cache / f"f0-{_key(block, f0_range)}.npz" for block in blocks]
        missing = [(block, path) for block, path in zip(blocks, paths, strict=True) if not path.exists()]
        label = partial(label_clip, f0_range=f0_range)
        total = sum(len(block) for block, _ in missing)
        with contextlib.ExitStack() as stack:
            progress = stack.enter_context(tqdm(total=total, desc="F0 labels", unit="clip", disable=None))
            compute: Callable[..., Iterable[np.ndarray]] = map
            if total > 64:  # worth starting processes
                context = multiprocessing.get_context("spawn")
                compute = partial(stack.enter_context(ProcessPoolExecutor(mp_context=context)).map, chunksize=8)
            for block, path in missing:
                labels = []
                for values in compute(label, block):
                    labels.append(values)
                    progress.update()
                make_folder(cache)
                with atomic_write(path) as partial_path:
                    np.savez(partial_path, values=np.concatenate(labels), lengths=[len(values) for values in labels])
        stored = [np.load(path) for path in paths]
        self.values = np.concatenate([part["values"] for part in stored])
        self.ends = np.cumsum(np.concatenate([part["lengths"] for part in stored]))

    def __getitem__(self, index: int) -> np.ndarray:
        start = self.ends[index - 1] if index else 0
        return self.values[start : self.ends[index]]


def _key(clips: list[Clip], f0_range: tuple[float, float]) -> str:
    """Hash everything that these labels depend on."""
    names = [f"{F0_PERIOD} {f0_range}", *(f"{clip.path} {clip.samples}" for clip in clips)]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
