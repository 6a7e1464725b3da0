"""Draw random segments of recordings from tar shards, read by URL.

A shard is a tar of KEY.flac or KEY.wav, as webdataset packs them; other files are skipped. Shards are read whole, in a
random order per epoch, the next in the background; ``shards_at_once`` are open, each for its part of every batch.
Segment i depends on seed and i only, so a run can resume.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
from torch import Tensor
from torch.utils.data import Dataset

from recipes.data.clips import Clip, choose
from recipes.data.config import DataRecipe
from recipes.data.f0_labels import F0Labels
from recipes.data.segments import SegmentDataset
from vocoders.cli.common import say
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError, few
from vocoders.extras import require
from vocoders.io.audio import AUDIO_SUFFIXES


@dataclass(frozen=True)
class Member(Clip):
    """A recording in a shard; its path joins the shard's and its name there, ``content`` holds its bytes."""

    content: bytes = field(repr=False, compare=False)

    @property
    def file(self) -> BinaryIO:
        return io.BytesIO(self.content)


def expand_shards(data: DataRecipe) -> tuple[list[str], list[str]]:
    """List a recipe's shards for training and validation, by default the last one."""
    require("data.shards", "ray", "webdataset", "fsspec")
    from braceexpand import braceexpand

    urls = [url for pattern in data.shards for url in braceexpand(pattern)]
    if data.valid:
        return urls, []
    if len(urls) < 2:
        raise VocoderError(
            f"data.shards names one shard, {urls[0]}, and the last one is kept for validation: name more, or a "
            f"validation list in data.valid"
        )
    return urls[:-1], urls[-1:]


def read_shard(url: str) -> list[Clip]:
    """Read all recordings of a shard; report unreadable ones on standard error and skip them."""
    import fsspec
    from webdataset.tariterators import group_by_keys, tar_file_expander

    clips: list[Clip] = []
    bad: list[str] = []
    try:
        with fsspec.open(url, "rb").open() as stream:
            for sample in group_by_keys(tar_file_expander([{"url": url, "stream": stream}])):
                for name, content in _sounds(sample).items():
                    try:
                        info = soundfile.info(io.BytesIO(content))
                        clips.append(Member(Path(url) / name, info.samplerate, info.frames, content))
                    except soundfile.LibsndfileError as error:
                        bad.append(f"{name} ({error.error_string.strip().rstrip('.')})")
    except FileNotFoundError:
        raise VocoderError(f"there is no shard {url}") from None
    except Exception as error:  # store, tar and webdataset each have their own errors
        reason = str(error.args[0] if error.args else "") or type(error).__name__
        raise VocoderError(f"cannot read the shard {url}: {reason.splitlines()[0]}") from None
    clips = [clip for clip in clips if clip.samples]
    if not clips:
        raise VocoderError(
            f"the shard {url} holds no recording that can be read" + (f": {few(bad, '; ')}" if bad else "")
        )
    if bad:
        say(f"left out {len(bad)} recordings of {url} that cannot be read: {few(bad, '; ')}")
    return clips


def _sounds(sample: dict[str, Any]) -> dict[str, bytes]:
    """Return the sound files of a webdataset sample, by name in the shard."""
    endings = {suffix.removeprefix(".") for suffix in AUDIO_SUFFIXES}
    return {
        f"{sample['__key__']}.{suffix}": content
        for suffix, content in sample.items()
        if suffix.rpartition(".")[2] in endings and isinstance(content, bytes)
    }


def read_valid(urls: list[str], count: int) -> list[Clip]:
    """Read ``count`` recordings for validation, evenly spaced."""
    return choose([clip for url in urls for clip in read_shard(url)], count)


class ShardDataset(Dataset[dict[str, Tensor]]):
    """Random segments of recordings in shards; each shard works as a ``SegmentDataset``.

    ``batch_size``, the items of a whole batch, is a multiple of ``data.shards_at_once``. ``cache`` is the folder of F0
    labels; without it f0 is 0. ``mel_config`` and ``channels`` are those of the audio.
    """

    def __init__(
        self,
        urls: list[str],
        data: DataRecipe,
        mel_config: MelConfig,
        frames: int,
        seed: int,
        batch_size: int,
        cache: Path | None,
        channels: int = 1,
    ) -> None:
        self.urls, self.data, self.mel_config, self.frames = urls, data, mel_config, frames
        self.channels = channels
        self.seed, self.batch_size, self.cache = seed, batch_size, cache
        self._process = os.getpid()
        self._reading: dict[tuple[int, int], Future[SegmentDataset]] = {}
        self._threads: ThreadPoolExecutor | None = None

    def close(self) -> None:
        """Close shards and reading threads; the next segment opens what it needs."""
        if self._threads is not None and self._process == os.getpid():
            self._threads.shutdown(cancel_futures=True)
        self._process, self._reading, self._threads = os.getpid(), {}, None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_process": 0, "_reading": {}, "_threads": None}  # threads cannot be pickled

    def label(self) -> None:
        """Compute missing F0 labels of all shards."""
        for url in self.urls if self.cache is not None else []:
            self._read(url)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self._segments(*self.place(index))[index]

    def place(self, index: int) -> tuple[int, int]:
        """Return the part of the batch of a segment, and how many shards that part read before."""
        step, item = divmod(index, self.batch_size)
        each = self.batch_size // self.data.shards_at_once  # segments per part
        part, item = divmod(item, each)
        return part, (step * each + item) // self.data.segments_per_shard

    def url(self, part: int, visit: int) -> str:
        """Return the shard that a part reads after ``visit`` others."""
        epoch, position = divmod(visit * self.data.shards_at_once + part, len(self.urls))
        return self.urls[np.random.default_rng([self.seed, epoch]).permutation(len(self.urls))[position]]

    def _segments(self, part: int, visit: int) -> SegmentDataset:
        """Return a shard's segments, and start reading the next shard."""
        if self._process != os.getpid():  # a forked worker lacks its parent's threads
            self.close()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(2, "shards")
        wanted = [(part, visit), (part, visit + 1)]
        for place in wanted:
            if place not in self._reading:
                self._reading[place] = self._threads.submit(self._read, self.url(*place))
        self._reading = {place: read for place, read in self._reading.items() if place[0] != part or place in wanted}
        return self._reading[part, visit].result()

    def _read(self, url: str) -> SegmentDataset:
        clips = read_shard(url)
        labels = F0Labels(clips, self.cache, self.data.f0_range) if self.cache is not None else None
        return SegmentDataset(clips, labels, self.data, self.mel_config, self.frames, self.seed, channels=self.channels)
