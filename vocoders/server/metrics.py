"""What the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)


class Metrics:
    """The figures of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # memory, processor time, open files
        self.requests = Counter("vocoders_requests", "Requests answered", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "vocoders_request_seconds",
            "From first to last byte",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.audio = Counter("vocoders_audio_seconds", "Audio synthesised", registry=self.registry)
        self.busy = Counter("vocoders_synthesis_seconds", "Time the synthesis took", registry=self.registry)
        self.batch = Histogram(
            "vocoders_batch_size", "Utterances in one turn", buckets=(1, 2, 4, 8, 16, 32), registry=self.registry
        )
        self.utterances = Gauge("vocoders_utterances", "Places taken", registry=self.registry)

    def watch(self, utterances: Callable[[], float]) -> None:
        """Where the number of places taken comes from."""
        self.utterances.set_function(utterances)

    def request(self, route: str, status: int, seconds: float) -> None:
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def turn(self, utterances: int, seconds: float, audio_seconds: float) -> None:
        self.batch.observe(utterances)
        self.busy.inc(seconds)
        self.audio.inc(audio_seconds)

    def text(self) -> bytes:
        """In the format that Prometheus reads."""
        return generate_latest(self.registry)
