"""Prometheus metrics of the server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)
_SIZES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The metrics of one server, in its own registry."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)  # memory, processor time, open files
        self.requests = Counter("vocoders_requests", "Requests answered", ["route", "status"], registry=self._registry)
        self._durations = Histogram(
            "vocoders_request_duration_seconds",
            "Seconds from the request to the last byte of the response",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._audio = Counter("vocoders_audio_seconds", "Seconds of audio synthesised", registry=self._registry)
        self._synthesis = Counter("vocoders_synthesis_seconds", "Seconds spent in synthesis", registry=self._registry)
        self._batches = Histogram(
            "vocoders_batch_size", "Utterances synthesised in one batch", buckets=_SIZES, registry=self._registry
        )
        self._active = Gauge("vocoders_active_requests", "Requests being served or waiting", registry=self._registry)

    def set_active_requests(self, count: int) -> None:
        """Set the number of open requests."""
        self._active.set(count)

    def record_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request; ``seconds`` until its last byte."""
        self.requests.labels(route, str(status)).inc()
        self._durations.labels(route).observe(seconds)

    def record_synthesis(self, batch_size: int, seconds: float, audio_seconds: float) -> None:
        """Count a step: utterances, seconds taken, seconds of audio."""
        self._batches.observe(batch_size)
        self._synthesis.inc(seconds)
        self._audio.inc(audio_seconds)

    def collect(self) -> list[Metric]:
        return list(self._registry.collect())

    async def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def merge(replicas: Mapping[str, Iterable[Metric]]) -> bytes:
    """Join the ``Metrics.collect`` of each replica, by name."""
    merged: dict[str, Metric] = {}
    for replica, metrics in replicas.items():
        for metric in metrics:
            joined = merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            joined.samples += [
                sample._replace(labels=sample.labels | {"replica": replica}) for sample in metric.samples
            ]
    return generate_latest(_Collected(list(merged.values())))


class _Collected(Collector):
    """Metrics collected earlier."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics
