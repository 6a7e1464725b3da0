"""A corpus on a Ray cluster, beside one process: python -m recipes.benchmarks.corpus

Clusters of one core for each node run on this machine; ``vocode --ray`` does many short mels on them, ``vocode`` alone
does the same mels with one thread, and then as many processes of it as there are nodes do them side by side without
Ray, in turns, so that other work on the machine affects all alike. All files are compared. Rates and CPU time are those
from the first file to the last, without the start, which is given by itself. CPU time is that of all processes of the
cluster and the driver; other work on the machine changes it little.

Then, on the largest cluster: one node is killed in the middle of a run, a driver is killed and started again, a corpus
larger than the object store is analysed; the driver lists files and hands out empty groups; and sound is encoded. Linux
only: it reads /proc.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from recipes.benchmarks import common
from vocoders.cli.corpus.items import find_items
from vocoders.cluster.connection import connected
from vocoders.cluster.pool import Pool
from vocoders.errors import VocoderError
from vocoders.extras import require
from vocoders.io.audio import encode_audio
from vocoders.io.mels import read_mel

_MEL = Path(__file__).parents[2] / "tests" / "data" / "hello.npz"
_RECORDINGS = Path(__file__).parents[2] / "docs" / "listen"
_STORE = 80 << 20  # bytes of the object store of a node, about the least that Ray takes
_VOCODE = (sys.executable, "-m", "vocoders.cli.vocode")


class Watch:
    """CPU time and memory of the processes below this one, sampled in a thread.

    Attributes:
        cpu: CPU seconds of each process.
        total: time of each sample, and the CPU seconds of all processes until then.
        workers: resident MiB of each worker of a cluster, one value a sample.
    """

    def __init__(self) -> None:
        self.cpu: dict[int, float] = {}
        self.total: list[tuple[float, float]] = []
        self.workers: dict[int, list[float]] = {}
        self._sample()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._thread.join()

    def between(self, begin: float, end: float) -> float:
        """Return the CPU seconds that all processes took between two times."""
        until = np.interp([begin, end], *np.array(self.total).T)
        return float(until[1] - until[0])

    def _watch(self) -> None:
        while not self._stopped.wait(0.25):
            self._sample()

    def _sample(self) -> None:
        parents, stats = {}, {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
                stats[int(folder.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        for pid in stats:
            above = pid
            while above > 1 and above != os.getpid():
                above = parents.get(above, 0)
            if above != os.getpid() or pid == os.getpid():
                continue
            self.cpu[pid] = stats[pid]
            with contextlib.suppress(OSError):
                if b"MapWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
                    self.workers.setdefault(pid, []).append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        self.total.append((time.time(), sum(self.cpu.values())))


def make_mels(folder: Path, count: int, rng: np.random.Generator) -> Path:
    """Write mels of 0.2 to 0.7 s each; returns the folder."""
    mel, _ = read_mel(_MEL.read_bytes(), _MEL.name)
    folder.mkdir(parents=True)
    for number in range(count):
        frames = int(rng.integers(20, 60))
        begin = int(rng.integers(0, mel.shape[1] - frames))
        np.save(folder / f"{number:05}.npy", mel[:, begin : begin + frames])
    return folder


@contextlib.contextmanager
def cluster(nodes: int) -> Iterator[tuple[str, Any]]:
    """Run a cluster of nodes with a core each; yields its address and its last node."""
    from ray.cluster_utils import Cluster

    # Ray's workers are of low priority by itself, which only matters on a busy machine, and there to the comparison.
    os.environ.setdefault("RAY_worker_niceness", str(os.nice(0)))
    options: dict[str, Any] = {"num_cpus": 1, "object_store_memory": _STORE}
    running = Cluster(initialize_head=True, head_node_args={**options, "include_dashboard": False})
    try:
        last = [running.add_node(**options) for _ in range(nodes - 1)]
        yield running.address, last[-1] if last else None
    finally:
        running.shutdown()


def vocode(*arguments: object, expected: int = 0) -> None:
    """Run ``vocode`` in a process of its own.

    Raises:
        VocoderError: when it fails.
    """
    done = subprocess.run([*_VOCODE, *map(str, arguments)], capture_output=True, encoding="utf-8")
    if done.returncode != expected:
        raise VocoderError(f"vocode {' '.join(map(str, arguments))} failed: {done.stderr}")


class Run(NamedTuple):
    """A run of ``vocode`` on many mels.

    Attributes:
        start: seconds to the first file.
        rate: x real time, from the first file to the last.
        start_cpu: CPU seconds of all processes to the first file.
        cpu: CPU seconds for an hour of audio, from the first file to the last.
        growth: memory of a worker at the end, relative to that at half of the run.
    """

    start: float
    rate: float
    start_cpu: float
    cpu: float
    growth: float


def run(*arguments: object) -> Run:
    """Run ``vocode`` into the folder that follows "-o", and measure it."""
    watch, begin = Watch(), time.time()
    vocode(*arguments, "-q")
    watch.stop()
    files = sorted(Path(str(arguments[2])).glob("[0-9]*.wav"), key=lambda path: path.stat().st_mtime)
    first, last = files[0].stat().st_mtime, files[-1].stat().st_mtime
    audio = sum(soundfile.info(str(path)).duration for path in files[1:])
    growth = [sizes[-1] / sizes[len(sizes) // 2] for sizes in watch.workers.values() if len(sizes) > 8]
    return Run(
        start=first - begin,
        rate=audio / (last - first),
        start_cpu=watch.between(begin, first),
        cpu=watch.between(first, last) / audio * 3600,
        growth=max(growth, default=np.nan),
    )


def side_by_side(mels: Path, folder: Path, processes: int) -> float:
    """Run several processes at the same time, each on all the mels; returns their speeds together, x real time."""

    def alone(number: int) -> float:
        return run(mels, "-o", folder / str(number), "--threads", 1).rate

    with ThreadPoolExecutor(processes) as pool:
        return sum(pool.map(alone, range(processes)))


def compare(one: Path, other: Path) -> int:
    """Count the files that differ, or are in one folder only."""
    names = {path.name for folder in (one, other) for path in folder.glob("[0-9]*.wav")}
    return sum(
        not ((one / n).exists() and (other / n).exists() and (one / n).read_bytes() == (other / n).read_bytes())
        for n in names
    )


def measure_speed(work: Path, nodes: int, rounds: int) -> None:
    """Print a row: a cluster of so many nodes beside one process, in turns."""
    singles, clusters, together, wrong = [], [], [], 0
    with cluster(nodes) as (address, _):
        for number in range(rounds):
            mels, alone, out = (work / kind / str(number) for kind in ("mels", "alone", f"nodes-{nodes}"))
            shutil.rmtree(alone, ignore_errors=True)
            singles.append(run(mels, "-o", alone, "--threads", 1))
            clusters.append(run(mels, "-o", out, "--ray", address))
            together.append(side_by_side(mels, work / f"side-by-side-{nodes}" / str(number), nodes))
            wrong += compare(alone, out)
    one, many = (Run(*np.median(runs, axis=0)) for runs in (singles, clusters))
    common.row(
        nodes,
        f"{one.rate:.1f}",
        f"{many.rate:.1f}",
        f"{np.median([b.rate / a.rate for a, b in zip(singles, clusters, strict=True)]):.2f}",
        f"{np.median([rate / a.rate for a, rate in zip(singles, together, strict=True)]):.2f}",
        f"{one.cpu:.0f}",
        f"{many.cpu:.0f}",
        f"{many.start:.0f}",
        f"{many.start_cpu:.0f}",
        f"{many.growth:.2f}",
        wrong,
    )


def kill_node(work: Path, nodes: int) -> None:
    """Kill a node in the middle of a run, and say what became of the run."""
    mels, alone, out = work / "mels" / "0", work / "alone" / "0", work / "node-killed"
    with cluster(nodes) as (address, node):
        running = subprocess.Popen([*_VOCODE, str(mels), "-o", str(out), "-q", "--ray", address])
        there = _wait_for(out, len(list(mels.iterdir())) // 3, running)
        for kind in node.all_processes.values():
            for started in kind:
                os.kill(started.process.pid, signal.SIGKILL)
        status = running.wait()
    lines = [json.loads(line)["input"] for line in (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()]
    print(
        f"a node of {nodes} killed after {there} files: status {status}, {len(lines)} lines of {len(set(lines))} "
        f"inputs, {compare(alone, out)} files differ"
    )


def kill_driver(work: Path, nodes: int) -> None:
    """Kill the driver in the middle of a run, start it again, and say what became of the run."""
    mels, alone, out = work / "mels" / "0", work / "alone" / "0", work / "driver-killed"
    command = [str(mels), "-o", str(out), "-q", "--ray"]
    with cluster(nodes) as (address, _):
        running = subprocess.Popen([*_VOCODE, *command, address])
        _wait_for(out, len(list(mels.iterdir())) // 3, running)
        running.kill()
        running.wait()
        time.sleep(10)  # Ray ends the workers of a driver that has gone
        before = {path: path.stat().st_mtime_ns for path in out.glob("[0-9]*.wav")}
        vocode(*command, address)
    again = sum(path.stat().st_mtime_ns != stamp for path, stamp in before.items())
    lines = len((out / "manifest.jsonl").read_text(encoding="utf-8").splitlines())
    print(
        f"the driver killed after {len(before)} files: the next start made the others, {again} of those again; "
        f"{lines} lines, {compare(alone, out)} files differ"
    )


def small_store(work: Path, nodes: int) -> None:
    """Analyse a corpus larger than the object stores of a cluster, and print what they held at most."""
    folder, size = work / "long", nodes * _STORE
    folder.mkdir()
    noise = (0.1 * np.random.default_rng(0).standard_normal(60 * 22050)).astype(np.float32)
    count = round(1.5 * size / (2 * len(noise)))
    soundfile.write(folder / "0.wav", noise, 22050)
    for number in range(1, count):
        shutil.copy(folder / "0.wav", folder / f"{number}.wav")
    with cluster(nodes) as (address, _):
        running = subprocess.Popen(
            [*_VOCODE, str(folder), "-o", str(work / "long-mels"), "-q", "--ray", address, "--format", "npz"]
        )
        most = spilled = 0.0
        while running.poll() is None:
            time.sleep(2)
            said = subprocess.run(
                [str(Path(sys.executable).parent / "ray"), "memory", "--address", address, "--stats-only"],
                capture_output=True,
                encoding="utf-8",
            ).stdout
            used = re.findall(r"Plasma memory usage (\d+) MiB", said)
            most = max([most, *map(float, used)])
            spilled = max([spilled, *map(float, re.findall(r"Spilled (\d+) MiB", said))])
    made = len(list((work / "long-mels").glob("*.npz")))
    print(
        f"{made} of {count} recordings analysed, {count * 2 * len(noise) / 2**20:.0f} MiB; the object stores of "
        f"{size / 2**20:.0f} MiB held {most:.0f} MiB at most, {spilled:.0f} MiB spilled"
    )


def measure_encoding() -> None:
    """Print what a recording costs to encode."""
    sounds = [soundfile.read(str(path), dtype="float32") for path in sorted(_RECORDINGS.glob("*-recording.flac"))]
    audio, rate = np.concatenate([samples for samples, _ in sounds]), sounds[0][1]
    hours = len(audio) / rate / 3600
    for format in ("wav", "flac", "ogg", "mp3"):
        begin = time.process_time()
        size = len(encode_audio(audio, rate, format))
        print(
            f"{format}: {(time.process_time() - begin) / hours:.1f} CPU s and {size / hours / 1e6:.0f} MB for an hour"
        )


def measure_driver(work: Path) -> None:
    """Print what the driver alone takes: to list a corpus, and to hand out groups on which there is no work."""
    folder, count, groups = work / "many", 100_000, 500
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.npy").touch()
    begin = time.process_time()
    find_items([str(folder)], str(work / "none"), "wav", ())
    listing = time.process_time() - begin
    shutil.rmtree(folder)
    with connected("local"):
        pool = Pool(partial(partial, list))
        list(pool.run([[0]] * groups))  # the first time Ray imports what it needs
        times = [time.perf_counter() for _ in pool.run([[0]] * groups)]
    rate = (groups - 1) / (times[-1] - times[0])
    print(f"the driver takes {listing:.1f} CPU s to list {count} files, and hands out {rate:.0f} empty groups a second")


def _wait_for(folder: Path, count: int, running: subprocess.Popen[bytes]) -> int:
    """Wait until a folder holds so many sound files, and return how many it holds."""
    while running.poll() is None and len(list(folder.glob("[0-9]*.wav"))) < count:
        time.sleep(0.05)
    return len(list(folder.glob("[0-9]*.wav")))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("corpus", "A corpus on a Ray cluster.")
    parser.add_argument("--mels", type=int, default=2000, help="number of mels (default: 2000)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds that they are done in (default: 2)")
    parser.add_argument("--speed-only", action="store_true", help="kill nothing")
    parser.add_argument(
        "--nodes", type=int, nargs="+", default=[1, 2, 4], help="sizes of the clusters (default: 1 2 4)"
    )
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        require("this benchmark", "ray", "ray", "ray.data")
        rng = np.random.default_rng(0)
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            for number in range(options.rounds):
                make_mels(work / "mels" / str(number), options.mels // options.rounds, rng)
            common.header(
                "nodes",
                "one process, x real time",
                "cluster",
                "ratio",
                "ratio of as many processes",
                "CPU s for an hour, one process",
                "cluster",
                "first file, s",
                "CPU s until then",
                "memory, end / half",
                "files that differ",
            )
            for nodes in options.nodes:
                measure_speed(work, nodes, options.rounds)
            if options.speed_only:
                return
            most = max(options.nodes)
            if most > 1:
                kill_node(work, most)
            kill_driver(work, most)
            small_store(work, min(most, 2))
            measure_driver(work)
            measure_encoding()

    return common.status("corpus", benchmark)


if __name__ == "__main__":
    sys.exit(main())
