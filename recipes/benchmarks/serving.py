"""How much of a model's speed arrives at the clients of its server: python -m recipes.benchmarks.serving

So many clients ask ``vocoders serve`` for so many seconds of audio each, the next one as soon as the last one is there,
with and without batching; and the plain library does the same in a loop. All take turns in short rounds, so that
whatever else the machine does hits them alike. Every answer is compared with the library's audio.

With --memory N instead: resident memory of a server over N short requests of every kind, some of which break off.
"""

from __future__ import annotations

import argparse
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
from typing import Any

import numpy as np

from vocoders.errors import VocoderError
from vocoders.io.mels import read_mel
from vocoders.pretrained import load

_MEL = Path(__file__).parents[2] / "tests" / "data" / "hello.npz"


@contextlib.contextmanager
def server(*arguments: str) -> Iterator[int]:
    """``vocoders serve`` in a process of its own; its port."""
    command = [sys.executable, "-m", "vocoders", "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        line = running.stderr.readline()
        found = re.search(r":(\d+); ", line)
        if found is None:
            raise VocoderError(f"the server did not start: {line}{running.stderr.read()}".strip())
        try:
            yield int(found[1])
        finally:
            running.terminate()


@dataclass
class Load:
    """What one system did: seconds of each request, those of all rounds, and what went wrong."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds

    def row(self, name: str, audio_seconds: float, library: Load) -> str:
        quantiles = np.percentile(self.latencies, [50, 95, 99]) if self.latencies else [np.nan] * 3
        cells = [name, len(self.latencies), f"{self.rate:.2f}", f"{self.rate * audio_seconds:.1f}"]
        cells += [f"{self.rate / library.rate:.2f}", *(f"{value:.2f}" for value in quantiles), len(self.wrong)]
        return "| " + " | ".join(map(str, cells)) + " |"


def clips(voc: Any, frames: int, count: int) -> list[tuple[bytes, np.ndarray]]:
    """Bodies of as many different requests, and the audio to expect, int16."""
    mel, _ = read_mel(_MEL.read_bytes(), _MEL.name)
    if mel.shape[0] != voc.mel_config.n_mels:
        raise VocoderError(f"the mel of this benchmark has {mel.shape[0]} mels, the model {voc.mel_config.n_mels}")
    mel = np.concatenate([mel] * (2 + frames // mel.shape[1]), axis=1)
    found = []
    for number in range(count):
        clip = np.ascontiguousarray(mel[:, 7 * number : 7 * number + frames])
        buffer = io.BytesIO()
        np.save(buffer, clip)
        found.append((buffer.getvalue(), np.clip(np.round(voc(clip) * 32768), -32768, 32767)))
    return found


def ask(connection: HTTPConnection, body: bytes, expected: np.ndarray) -> str | None:
    """One request; what is wrong with the answer."""
    connection.request("POST", "/synthesize?format=raw", body)
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        return f"status {answer.status}"
    audio = np.frombuffer(data, "<i2")
    if len(audio) != len(expected):
        return f"{len(audio)} samples instead of {len(expected)}"
    distance = np.abs(audio - expected).max()
    return f"another audio, by {distance:.0f}" if distance > 1 else None


def press(port: int, work: list[tuple[bytes, np.ndarray]], seconds: float, into: Load) -> None:
    """A client for each piece of work, all at the same time, for so long."""
    begin = time.perf_counter()

    def client(body: bytes, expected: np.ndarray) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=300)
        while time.perf_counter() - begin < seconds:
            asked = time.perf_counter()
            try:
                wrong = ask(connection, body, expected)
            except OSError as error:
                wrong = f"{type(error).__name__}: {error}"
            into.latencies.append(time.perf_counter() - asked)
            if wrong:
                into.wrong.append(wrong)
        connection.close()

    threads = [threading.Thread(target=client, args=piece) for piece in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    into.seconds += time.perf_counter() - begin  # until the last answer: none is counted that is not there


def loop(voc: Any, work: list[tuple[bytes, np.ndarray]], seconds: float, into: Load) -> None:
    """The library, one mel after the other, for so long."""
    mels = [np.load(io.BytesIO(body)) for body, _ in work]
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        asked = time.perf_counter()
        voc(mels[len(into.latencies) % len(mels)])
        into.latencies.append(time.perf_counter() - asked)
    into.seconds += time.perf_counter() - begin


def first_audio(port: int, body: bytes) -> float:
    """Seconds from a request for streamed audio to the first of it."""
    connection = HTTPConnection("127.0.0.1", port, timeout=300)
    begin = time.perf_counter()
    connection.request("POST", "/synthesize?format=raw&stream=true", body)
    answer = connection.getresponse()
    answer.read(512)
    found = time.perf_counter() - begin
    answer.read()
    connection.close()
    return found


def memory(port: int, body: bytes, count: int, steps: int = 20) -> list[tuple[int, float]]:
    """(requests, MiB resident) on the way through ``count`` requests: whole, streamed, refused, broken off.

    ``count`` is best a multiple of ten times ``steps``: ten clients ask at a time.
    """

    def resident() -> float:
        connection = HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/metrics")
        found = re.search(r"^process_resident_memory_bytes (\S+)", connection.getresponse().read().decode(), re.M)
        assert found is not None
        return float(found[1]) / 2**20

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

    found = [(0, resident())]
    share = max(1, count // steps // 10)
    for step in range(1, steps + 1):
        threads = [threading.Thread(target=client, args=(share,)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found.append((10 * share * step, resident()))
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.benchmarks.serving", description="Speed of the server.")
    parser.add_argument("model", nargs="?", help="as for vocode -m (default: the built-in voice)")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--audio", type=float, default=3.0, metavar="S", help="seconds of audio in a request")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="that each system works, in all rounds (default: 60)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 8], help="sizes to compare (default: 1 4 8)")
    parser.add_argument("--memory", type=int, metavar="N", help="memory over N requests instead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all latencies as well")
    options = parser.parse_args(arguments)
    try:
        return _memory(options) if options.memory else _speed(options)
    except VocoderError as error:
        print(f"serving: {error}", file=sys.stderr)
        return 2


def _memory(options: argparse.Namespace) -> int:
    voc = load(options.model)
    body = clips(voc, 20, 1)[0][0]
    with server(*([options.model] if options.model else [])) as port:
        found = memory(port, body, options.memory)
    print("| requests | MiB |\n|---|---|")
    for count, size in found:
        print(f"| {count} | {size:.0f} |")
    return 0


def _speed(options: argparse.Namespace) -> int:
    voc = load(options.model)
    frames = round(options.audio * voc.mel_config.sample_rate / voc.mel_config.hop_length)
    work = clips(voc, frames, options.clients)
    audio = frames * voc.mel_config.hop_length / voc.mel_config.sample_rate
    library = Load()
    systems = {f"server, batch {size}": Load() for size in options.batch}
    alone: list[float] = []  # first audio
    beside: dict[str, list[float]] = {name: [] for name in systems}
    with contextlib.ExitStack() as stack:
        model = [options.model] if options.model else []
        limit = str(options.clients + 1)
        ports = [
            stack.enter_context(server(*model, "--max-requests", limit, "--max-batch", str(size)))
            for size in options.batch
        ]
        for port in ports:
            press(port, work[:2], 0.0, Load())
        for _ in range(options.rounds):
            loop(voc, work, options.seconds / options.rounds, library)
            alone.append(first_audio(ports[0], work[0][0]))
            for port, (name, into) in zip(ports, systems.items(), strict=True):

                def listen(port: int = port, into: list[float] = beside[name]) -> None:
                    into.append(first_audio(port, work[0][0]))

                listener = threading.Timer(1.0, listen)
                listener.start()
                press(port, work, options.seconds / options.rounds, into)
                listener.join()
    print(f"{options.clients} clients, {audio:.2f} s of audio each; {options.rounds} rounds")
    print("| system | requests | per s | x real time | of the library | p50, s | p95, s | p99, s | wrong |")
    print("|---|---|---|---|---|---|---|---|---|")
    print(library.row("library in a loop", audio, library))
    for name, load_ in systems.items():
        print(load_.row(name, audio, library))
    print(f"first audio of a streamed request, alone: {statistics.median(alone):.2f} s")
    for name, found in beside.items():
        print(f"beside {options.clients} clients, {name}: {statistics.median(found):.2f} s")
    wrong = [text for load_ in systems.values() for text in load_.wrong]
    for text in sorted(set(wrong)):
        print(f"wrong: {text} ({wrong.count(text)} x)", file=sys.stderr)
    if options.json:
        figures: dict[str, Any] = {name: vars(load_) for name, load_ in {"library": library, **systems}.items()}
        options.json.write_text(json.dumps(figures))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
