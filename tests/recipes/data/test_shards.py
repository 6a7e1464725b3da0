"""Shards: segments follow from seed and number alone, ranks read their own, and a run resumes as in a folder."""

import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from recipes.data.clips import Clip
from recipes.data.config import DataRecipe
from recipes.data.shards import ShardDataset, read_shard
from recipes.train import main
from recipes.training.batches import build_dataset, find_recordings, load_batches
from recipes.training.distributed import DistributedContext
from recipes.training.loop import run_training
from recipes.training.recipe import load_recipe
from recipes.training.run import start_run
from recipes.training.schema import Recipe
from tests.support import corpus, signals
from tests.support.interrupted import run_and_die
from vocoders import MelConfig, VocoderError

pytest.importorskip("webdataset")

MEL_CONFIG = MelConfig(**corpus.MEL_CONFIG)
SHARDS = 5


def add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    shard.addfile(entry, io.BytesIO(content))


def flac(audio: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, audio, 16000, format="FLAC")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five shards of three recordings each; recording n of shard s is a constant that tells which it is."""
    folder = tmp_path_factory.mktemp("shards")
    for number in range(SHARDS):
        with tarfile.open(folder / f"{number}.tar", "w") as shard:
            for clip in range(3):
                audio = 0.2 * signals.voice(16000, 0.4, f0=100 + 40 * clip) + 0.1 * (number + 1)
                add(shard, f"clips/{clip}.flac", flac(audio))
                add(shard, f"clips/{clip}.json", b"{}")
    return folder


@contextmanager
def dataset(folder: Path, at_once: int = 2, each: int = 6, seed: int = 0, size: int = 4) -> Iterator[ShardDataset]:
    """A dataset that is closed at the end: its threads would read on in the tests that follow."""
    urls = [str(folder / f"{number}.tar") for number in range(SHARDS)]
    data = DataRecipe(dir=".", shards=urls, shards_at_once=at_once, segments_per_shard=each)
    with closing(ShardDataset(urls, data, MEL_CONFIG, 20, seed, size, None)) as opened:
        yield opened


def shard_of(item: dict[str, torch.Tensor]) -> int:
    """The shard that a segment is from, by its level."""
    return round(float(item["audio"].mean()) / 0.1) - 1


def first_of(folder: Path, segments: range, seed: int = 0) -> list[torch.Tensor]:
    with dataset(folder, seed=seed) as opened:
        return [opened[i]["audio"] for i in segments]


def test_a_segment_follows_from_seed_and_number(folder: Path) -> None:
    alone = [first_of(folder, range(i, i + 1))[0] for i in range(40)]
    for start in (0, 7, 29, 39):  # a run that resumes there
        assert torch.equal(torch.stack(alone[start:]), torch.stack(first_of(folder, range(start, 40))))
    other = first_of(folder, range(4), seed=1)
    assert not all(torch.equal(alone[i], other[i]) for i in range(4))


def test_an_epoch_has_every_shard_once_and_ranks_their_own(folder: Path) -> None:
    size, at_once, each = 4, 2, 6
    epochs = 2
    segments = epochs * SHARDS * each  # ten visits, five by each half of the batch
    visits: dict[tuple[int, int], list[int]] = {}
    with dataset(folder) as shards:
        for i in range(segments):
            visits.setdefault(shards.place(i), []).append(shard_of(shards[i]))
    assert all(len(set(drawn)) == 1 and len(drawn) == each for drawn in visits.values())
    order = [visits[part, visit][0] for visit in range(epochs * SHARDS // at_once) for part in range(at_once)]
    assert sorted(order[:SHARDS]) == sorted(order[SHARDS:]) == list(range(SHARDS))
    assert order[:SHARDS] != order[SHARDS:]
    halves = [{shards.place(i)[0] for i in range(segments) if i % size // 2 == rank} for rank in (0, 1)]
    assert halves == [{0}, {1}]


def test_a_closed_dataset_reads_no_further(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does that of a run that has ended."""
    from recipes.data import shards as module

    def read(url: str) -> list[Clip]:
        time.sleep(0.05)
        return read_shard(url)

    def at_work() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("shards")]

    monkeypatch.setattr(module, "read_shard", read)
    with dataset(folder) as opened:
        opened[0]
        assert at_work()
    assert not at_work()
    run_training(recipe(tmp_path, f"{folder}/{{0..4}}.tar"), tmp_path / "run", minutes=0)
    assert not at_work()


def _noting(opened: list[str], url: str) -> list[Clip]:
    opened.append(url)
    return read_shard(url)


def test_a_rank_reads_no_shard_of_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first ten steps, each rank opens only the shards of its half of the batches, and one ahead."""
    from recipes.data import shards as module

    for rank in (0, 1):
        opened: list[str] = []
        monkeypatch.setattr(module, "read_shard", partial(_noting, opened))
        with dataset(folder) as one:
            for step in range(6):
                for item in (2 * rank, 2 * rank + 1):
                    one[4 * step + item]
            assert one._threads is not None
            one._threads.shutdown()  # once it has read ahead
        assert sorted(opened) == sorted(one.url(rank, visit) for visit in range(3))  # two threads read


def recipe(folder: Path, shards: str, *settings: str) -> Recipe:
    """The recipe of the tests on these shards."""
    fixed = {"dir": ".", "train": "null", "valid": "null", "segments_per_shard": 4, "shards_at_once": 2}
    data = [f"data.{key}={value}" for key, value in fixed.items()]
    return load_recipe(corpus.recipe(folder, folder), [*data, f"data.shards={shards}", *settings])


def test_a_resumed_run_is_the_unbroken_one_to_the_bit(folder: Path, tmp_path: Path) -> None:
    settings = recipe(tmp_path, f"{folder}/{{0..4}}.tar", "data.workers=1")
    run_training(settings, tmp_path / "whole")

    run_and_die(settings, tmp_path / "broken", step=5)
    run_training(settings, tmp_path / "broken")
    whole, broken = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(whole[key], broken[key]) for key in whole)


def test_ranks_and_microbatches_share_the_same_batches(folder: Path, tmp_path: Path) -> None:
    settings = recipe(tmp_path, f"{folder}/{{0..4}}.tar", "train.batch_size=4")

    def batches(rank: int, world_size: int) -> list[torch.Tensor]:
        run = start_run(settings, tmp_path / "run")
        run.distributed = DistributedContext(rank, world_size)
        run.task.uses_f0 = False  # its barrier would wait for the other rank
        data = build_dataset(run, find_recordings(settings), tmp_path)
        return [torch.cat([part["audio"] for part in batch]) for batch in load_batches(run, data)]

    whole, first, second = batches(0, 1), batches(0, 2), batches(1, 2)
    for one, a, b in zip(whole, first, second, strict=True):
        assert torch.equal(one, torch.cat([a, b]))


def test_shards_come_by_url_with_their_labels(folder: Path, tmp_path: Path) -> None:
    """From a web server; F0 labels are computed once and kept in the folder of the run."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{{0..2}}.tar"
        settings = recipe(tmp_path, url, "train.steps=2")
        run_training(settings, tmp_path / "run")
        run = start_run(settings, tmp_path / "other")
        data = build_dataset(run, find_recordings(settings), tmp_path / "run" / "cache")
        assert isinstance(data, ShardDataset)
        with closing(data):
            f0 = torch.cat([data[i]["f0"].flatten() for i in range(8)])
        server.shutdown()
    assert len(list((tmp_path / "run" / "cache").glob("f0-*.npz"))) == 2  # the third is validated on
    assert ((f0 > 90) & (f0 < 190)).float().mean() > 0.5


def test_a_shard_that_vanishes_ends_training_with_one_sentence(folder: Path, tmp_path: Path) -> None:
    for number in (0, 1):
        (tmp_path / f"{number}.tar").write_bytes((folder / f"{number}.tar").read_bytes())
    settings = recipe(tmp_path, f"{tmp_path}/{{0..1}}.tar", "data.workers=1")
    run = start_run(settings, tmp_path / "run")
    data = build_dataset(run, find_recordings(settings), tmp_path / "cache")
    (tmp_path / "0.tar").unlink()
    with pytest.raises(VocoderError, match=rf"^there is no shard {tmp_path}/0\.tar$"):
        list(load_batches(run, data))


def truncated(path: Path, good: Path) -> None:
    path.write_bytes(good.read_bytes()[:3000])


def empty(path: Path, good: Path) -> None:
    with tarfile.open(path, "w") as shard:
        add(shard, "a.txt", b"text")


def damaged(path: Path, good: Path) -> None:
    with tarfile.open(path, "w") as shard:
        add(shard, "clips/b.flac", b"no sound")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda path, good: None, "there is no shard {url}"),
        (lambda path, good: path.write_bytes(b"no tar at all"), "cannot read the shard {url}: "),
        (truncated, "cannot read the shard {url}: unexpected end of data"),
        (empty, "the shard {url} holds no recording that can be read"),
        (damaged, "the shard {url} holds no recording that can be read: clips/b.flac (Format not recognised)"),
    ],
    ids=["missing", "no tar", "truncated", "empty", "damaged"],
)
def test_a_bad_shard_is_named_in_one_sentence(
    spoil: Callable[[Path, Path], None],
    sentence: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bad.tar"
    spoil(path, folder / "0.tar")
    with pytest.raises(VocoderError) as error:
        read_shard(str(path))
    assert str(error.value).startswith(sentence.format(url=path))
    data = f'["{path}", "{folder}/0.tar"]'
    corpus.recipe(tmp_path, folder, generator={"name": "wavehax"}, losses={"mel": 1.0})
    arguments = [f"data.shards={data}", "data.train=null", "data.valid=null", "data.workers=1"]
    command = [argument for value in arguments for argument in ("--set", value)]
    assert main([str(tmp_path / "tiny.yaml"), *command, "--out", str(tmp_path / "run"), "--device", "cpu"]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"recipes.train: {sentence.format(url=path)}")


def test_a_bad_member_is_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(tmp_path / "some.tar", "w") as shard:
        add(shard, "a.flac", b"no sound")
        add(shard, "b.c.wav", flac(signals.noise(16000, 0.3)))
    (clip,) = read_shard(str(tmp_path / "some.tar"))
    assert (clip.path.name, clip.samples) == ("b.c.wav", 4800)
    expected = f"left out 1 recordings of {tmp_path}/some.tar that cannot be read: a.flac (Format not recognised)\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["train.batch_size=3"], "data.shards_at_once = 2 must be a multiple of the 1 ranks times"),
        (["train.batch_size=8", "train.accumulate=4"], "times train.accumulate = 4, and train.batch_size = 8 a"),
        (
            ["data.train=list.txt"],
            "'shards' take the place of 'train' and have no 'mels' or 'inputs': set them to null",
        ),
        (["data.shards=one.tar"], "data.shards names one shard, one.tar, and the last one is kept for validation"),
    ],
)
def test_settings_that_do_not_fit(settings: list[str], sentence: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match=sentence.replace("(", r"\(")):
        run_training(recipe(tmp_path, f"{folder}/{{0..4}}.tar", *settings), tmp_path / "run")
