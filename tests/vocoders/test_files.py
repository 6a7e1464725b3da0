"""Files and folders that appear whole or not at all."""

import os
import stat
import threading
from pathlib import Path

import pytest

from vocoders.errors import VocoderError
from vocoders.files import atomic_folder, atomic_write, map_file, read_file, write_file


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"

    def fails() -> None:
        with atomic_write(target) as partial:
            partial.write_text("half")
            assert not target.exists()
            assert partial.suffix == ".txt"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert names(tmp_path) == []
    write_file(target, b"whole")
    assert target.stat().st_mode & 0o777 == 0o666 & ~umask()
    with pytest.raises(RuntimeError):
        fails_over(target)
    assert read_file(target) == b"whole"
    assert names(tmp_path) == ["out.txt"]


def fails_over(target: Path) -> None:
    with atomic_write(target) as partial:
        partial.write_text("half")
        raise RuntimeError


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_file(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_devices_and_pipes_are_written_directly(tmp_path: Path) -> None:
    write_file(Path(os.devnull), b"x")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, b"through")
    reader.join(10)
    assert received == [b"through"]
    assert names(tmp_path) == ["pipe"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match="cannot write .*: it is a folder"):
        write_file(tmp_path, b"")
    with pytest.raises(VocoderError, match="cannot write .*: No such file"):
        write_file(tmp_path / "none" / "file", b"")
    with pytest.raises(VocoderError, match="cannot write .*: File name too long"):
        write_file(tmp_path / ("x" * 300), b"")
    assert names(tmp_path) == []


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "report"

    def fails() -> None:
        with atomic_folder(target) as folder:
            (folder / "a").write_text("half")
            assert not target.exists()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert names(tmp_path) == []
    target.mkdir()  # empty: may be taken
    with atomic_folder(target) as folder:
        (folder / "a").write_text("whole")
    assert names(tmp_path) == ["report", "report/a"]
    assert target.stat().st_mode & 0o777 == 0o777 & ~umask()
    for taken in (target, target / "a"):
        with pytest.raises(VocoderError, match="exists already"), atomic_folder(taken):
            pass
    with pytest.raises(VocoderError, match="cannot write"), atomic_folder(tmp_path / "none" / "report"):
        pass
    assert names(tmp_path) == ["report", "report/a"]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for read in (read_file, map_file):
        with pytest.raises(VocoderError, match="there is no file"):
            read(tmp_path / "none")
        with pytest.raises(VocoderError, match=r"is empty \(0 bytes\)"):
            read(tmp_path / "empty")
        with pytest.raises(VocoderError, match="cannot read .*: Is a directory"):
            read(tmp_path)


def test_changes_to_a_mapped_file_do_not_reach_it(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"abc")
    mapped = map_file(tmp_path / "a")
    assert not isinstance(mapped, bytes)
    mapped[0] = ord("x")
    assert read_file(tmp_path / "a") == b"abc"
