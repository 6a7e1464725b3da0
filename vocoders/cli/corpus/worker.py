"""Worker of a corpus: processes the items that it is given. Does not import Ray."""

from __future__ import annotations

import itertools
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vocoders.cli.common import limit_threads
from vocoders.cli.corpus.items import Item, list_outputs
from vocoders.cli.execution import Notes, Options, Source, Worker, describe_failure, naming
from vocoders.cli.plan import Job
from vocoders.cluster import storage
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.facts import Facts
from vocoders.files import Bytes, make_folder, map_file
from vocoders.inference.adapted import adapted_facts
from vocoders.io.audio import AUDIO_SUFFIXES
from vocoders.io.mels import MEL_SUFFIXES, decode_mel

_TRANSFERS = 8  # files read and uploaded at a time
_BATCH_FRAMES = 1 << 15  # frames of a batch of mels

Note = tuple[str, str | None]


@dataclass(frozen=True)
class Result:
    """Result of one input.

    Attributes:
        entry: its line in the manifest.
        seconds: audio made or analysed; 0 for an existing output.
    """

    entry: dict[str, Any]
    seconds: float = 0.0
    notes: tuple[Note, ...] = ()


class CorpusWorker:
    """Process items with one model, as ``Worker`` does jobs."""

    def __init__(self, options: Options, format: str, overwrite: bool, threads: int) -> None:
        """Load the model; ``overwrite`` concerns existing outputs of shards."""
        limit_threads(threads)
        self.worker = Worker(options)
        self.format = format
        self.overwrite = overwrite

    def __call__(self, items: list[Item]) -> list[Result]:
        """Process items; one failure does not stop the others."""
        with tempfile.TemporaryDirectory(prefix="vocoders-") as folder, ThreadPoolExecutor(_TRANSFERS) as transfers:
            group = _Group(self.worker, self.format, Path(folder), transfers)
            files = [item for item in items if not item.is_shard]
            # All are read ahead: groups are small, and stores are slow.
            reads = [transfers.submit(_read, item) for item in files]
            for item, read in zip(files, reads, strict=True):
                group.do(item, read.result)
            for shard in items:
                if shard.is_shard:
                    self._do_shard(shard, group)
            return group.finish()

    def _do_shard(self, shard: Item, group: _Group) -> None:
        """Process the mels and sound files of a shard."""
        try:
            there = set() if self.overwrite else list_outputs(shard.target)
            made: set[str] = set()
            for name, size, read in _members(shard.source):
                place = PurePosixPath(name).with_suffix(f".{self.format}")
                target = storage.join(shard.target, str(place))
                item = Item(f"{shard.source}/{name}", f"{shard.place}/{place}", target, size, target in there)
                if place.is_absolute() or ".." in place.parts:
                    group.fail(item, VocoderError(f"{item.source} has a name that leads out of its folder"))
                elif target in made:
                    group.fail(item, VocoderError(f"{item.source} would become {target}, as one before it does"))
                else:
                    made.add(target)
                    group.do(item, read)
        except (VocoderError, tarfile.TarError, OSError, EOFError) as error:
            group.fail(shard, VocoderError(f"{shard.source} is not a readable tar: {error}"))


class _Group:
    """Items in progress; outputs are described and uploaded while the next are computed."""

    def __init__(self, worker: Worker, format: str, folder: Path, transfers: ThreadPoolExecutor) -> None:
        self.worker = worker
        self.format = format
        self.folder = folder
        self.transfers = transfers
        self.numbers = itertools.count()
        self.results: list[tuple[Item, Future[Result]]] = []
        self.waiting: list[tuple[Item, Job, Source]] = []
        self.notes = worker.notes = _KeptNotes()

    def do(self, item: Item, read: Callable[[], Bytes]) -> None:
        """Process an item that is no shard, or keep its mel for a batch; ``read`` returns its bytes."""
        with self._catching(item):
            job = Job(Path(item.source), self._place(item), self.format, title=item.source)
            if item.exists:
                self._settle(item, job)
            elif job.makes_mel or not self.worker.voc.batching_pays:
                self.worker.do(job, data=read())
                self._settle(item, job)
            else:
                with naming(job):
                    self.waiting.append((item, job, self.worker.read(job, read())))
        if sum(source.mel.shape[1] for _, _, source in self.waiting) > _BATCH_FRAMES:
            self._synthesize_waiting()

    def fail(self, item: Item, error: Exception) -> None:
        """Record a failed item."""
        failed: Future[Result] = Future()
        failed.set_exception(error)
        self.results.append((item, failed))

    def finish(self) -> list[Result]:
        """Process what waits; return all results."""
        self._synthesize_waiting()
        return [self._result(item, future) for item, future in self.results]

    def _result(self, item: Item, future: Future[Result]) -> Result:
        try:
            return future.result()
        except Exception as error:  # a bug with one file must not stop the others
            reason = describe_failure(Job(None, None, self.format, title=item.source), error)
            return Result({"input": item.source, "output": None, "error": reason})

    def _synthesize_waiting(self) -> None:
        """Synthesise the waiting mels in few passes, those of the model's own mel config."""
        waiting, self.waiting = self.waiting, []
        voc, seed = self.worker.voc, self.worker.options.seed
        longest = voc.frames_at_once or _BATCH_FRAMES
        short = [(item, one) for item, _, one in waiting if one.voc is voc and one.mel.shape[1] <= longest]
        ready: dict[str, np.ndarray] = {}
        with suppress(Exception):  # then one by one below, to find the bad input
            inputs = {name: [one.values.get(name) for _, one in short] for _, one in short for name in one.values}
            audio = voc.synthesize_batch([one.mel for _, one in short], seeds=[seed] * len(short), **inputs)
            ready = {item.target: samples for (item, _), samples in zip(short, audio, strict=True)}
        for item, job, one in waiting:
            with self._catching(item), naming(job):
                ahead = item.target in ready
                pieces = [ready[item.target]] if ahead else one.voc.synthesize(one.mel, seed=seed, **one.values)
                self.worker.write_audio(job, one.voc, pieces, one.mel.shape[1])
                self._settle(item, job)

    def _place(self, item: Item) -> Path:
        """Return the local file of an output; those for a URL are uploaded from here."""
        if storage.is_url(item.target):
            return self.folder / f"{next(self.numbers)}.{self.format}"
        path = Path(item.target)
        make_folder(path.parent)
        return path

    def _settle(self, item: Item, job: Job) -> None:
        """Describe and upload an output in a thread."""
        self.results.append((item, self.transfers.submit(self._describe, item, job, self.notes.take())))

    def _describe(self, item: Item, job: Job, notes: tuple[Note, ...]) -> Result:
        assert job.target is not None
        if item.exists and storage.is_url(item.target):
            job.target.write_bytes(storage.read(item.target))
        voc, given = self.worker.voc, self.worker.mel_config
        mel_config = given if given and job.makes_mel else voc.mel_config
        facts = voc.facts
        if given and not job.makes_mel:
            facts = adapted_facts(facts, given, self.worker.options.model_rate)
        samples, rate = _measure(job.target, mel_config, facts)
        if storage.is_url(item.target):
            if not item.exists:
                storage.upload(job.target, item.target)
            job.target.unlink()
        entry = {"input": item.source, "output": item.place, "samples": samples, "sample_rate": rate}
        return Result(entry, 0.0 if item.exists else samples / rate, notes)

    @contextmanager
    def _catching(self, item: Item) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.fail(item, error)


class _KeptNotes(Notes):
    """Notes kept for the process that the user sees."""

    def __init__(self) -> None:
        super().__init__(quiet=False)
        self.kept: list[Note] = []

    def say(self, text: str, once: str | None = None) -> None:
        if (once or text) not in self.said:
            self.said.add(once or text)
            self.kept.append((text, once))

    def take(self) -> tuple[Note, ...]:
        """Return the notes since the last call."""
        kept, self.kept = tuple(self.kept), []
        return kept


def _read(item: Item) -> Bytes:
    """Read an input; nothing where the output exists."""
    if item.exists:
        return b""
    return storage.read(item.source) if storage.is_url(item.source) else map_file(Path(item.source))


def _members(source: str) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Yield name, size and reader of each mel and sound file of a shard."""
    with (
        storage.open_file(source) if storage.is_url(source) else Path(source).open("rb") as file,
        tarfile.open(fileobj=file, mode="r|*") as shard,
    ):
        for member in shard:
            name = member.name.removeprefix("./")
            if member.isfile() and PurePosixPath(name).suffix.lower() in AUDIO_SUFFIXES + MEL_SUFFIXES:
                content = shard.extractfile(member)
                assert content is not None
                yield name, member.size, content.read


def _measure(path: Path, mel_config: MelConfig, facts: Facts) -> tuple[int, int]:
    """Return samples and sample rate of an output; of a mel, those of its audio."""
    if path.suffix in MEL_SUFFIXES:
        mel, _ = decode_mel(map_file(path), str(path))
        return mel.shape[-1] * mel_config.hop_length, mel_config.sample_rate
    if path.suffix == ".raw":
        return path.stat().st_size // (2 * facts.channels), facts.sample_rate
    import soundfile

    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise VocoderError(f"{path} is there, but is no readable sound file ({error}); --overwrite redoes it") from None
    return info.frames, info.samplerate
