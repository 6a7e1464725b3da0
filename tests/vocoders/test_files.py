"""Files and folders that appear whole or not at all."""

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.support.commands import run_python
from vocoders.errors import VocoderError
from vocoders.files import atomic_folder, atomic_write, check_not_input, map_file, read_file, write_file


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
    with pytest.raises(VocoderError, match=r"cannot write .*: it is a folder"):
        write_file(tmp_path, b"")
    with pytest.raises(VocoderError, match=r"cannot write .*: No such file"):
        write_file(tmp_path / "none" / "file", b"")
    with pytest.raises(VocoderError, match=r"cannot write .*: File name too long"):
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
        with pytest.raises(VocoderError, match=r"cannot read .*: Is a directory"):
            read(tmp_path)


def test_changes_to_a_mapped_file_do_not_reach_it(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"abc")
    mapped = map_file(tmp_path / "a")
    assert not isinstance(mapped, bytes)
    mapped[0] = ord("x")
    assert read_file(tmp_path / "a") == b"abc"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_permissions_of_what_is_replaced_are_kept(tmp_path: Path, mode: int) -> None:
    for name in ("file", "link"):
        (tmp_path / "file").write_text("old")
        (tmp_path / "file").chmod(mode)
        if name == "link":
            (tmp_path / "link").symlink_to("file")
        with atomic_write(tmp_path / name) as partial:
            assert partial.stat().st_mode & 0o077 == 0  # never open to others while it is written
        assert (tmp_path / "file").stat().st_mode & 0o777 == mode
    (tmp_path / "folder").mkdir(mode=mode | 0o100)
    with atomic_folder(tmp_path / "folder"):
        pass
    assert (tmp_path / "folder").stat().st_mode & 0o777 == mode | 0o100


def test_new_files_follow_the_umask_of_the_moment(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "file", b"x")
        with atomic_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_of_what_is_replaced_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    os.chown(tmp_path / "file", 12345, 54321)
    write_file(tmp_path / "file", b"new")
    status = (tmp_path / "file").stat()
    assert (status.st_uid, status.st_gid) == (12345, 54321)


def test_a_file_that_may_not_be_written_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)  # root may write everything
    with pytest.raises(VocoderError, match=r"cannot write .*file: Permission denied"):
        write_file(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_text() == "old"


def test_links_that_lead_in_a_circle_or_nowhere(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(VocoderError, match=r"cannot write .*circle: Too many levels of symbolic links"):
        write_file(tmp_path / "circle", b"x")
    with pytest.raises(VocoderError, match="Too many levels"), atomic_folder(tmp_path / "circle"):
        pass
    (tmp_path / "nowhere").symlink_to("target")
    write_file(tmp_path / "nowhere", b"x")
    assert (tmp_path / "target").read_bytes() == b"x"
    assert names(tmp_path) == ["circle", "nowhere", "target"]


def test_an_open_file_is_written_where_it_stands(tmp_path: Path) -> None:
    """``--json /dev/stdout > file``: to replace the file would lose what else is written to standard output."""
    code = "from pathlib import Path; from vocoders.files import write_file; write_file(Path('/dev/stdout'), b'x')"
    with (tmp_path / "out").open("ab") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
        assert os.fstat(out.fileno()).st_ino == (tmp_path / "out").stat().st_ino


def test_what_is_written_reaches_the_disk_before_its_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def syncs(handle: int) -> None:
        fsync(handle)
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)

    def replaces(self: Path, target: Path) -> Path:
        done.append(f"-> {target.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", syncs)
    monkeypatch.setattr(Path, "replace", replaces)
    with atomic_write(tmp_path / "a.raw") as partial:
        partial.write_bytes(b"x")
    assert done == [partial.name, "-> a.raw"]
    done.clear()
    with atomic_folder(tmp_path / "report") as folder:
        (folder / "below").mkdir()
        (folder / "below" / "b").write_text("x")
    assert done == ["below", "b", folder.name, "-> report", tmp_path.name]


def test_a_disk_that_fails_at_the_end_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")

    def fails(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(VocoderError, match=r"cannot write .*file: No space left on device"):
        write_file(tmp_path / "file", b"new")
    with pytest.raises(VocoderError, match="No space left on device"), atomic_folder(tmp_path / "report"):
        pass
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_what_killed_processes_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    """And what living ones are writing is not."""
    begin = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom vocoders.files import *\nos.chdir(sys.argv[1])\n"
        "file = atomic_write(Path('a.wav')); file.__enter__().write_text('half')\n"
        "folder = atomic_folder(Path('report')); (folder.__enter__() / 'b').write_text('half')\n"
    )
    code = "from vocoders.files import atomic_folder, atomic_write"
    begin = begin.replace("from vocoders.files import *", code)
    kill = [sys.executable, "-c", f"{begin}os.kill(os.getpid(), signal.SIGKILL)", str(tmp_path)]
    assert subprocess.run(kill).returncode == -9
    left = set(tmp_path.iterdir())
    assert len(left) == 2
    wait = [sys.executable, "-c", f"{begin}print(flush=True); sys.stdin.read(1)", str(tmp_path)]
    with subprocess.Popen(wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as living:
        assert living.stdout is not None
        living.stdout.readline()
        half = set(tmp_path.iterdir())
        assert len(half) == 2
        assert not half & left  # its own writing removed the others'
        write = "import sys; from pathlib import Path; from vocoders.files import write_file\n"
        run_python(f"{write}write_file(Path(sys.argv[1]) / 'c', b'whole')", str(tmp_path))
        assert set(tmp_path.iterdir()) == half | {tmp_path / "c"}
        living.communicate(b"x")


def test_an_output_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "soft").symlink_to("a")
    (tmp_path / "hard").hardlink_to(tmp_path / "a")
    for name in ("a", "soft", "hard"):
        with pytest.raises(VocoderError, match="is both input and output"):
            check_not_input(tmp_path / name, None, tmp_path / "a")
    check_not_input(tmp_path / "b", tmp_path / "a", tmp_path / "c")
