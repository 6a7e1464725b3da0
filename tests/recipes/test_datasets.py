"""The datasets' recipes: what prepare.py writes, how it downloads and refuses, and that every recipe trains."""

import functools
import hashlib
import http.server
import importlib
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import models
import pytest
import recipes_corpora
from recipes_corpora import CORPORA, OPTIONS, Expected

from recipes import prepare
from recipes.libritts import prepare as libritts
from recipes.ljspeech import prepare as ljspeech
from recipes.prepare import Archive, download, evenly, fetch, held_out, run, unpack
from recipes.recipe import Recipe, load_recipe
from recipes.train import run_training
from vocoders import VocoderError, load

RECIPES = Path(__file__).parents[2] / "recipes"
FILES = sorted(path for name in CORPORA for path in (RECIPES / name).glob("*.yaml") if path.stem != "data")


def call(name: str, *arguments: object) -> int:
    """The command of a dataset; returns its exit status."""
    module = importlib.import_module(f"recipes.{name}.prepare")
    return int(module.main([*map(str, arguments), *OPTIONS.get(name, [])]))


def lists(folder: Path) -> Expected:
    return {name: set((folder / f"{name}.txt").read_text("utf-8").splitlines()) for name in ("train", "valid", "test")}


@functools.cache
def prepared(name: str, base: Path) -> tuple[Path, Expected]:
    """A corpus with its lists, made once; not to be changed."""
    folder = base / name
    expected = CORPORA[name](folder)
    assert call(name, folder) == 0
    return folder, expected


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("corpora")


@pytest.mark.parametrize("name", CORPORA)
def test_the_lists_are_the_split(name: str, base: Path) -> None:
    folder, expected = prepared(name, base)
    written = lists(folder)
    assert written == expected
    assert all((folder / path).is_file() for paths in written.values() for path in paths)
    assert sum(map(len, written.values())) == len(set().union(*written.values()))


@pytest.mark.parametrize("name", CORPORA)
def test_run_again_it_changes_nothing(name: str, base: Path, capsys: pytest.CaptureFixture) -> None:
    folder, expected = prepared(name, base)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert call(name, folder) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    said = capsys.readouterr().out.splitlines()
    assert [line.endswith("(as before)") for line in said] == [True] * 3
    assert f"{len(expected['test'])} recordings" in said[2]


@pytest.mark.parametrize("name", CORPORA)
def test_what_is_not_there_is_said_in_one_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        assert call(name, folder) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert captured.err.startswith(f"recipes.{name}.prepare: ")
        for part in (f"is not in {folder}, where", "is expected; ", "get it from http"):
            assert part in captured.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", CORPORA)
def test_help(name: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        call(name, "--help")
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert f"python -m recipes.{name}.prepare" in said
    assert "train.txt" in said


@pytest.mark.parametrize("name", CORPORA)
def test_the_readme_names_what_there_is(name: str) -> None:
    text = (RECIPES / name / "README.md").read_text("utf-8")
    assert f"python -m recipes.{name}.prepare" in text
    for path in (RECIPES / name).glob("*.yaml"):
        assert path.stem == "data" or f"`{path.stem}.yaml`" in text, path


def test_unreadable_recordings_are_listed_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    expected = recipes_corpora.jvs(tmp_path)
    noise, empty = sorted(expected["train"])[:2]
    (tmp_path / noise).write_bytes(b"no sound")
    (tmp_path / empty).write_bytes(b"")
    assert call("jvs", tmp_path) == 1
    said = capsys.readouterr().err
    assert noise in said
    assert empty in said
    assert lists(tmp_path) == expected | {"train": expected["train"] - {noise, empty}}


def test_a_list_without_a_readable_recording_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for path in recipes_corpora.jvs(tmp_path)["valid"]:
        (tmp_path / path).write_bytes(b"no sound")
    assert call("jvs", tmp_path) == 2
    assert "has nothing for valid.txt" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.txt"))


def test_a_copy_that_is_not_whole_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipes_corpora.ljspeech(tmp_path)
    assert call("ljspeech", tmp_path) == 0
    assert "note: 8 recordings are here, the published dataset has 13100" in capsys.readouterr().err


def test_a_dataset_whose_own_list_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipes_corpora.opencpop(tmp_path)
    (tmp_path / "Opencpop" / "segments" / "test.txt").unlink()
    assert call("opencpop", tmp_path) == 2
    assert "cannot read Opencpop's own list" in capsys.readouterr().err


def test_the_hundred_and_fifty_that_hifi_gan_holds_out() -> None:
    names = ljspeech.held_out_names()
    assert len(set(names)) == 150
    assert names == sorted(names)
    assert {"LJ001-0028", "LJ010-0293", "LJ050-0269", "LJ050-0278"} <= set(names)


def test_libritts_r_and_parts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    expected = recipes_corpora.libritts(tmp_path, "LibriTTS_R")
    assert libritts.main([str(tmp_path), "--parts", "train-clean-100"]) == 2
    assert "LibriTTS is not in" in capsys.readouterr().err
    parts = ["--parts", "train-clean-100", "train-clean-360"]
    assert libritts.main([str(tmp_path), "--restored", *parts]) == 0
    more = {"LibriTTS_R/train-clean-360/3/4/3_4_000001_000000.wav"}
    assert lists(tmp_path) == expected | {"train": expected["train"] | more}
    assert libritts.main([str(tmp_path), "--restored"]) == 2
    assert "lacks train-other-500" in capsys.readouterr().err


def test_the_second_microphone_of_vctk(tmp_path: Path) -> None:
    from recipes.vctk.prepare import split

    recipes_corpora.vctk(tmp_path)
    found = split(tmp_path / "VCTK-Corpus-0.92", "mic2")
    assert [path.name for paths in found.values() for path in paths] == ["p225_001_mic2.flac"]


def test_splits_by_order() -> None:
    paths = [Path(str(i)) for i in range(6)]
    assert held_out(paths, 2, 1) == {"train": paths[:3], "valid": paths[3:5], "test": paths[5:]}
    with pytest.raises(VocoderError, match="there are 6 recordings, of which 6 would be held out"):
        held_out(paths, 3, 3)
    assert evenly(paths, 3) == [paths[0], paths[2], paths[4]]
    assert evenly(paths, 9) == paths


class Server(http.server.ThreadingHTTPServer):
    """Sends ``content``, and now and then less than it announces."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = b""
        self.cuts: list[int] = []  # bytes after which the next connections break
        self.statuses: list[int] = []  # what the next requests are refused with
        self.knows_ranges = True
        self.asked: list[str | None] = []  # the Range of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers["Range"]
        self.server.asked.append(wanted)
        if self.server.statuses:
            return self.send_error(self.server.statuses.pop(0))
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.knows_ranges else 0
        size = len(self.server.content)
        if start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        end = start + self.server.cuts.pop(0) if self.server.cuts else size
        self.wfile.write(self.server.content[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(prepare.time, "sleep", lambda _: None)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def packed(folder: Path) -> bytes:
    """What is in a folder, as .tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_download_goes_on_where_the_connection_broke(server: Server, tmp_path: Path) -> None:
    server.content, server.cuts = bytes(range(256)) * 40, [3000, 500]
    download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content
    assert server.asked == [None, "bytes=3000-", "bytes=3500-"]


def test_a_later_run_goes_on_as_well(server: Server, tmp_path: Path) -> None:
    server.content, server.cuts, server.statuses = bytes(10000), [3000], []
    archive = Archive(server.url, hashlib.md5(server.content).hexdigest(), "any")

    def refuse(*_: object) -> None:
        server.statuses = [503] * 5

    prepare_sleep = prepare.time.sleep
    try:
        prepare.time.sleep = refuse  # type: ignore[assignment]
        with pytest.raises(VocoderError, match=r"says 503 .*; run again to go on after 3000 bytes"):
            fetch(archive, tmp_path)
    finally:
        prepare.time.sleep = prepare_sleep
    assert [path.name for path in tmp_path.iterdir()] == ["set.tar.gz.partial"]
    server.statuses, server.asked = [], []
    assert fetch(archive, tmp_path).read_bytes() == server.content
    assert server.asked == ["bytes=3000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["set.tar.gz"]


def test_servers_of_other_kinds(server: Server, tmp_path: Path) -> None:
    server.content, partial = b"new content", tmp_path / "file"
    partial.write_bytes(b"old")
    server.knows_ranges = False  # it begins anew
    download(server.url, partial)
    assert partial.read_bytes() == b"new content"
    server.knows_ranges = True  # all is here already
    download(server.url, partial)
    assert partial.read_bytes() == b"new content"
    partial.write_bytes(b"longer than what is sent")  # the file is another one by now
    download(server.url, partial)
    assert partial.read_bytes() == b"new content"
    server.statuses = [404]
    with pytest.raises(VocoderError, match="cannot download http.*: the server says 404 Not Found"):
        download(server.url, tmp_path / "none")
    server.shutdown()
    server.server_close()
    with pytest.raises(VocoderError, match="cannot download http.*refused; run again"):
        download(server.url, tmp_path / "none")


def test_a_wrong_checksum_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.content = b"something else"
    archive = Archive(server.url, sha256(b"the dataset"), "any")
    with pytest.raises(VocoderError, match="does not have the published checksum"):
        fetch(archive, tmp_path)
    assert not list(tmp_path.iterdir())
    by_hand = tmp_path / archive.name
    by_hand.write_bytes(b"something else")
    with pytest.raises(VocoderError, match="does not have the published checksum; delete it"):
        fetch(archive, tmp_path)
    by_hand.write_bytes(b"the dataset")
    assert fetch(archive, tmp_path) == by_hand


def test_download_unpack_and_list(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    expected = recipes_corpora.ljspeech(tmp_path / "source")
    server.content = packed(tmp_path / "source")
    archive = Archive(server.url, sha256(server.content), "wavs")
    corpus = replace(ljspeech.CORPUS, archives=(archive,))
    options = corpus.parser("").parse_args([str(tmp_path / "new" / "place"), "--download"])
    assert run(corpus, ljspeech.split, options) == 0
    assert lists(options.dir) == expected
    assert {path.name for path in options.dir.iterdir()} == {
        *("LJSpeech-1.1", "set.tar.gz", "train.txt", "valid.txt", "test.txt")
    }
    (options.dir / "set.tar.gz").unlink()
    assert run(corpus, ljspeech.split, options) == 0
    assert len(server.asked) == 1
    blocked = tmp_path / "source" / "LJSpeech-1.1" / "wavs" / "LJ001-0001.wav" / "below"
    assert run(corpus, ljspeech.split, corpus.parser("").parse_args([str(blocked), "--download"])) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_parts_come_one_after_the_other(tmp_path: Path) -> None:
    recipes_corpora.libritts(tmp_path / "source")
    target = tmp_path / "target"
    for part in ("train-clean-100", "dev-clean"):
        folder = tmp_path / part / "LibriTTS"
        folder.mkdir(parents=True)
        (folder / "README.txt").write_text(part)
        (tmp_path / "source" / "LibriTTS" / part).rename(folder / part)
        path = target / f"{part}.tar.gz"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(packed(tmp_path / part))
        unpack(path, Archive(path.name, None, f"LibriTTS/{part}"), target)
        path.unlink()
    assert {path.name for path in target.iterdir()} == {"LibriTTS"}
    assert {path.name for path in (target / "LibriTTS").iterdir()} == {"README.txt", "train-clean-100", "dev-clean"}
    assert len(list(target.rglob("*.wav"))) == 4


def test_archives_that_cannot_be_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "set"
    archive = Archive("http://localhost/set", None, "wavs", into="top")
    with zipfile.ZipFile(path, "w") as good:
        good.writestr("wavs/a.wav", b"a" * 1000)
    damaged = path.read_bytes()
    unpack(path, archive, tmp_path / "whole")
    assert (tmp_path / "whole" / "top" / "wavs" / "a.wav").read_bytes() == b"a" * 1000

    path.write_bytes(damaged.replace(b"aaaa", b"abba", 1))
    with pytest.raises(VocoderError, match="cannot unpack .*Bad CRC"):
        unpack(path, archive, tmp_path / "damaged")
    path.write_bytes(b"neither")
    with pytest.raises(VocoderError, match="cannot unpack"):
        unpack(path, archive, tmp_path / "neither")
    with tarfile.open(path, "w") as other:
        other.addfile(tarfile.TarInfo("readme"))
    with pytest.raises(VocoderError, match="does not hold wavs; is it another version"):
        unpack(path, archive, tmp_path / "other")
    with tarfile.open(path, "w") as hostile:
        hostile.addfile(tarfile.TarInfo("../../../outside"))
    with pytest.raises(VocoderError, match="cannot unpack"):
        unpack(path, archive, tmp_path / "hostile")
    assert not list(tmp_path.rglob("outside"))


def test_the_addresses_are_of_the_datasets_own_pages() -> None:
    archives = [archive for name in CORPORA for archive in _archives(name)]
    assert len(archives) == 1 + 2 * 5 + 1 + 1
    for archive in archives:
        assert archive.checksum is None or len(archive.checksum) in (32, 64)
        assert archive.name.endswith((".zip", ".tar.gz", ".tar.bz2"))


def _archives(name: str) -> tuple[Archive, ...]:
    if name == "libritts":
        chosen = [libritts.corpus(restored, list(libritts.TRAIN)) for restored in (False, True)]
        return chosen[0].archives + chosen[1].archives
    module = importlib.import_module(f"recipes.{name}.prepare")
    return tuple(module.CORPUS.archives)


def small(path: Path) -> list[str]:
    """Overrides that make a recipe quick: two steps of small networks, the second of them adversarial."""
    recipe = load_recipe(path)
    assert recipe.generator is not None
    changes = {
        "generator.config": models.fitted(recipe.generator.name, recipe.mel.hop_length),
        "discriminators": {name: models.SMALL_DISCRIMINATORS[name] for name in recipe.discriminators},
        "adversarial.start": min(recipe.adversarial.start, 1),
        "data.workers": 0,
        "train.steps": 2,
        "train.batch_size": 1,
        "train.segment_frames": 10,
        "train.log_every": 1,
        "train.threads": 1,
    }
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_trains(path: Path, base: Path, tmp_path: Path) -> None:
    folder, _ = prepared(path.parent.name, base)
    recipe = load_recipe(path, [*small(path), f"data.dir={folder}"])
    assert recipe.name == f"{path.parent.name}-{path.stem}"
    voc = load(run_training(recipe, tmp_path / "run"))
    assert voc.training["steps"] == 2
    assert voc.mel_spec == recipe.mel


def full(recipe: Recipe) -> None:
    """Lay out what a recipe trains, in its full size, without memory."""
    import torch

    from recipes.adversary import Adversary
    from vocoders.design import build_on_meta

    assert recipe.generator is not None
    build_on_meta(recipe.generator.name, recipe.generator.config, recipe.mel)
    with torch.device("meta"):
        Adversary(recipe)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_fits_in_full_size(path: Path) -> None:
    recipe = load_recipe(path)
    full(recipe)
    own = load_recipe(path).data
    assert (own.dir, own.train, own.valid) == (f"data/{path.parent.name}", "train.txt", "valid.txt")
