"""Work on a real Ray cluster of two nodes, one of which is killed."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recipes.evaluation.cluster import run_on_cluster
from tests.support.commands import HELLO, files
from vocoders.cli.vocode import vocode
from vocoders.cluster import connection
from vocoders.cluster.connection import check_machines
from vocoders.cluster.pool import Pool
from vocoders.errors import VocoderError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")]
ray = pytest.importorskip("ray")

# A node that does not answer for 3 s is dead.
_HEALTH = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes with a core each, which this process has joined; its second node."""
    from ray.cluster_utils import Cluster

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else workers starve beside other tests
    options: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 80 << 20}
    cluster = Cluster(
        initialize_head=True, head_node_args={**options, "include_dashboard": False, "_system_config": _HEALTH}
    )
    try:
        node = cluster.add_node(**options)
        ray.init(cluster.address, log_to_driver=False, logging_level="error")
        yield node
    finally:
        ray.shutdown()
        cluster.shutdown()
        monkeypatch.undo()


def kill_when(there: int, folder: Path, node: Any) -> None:
    """Kill the processes of a node as soon as a folder holds so many files."""
    end = time.monotonic() + 300
    while len(list(folder.glob("[!.]*.wav"))) < there and time.monotonic() < end:
        time.sleep(0.01)
    for kind in node.all_processes.values():
        for started in kind:
            os.kill(started.process.pid, signal.SIGKILL)


def test_machines_that_lack_something(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(*models: str | None, path: Path = tmp_path) -> str:
        with pytest.raises(VocoderError, match=r"the machine .* of the cluster ") as error:
            check_machines(models, [str(path)])
        return str(error.value)

    check_machines([None], [str(tmp_path)])
    assert "does not see" in refusal(None, path=tmp_path / "no")
    monkeypatch.setattr("vocoders.__version__", "9.9")
    assert "this machine 9.9; install the same on both" in refusal(None)
    monkeypatch.undo()
    monkeypatch.setattr(connection, "fingerprint", lambda model: "other")
    assert "has another file of the model hnmask-22k" in refusal(None)
    assert "does not have the model: there is no file /no.onnx" in refusal("/no.onnx")


def test_a_cluster_of_its_own_has_the_priority_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray reads it in the environment when it starts; one that runs already keeps its own."""
    name, begun = "RAY_worker_niceness", list[str | None]()
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: begun.append(os.environ.get(name)))
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    for address in ("local", "auto"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
        with connection.connected(address):
            pass
    assert begun == [str(os.nice(0)), None]


def test_any_function_on_a_pool(cluster: Any) -> None:
    """The results come in the order of the items."""
    assert list(run_on_cluster(abs, [-3, 2, -1], "auto")) == [3, 2, 1]
    assert Pool[int, int](lambda: list).size() == 2
    with pytest.raises(VocoderError, match=r"64 CPU cores and 0 GPUs fits no machine .* the largest has 1 cores"):
        Pool[int, int](lambda: list, threads=64).size()


def test_a_node_dies_and_the_run_resumes(cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is lost or made twice, the files are those of ``vocode`` alone, and a bad file is one line."""
    mel = np.load(HELLO)["mel"]
    mels, alone, out = (tmp_path / name for name in ("mels", "alone", "out"))
    mels.mkdir()
    for number in range(40):
        np.save(mels / f"{number:02}.npy", mel[:, 5 * number : 5 * number + 40 + number])
    assert vocode([str(mels), "-o", str(alone), "-q", "--threads", "1"]) == 0
    (mels / "bad.npy").write_bytes(b"nonsense")
    command = [str(mels), "-o", str(out), "-q", "--ray", "auto"]

    killer = threading.Thread(target=kill_when, args=(4, out, cluster))
    killer.start()
    assert vocode(command) == 1
    killer.join()
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2
    assert "1 of 41 files could not be done" in said
    assert "bad.npy is not a readable .npy file" in said
    manifest = (out / "manifest.jsonl").read_text()
    assert len(manifest.splitlines()) == 41
    made = {path: path.read_bytes() for path in out.glob("[!.]*.wav")}
    assert {path.name: data for path, data in made.items()} == {p.name: p.read_bytes() for p in alone.iterdir()}

    times = {path: path.stat().st_mtime_ns for path in made}
    (out / "manifest.jsonl").unlink()  # as if the first run had been killed
    for number in (3, 30):
        (out / f"{number:02}.wav").unlink()
    assert vocode(command) == 1
    assert (out / "manifest.jsonl").read_text() == manifest
    assert {path for path in made if path.stat().st_mtime_ns != times[path]} == {out / "03.wav", out / "30.wav"}
    assert {path: path.read_bytes() for path in made} == made
    assert {name for name in files(out) if not name.startswith(".vocoders-")} == files(alone) | {"manifest.jsonl"}
