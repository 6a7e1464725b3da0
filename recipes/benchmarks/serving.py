"""Speed of the server for many clients, beside that of the library: python -m recipes.benchmarks.serving

Several clients request some seconds of audio each from ``vocoders serve``, again as soon as a response is complete,
with and without batching. The library does the same in a loop. All alternate in short rounds, so that other work on the
machine affects them alike. Every response is compared with the library's audio.

With --memory N instead: resident memory of a server over N short requests of every kind, some of them broken off.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

import numpy as np

from recipes.benchmarks import common
from vocoders.errors import VocoderError
from vocoders.inference.base import BaseVocoder
from vocoders.io.mels import read_mel
from vocoders.pretrained import load

_MEL = Path(__file__).parents[2] / "tests" / "data" / "hello.npz"


@contextlib.contextmanager
def server(*arguments: str) -> Iterator[int]:
    """Run ``vocoders serve`` in a process of its own; yields its port.

    Raises:
        VocoderError: when it does not start.
    """
    command = [sys.executable, "-m", "vocoders", "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", errors="replace") as running:
        assert running.stderr is not None
        line = running.stderr.readline()
        port = re.search(r":(\d+); ", line)
        if port is None:
            raise VocoderError(f"the server did not start: {line}{running.stderr.read()}".strip())
        try:
            yield int(port[1])
        finally:
            running.terminate()


@dataclass
class Load:
    """Measurements of one system.

    Attributes:
        latencies: seconds of each request.
        seconds: duration of all rounds.
        errors: descriptions of wrong responses.
    """

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds

    def cells(self, name: str, audio_seconds: float, library: Load) -> list[object]:
        """Format a row of the table for requests of ``audio_seconds`` seconds of audio."""
        quantiles = np.percentile(self.latencies, [50, 95, 99]) if self.latencies else [np.nan] * 3
        rates = f"{self.rate:.2f}", f"{self.rate * audio_seconds:.1f}", f"{self.rate / library.rate:.2f}"
        return [name, len(self.latencies), *rates, *(f"{value:.2f}" for value in quantiles), len(self.errors)]


@dataclass
class Speed:
    """Measurements of all systems.

    Attributes:
        audio: seconds of audio in a request.
        library: the plain library.
        first_alone: seconds to the first audio of a streamed request, alone.
        servers: measurements of each server by name, and seconds to the first audio beside its clients.
    """

    audio: float
    library: Load
    first_alone: list[float]
    servers: dict[str, tuple[Load, list[float]]]


Work = list[tuple[bytes, np.ndarray]]
"""Body of the request of each client, and the audio to expect, int16."""


def make_work(voc: BaseVocoder, frames: int, count: int) -> Work:
    """Make as many different requests.

    Raises:
        VocoderError: for a model with another number of bands than the mel of this benchmark.
    """
    mel, _ = read_mel(_MEL.read_bytes(), _MEL.name)
    if mel.shape[0] != voc.mel_config.n_mels:
        raise VocoderError(f"the mel of this benchmark has {mel.shape[0]} bands, the model {voc.mel_config.n_mels}")
    mel = np.concatenate([mel] * (2 + frames // mel.shape[1]), axis=1)
    work = []
    for number in range(count):
        clip = np.ascontiguousarray(mel[:, 7 * number : 7 * number + frames])
        buffer = io.BytesIO()
        np.save(buffer, clip)
        work.append((buffer.getvalue(), np.clip(np.round(voc(clip) * 32768), -32768, 32767)))
    return work


def ask(connection: HTTPConnection, body: bytes, expected: np.ndarray) -> str | None:
    """Send one request; returns a description of what is wrong with the response, or None."""
    connection.request("POST", "/synthesize?format=raw", body)
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        return f"status {answer.status}: {data[:200].decode(errors='replace')}"
    audio = np.frombuffer(data, "<i2")
    if len(audio) != len(expected):
        return f"{len(audio)} samples instead of {len(expected)}"
    distance = np.abs(audio - expected).max()
    return f"another audio, by {distance:.0f}" if distance > 1 else None


def run_clients(port: int, work: Work, seconds: float, load: Load) -> None:
    """Run a client for each piece of work, all at the same time, for so many seconds."""
    begin = time.perf_counter()

    def client(body: bytes, expected: np.ndarray) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=300)
        while time.perf_counter() - begin < seconds:
            asked = time.perf_counter()
            try:
                problem = ask(connection, body, expected)
            except OSError as error:
                problem = f"{type(error).__name__}: {error}"
            load.latencies.append(time.perf_counter() - asked)
            if problem:
                load.errors.append(problem)
        connection.close()

    threads = [threading.Thread(target=client, args=piece) for piece in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load.seconds += time.perf_counter() - begin  # until the last response that is counted


def run_library(voc: BaseVocoder, work: Work, seconds: float, load: Load) -> None:
    """Synthesise one mel after the other with the library, for so many seconds."""
    mels = [np.load(io.BytesIO(body)) for body, _ in work]
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        asked = time.perf_counter()
        voc(mels[len(load.latencies) % len(mels)])
        load.latencies.append(time.perf_counter() - asked)
    load.seconds += time.perf_counter() - begin


def first_audio(port: int, body: bytes) -> float:
    """Measure the seconds from a request for streamed audio to the first of it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=300)
    begin = time.perf_counter()
    connection.request("POST", "/synthesize?format=raw&stream=true", body)
    answer = connection.getresponse()
    answer.read(512)
    seconds = time.perf_counter() - begin
    answer.read()
    connection.close()
    return seconds


def memory(port: int, body: bytes, count: int, steps: int = 20) -> list[tuple[int, float]]:
    """Measure the resident memory of a server during requests: whole, streamed, refused, broken off.

    Args:
        port: port of the server.
        body: body of a request.
        count: number of requests; best a multiple of ten times ``steps``, because ten clients request at a time.
        steps: number of measurements.

    Returns:
        (requests so far, MiB).
    """

    def resident() -> float:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/metrics")
        line = re.search(r"^process_resident_memory_bytes (\S+)", connection.getresponse().read().decode(), re.M)
        if line is None:
            raise VocoderError("prometheus_client does not know the memory of a process on this system")
        return float(line[1]) / 2**20

    def client(share: int) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=300)
        for number in range(share):
            kind = ("?format=wav", "?format=flac&stream=true", "?format=raw", "?format=flac", "bad", "gone")[number % 6]
            if kind == "gone":
                other = HTTPConnection("127.0.0.1", port)
                other.request("POST", "/synthesize?stream=true", body)
                other.close()
            else:
                connection.request(
                    "POST", "/synthesize" + kind.removeprefix("bad"), body[: -4 * (kind == "bad") or None]
                )
                answer = connection.getresponse()
                answer.read()
                assert answer.status == (400 if kind == "bad" else 200), answer.status
        connection.close()

    measured = [(0, resident())]
    share = max(1, count // steps // 10)
    for step in range(1, steps + 1):
        threads = [threading.Thread(target=client, args=(share,)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        measured.append((10 * share * step, resident()))
    return measured


def measure_speed(
    model: str | None, clients: int, audio: float, seconds: float, rounds: int, sizes: list[int]
) -> Speed:
    """Measure the library, and servers with batches of ``sizes``, in turns.

    Args:
        model: as for ``load``.
        clients: number of clients at a time.
        audio: seconds of audio in a request.
        seconds: duration of all rounds of a system.
        rounds: number of rounds.
        sizes: sizes of batches, with one server for each.
    """
    voc = load(model) if model else load()
    frames = round(audio * voc.sample_rate / voc.mel_config.hop_length)
    work = make_work(voc, frames, clients)
    speed = Speed(frames * voc.mel_config.hop_length / voc.sample_rate, Load(), [], {})
    with contextlib.ExitStack() as stack:
        ports = {}
        for size in sizes:
            options = ["--max-requests", str(clients + 1), "--max-batch", str(size)]
            name = f"server, batch {size}"
            ports[name] = stack.enter_context(server(*([model] if model else []), *options))
            speed.servers[name] = (Load(), [])
            run_clients(ports[name], work[:2], 0.0, Load())  # warms up
        for _ in range(rounds):
            run_library(voc, work, seconds / rounds, speed.library)
            speed.first_alone.append(first_audio(next(iter(ports.values())), work[0][0]))
            for name, port in ports.items():
                load_, first = speed.servers[name]

                def listen(port: int = port, first: list[float] = first) -> None:
                    first.append(first_audio(port, work[0][0]))

                listener = threading.Timer(1.0, listen)
                listener.start()
                run_clients(port, work, seconds / rounds, load_)
                listener.join()
    return speed


def report(speed: Speed, clients: int, rounds: int) -> None:
    """Print the measurements."""
    print(f"{clients} clients, {speed.audio:.2f} s of audio each; {rounds} rounds")
    shares = "per s", "x real time", "of the library"
    common.header("system", "requests", *shares, "p50, s", "p95, s", "p99, s", "wrong")
    common.row(*speed.library.cells("library in a loop", speed.audio, speed.library))
    for name, (load_, _) in speed.servers.items():
        common.row(*load_.cells(name, speed.audio, speed.library))
    print(f"first audio of a streamed request, alone: {statistics.median(speed.first_alone):.2f} s")
    for name, (_, first) in speed.servers.items():
        print(f"beside {clients} clients, {name}: {statistics.median(first):.2f} s")
    errors = [text for load_, _ in speed.servers.values() for text in load_.errors]
    for text in sorted(set(errors)):
        print(f"wrong: {text} ({errors.count(text)} x)", file=sys.stderr)
    if errors:
        raise VocoderError(f"{len(errors)} answers were wrong")


def report_memory(model: str | None, count: int) -> None:
    """Print the memory of a server over ``count`` requests."""
    body = make_work(load(model) if model else load(), 20, 1)[0][0]
    with server(*([model] if model else [])) as port:
        measured = memory(port, body, count)
    common.header("requests", "MiB")
    for requests, size in measured:
        common.row(requests, f"{size:.0f}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("serving", "Speed of the server.")
    common.add_model(parser)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--audio", type=float, default=3.0, metavar="S", help="seconds of audio in a request")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of all rounds of a system (default: 60)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[1, 4, 8], help="batch sizes to compare (default: 1 4 8)"
    )
    parser.add_argument("--memory", type=int, metavar="N", help="measure memory over N requests instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all latencies to this file")
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        if options.memory:
            return report_memory(options.model, options.memory)
        rounds = options.rounds
        speed = measure_speed(options.model, options.clients, options.audio, options.seconds, rounds, options.batch)
        if options.json:
            loads = {"library": speed.library} | {name: load_ for name, (load_, _) in speed.servers.items()}
            options.json.write_text(json.dumps({name: vars(load_) for name, load_ in loads.items()}), encoding="utf-8")
        report(speed, options.clients, rounds)

    return common.status("serving", benchmark)


if __name__ == "__main__":
    sys.exit(main())
