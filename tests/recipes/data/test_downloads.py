"""Downloads: from a server that cuts connections, refuses, or sends something else; and archives of all kinds."""

import hashlib
import http.server
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from recipes.corpora.ljspeech import prepare as ljspeech
from recipes.data.corpora import run
from recipes.data.downloads import Archive, download, fetch, unpack
from tests.support import corpora as recipes_corpora
from tests.support.corpora import lists
from vocoders import VocoderError


class Server(http.server.ThreadingHTTPServer):
    """Sends ``content``, once it has been through ``troubles``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = b""
        self.troubles: list[tuple[str, int]] = []  # of the next requests: ("cut", bytes) or ("refuse", status)
        self.knows_ranges = True
        self.asked: list[str | None] = []  # the Range of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/set.tar.gz"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        requested = self.headers["Range"]
        self.server.asked.append(requested)
        trouble, value = self.server.troubles.pop(0) if self.server.troubles else ("none", 0)
        if trouble == "refuse":
            return self.send_error(value)
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested and self.server.knows_ranges else 0
        size = len(self.server.content)
        if start >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        self.wfile.write(self.server.content[start : start + value if trouble == "cut" else size])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("recipes.data.downloads.time.sleep", lambda _: None)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
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


def test_a_download_resumes_where_the_connection_broke(server: Server, tmp_path: Path) -> None:
    server.content, server.troubles = bytes(range(256)) * 40, [("cut", 3000), ("refuse", 503), ("cut", 500)]
    download(server.url, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == server.content
    assert server.asked == [None, "bytes=3000-", "bytes=3000-", "bytes=3500-"]


def test_a_later_run_resumes_as_well(server: Server, tmp_path: Path) -> None:
    server.content, server.troubles = bytes(10000), [("cut", 3000), *[("refuse", 503)] * 5]
    archive = Archive(server.url, hashlib.md5(server.content).hexdigest(), "any")
    with pytest.raises(VocoderError, match=r"says 503 .*; run again to resume after 3000 bytes"):
        fetch(archive, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["set.tar.gz.partial"]
    server.asked = []
    assert fetch(archive, tmp_path).read_bytes() == server.content
    assert server.asked == ["bytes=3000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["set.tar.gz"]


def test_servers_without_ranges_and_with_other_content(server: Server, tmp_path: Path) -> None:
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
    server.troubles = [("refuse", 404)]
    with pytest.raises(VocoderError, match=r"cannot download http.*: the server says 404 Not Found"):
        download(server.url, tmp_path / "none")
    server.shutdown()
    server.server_close()
    with pytest.raises(VocoderError, match=r"cannot download http.*refused; run again"):
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


def test_download_unpack_and_list(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = recipes_corpora.ljspeech(tmp_path / "source")
    server.content = packed(tmp_path / "source")
    archive = Archive(server.url, sha256(server.content), "wavs")
    corpus = replace(ljspeech.CORPUS, archives=(archive,))
    options = corpus.parser("").parse_args([str(tmp_path / "new" / "place"), "--download"])
    assert run(corpus, ljspeech.split, options) == 0
    assert lists(options.dir) == expected
    assert {path.name for path in options.dir.iterdir()} == {
        "LJSpeech-1.1",
        "set.tar.gz",
        "train.txt",
        "valid.txt",
        "test.txt",
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
    with pytest.raises(VocoderError, match=r"cannot unpack .*Bad CRC"):
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
    assert not any((folder / "outside").exists() for folder in tmp_path.parents)
