"""Replicas on Ray beside the plain server, and one of them killed: python -m recipes.benchmarks.replicas

Clients request some seconds of audio each, again as soon as a response is complete: from ``vocoders serve``, from
``vocoders serve --ray`` in turns, and from the latter again while a replica is killed in the middle. Every response is
compared with the library's audio. Requests on the replica that is killed may get 503 and a sentence; all else counts as
wrong.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from http.client import HTTPConnection

import numpy as np

from recipes.benchmarks import common
from recipes.benchmarks.serving import Load, Work, make_work, run_clients, server
from vocoders.errors import VocoderError
from vocoders.pretrained import load

_CPU = "process_cpu_seconds_total"  # of the processes that synthesise, not of the proxy
_GONE = "the replica that worked on this request has ended"


def metric(port: int, name: str) -> list[float]:
    """Return a metric of the server, or of each replica."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    return [float(value) for value in re.findall(rf"^{name}(?:{{\S*}})? (\S+)", text, re.M)]


def kill_replica() -> None:
    """Kill one of the replicas on this machine.

    Raises:
        VocoderError: when there is none.
    """
    found = subprocess.run(["pgrep", "-f", "ray::ServeReplica"], capture_output=True, encoding="utf-8").stdout.split()
    if not found:
        raise VocoderError("there is no process of a replica on this machine")
    os.kill(int(found[0]), signal.SIGKILL)


def run_and_kill(port: int, work: Work, seconds: float) -> tuple[Load, list[float]]:
    """Run the clients, and kill a replica in the middle; also returns what the replicas had to do then."""
    measured, before = Load(), []

    def kill() -> None:
        before.extend(metric(port, "vocoders_active_requests"))
        kill_replica()

    timer = threading.Timer(seconds / 2, kill)
    timer.start()
    run_clients(port, work, seconds, measured)
    timer.join()
    return measured, before


def report(name: str, measured: Load, cpu_seconds: float | None = None) -> int:
    """Print a row; returns the number of wrong answers."""
    refused = sum(_GONE in text for text in measured.errors)
    wrong = [text for text in measured.errors if _GONE not in text]
    quantiles = (f"{value:.2f}" for value in np.percentile(measured.latencies, [50, 95, 99]))
    each = "" if cpu_seconds is None else f"{cpu_seconds / len(measured.latencies):.2f}"
    common.row(name, len(measured.latencies), f"{measured.rate:.2f}", *quantiles, each, refused, len(wrong))
    for text in sorted(set(wrong)):
        print(f"wrong: {text} ({wrong.count(text)} x)", file=sys.stderr)
    return len(wrong)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("replicas", "Replicas on Ray beside the plain server.")
    common.add_model(parser)
    parser.add_argument("--replicas", default="2", help="as for vocoders serve (default: 2)")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--audio", type=float, default=3.0, metavar="S", help="seconds of audio in a request")
    parser.add_argument("--seconds", type=float, default=60.0, help="duration of each part (default: 60)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        voc = load(options.model) if options.model else load()
        work = make_work(voc, round(options.audio * voc.sample_rate / voc.mel_config.hop_length), options.clients)
        model, wrong = [options.model] if options.model else [], 0
        common.header("system", "requests", "per s", "p50, s", "p95, s", "p99, s", "CPU s each", "503", "wrong")
        plain, replicas, cpu = Load(), Load(), {"plain": 0.0, "replicas": 0.0}
        with server(*model) as one, server(*model, "--ray", "--replicas", options.replicas) as many:
            for _ in range(options.rounds):
                for name, port, measured in (("plain", one, plain), ("replicas", many, replicas)):
                    before = sum(metric(port, _CPU))
                    run_clients(port, work, options.seconds / options.rounds, measured)
                    cpu[name] += sum(metric(port, _CPU)) - before
            killed, active = run_and_kill(many, work, options.seconds)
        wrong += report("server", plain, cpu["plain"])
        wrong += report(f"{options.replicas} replicas", replicas, cpu["replicas"])
        wrong += report(f"{options.replicas} replicas, one of them killed", killed)
        print(f"requests of the replicas when one was killed: {', '.join(f'{count:g}' for count in active)}")
        if wrong:
            raise VocoderError(f"{wrong} answers were wrong")

    return common.status("replicas", benchmark)


if __name__ == "__main__":
    sys.exit(main())
