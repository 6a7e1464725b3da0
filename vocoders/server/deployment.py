"""The server as an application of Ray Serve.

Each replica has its own models, scheduler, limits and WebSockets. ``serve run vocoders.server.deployment:app`` starts
it, or ``vocoders serve --ray``.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from prometheus_client import Metric
from ray import serve

from vocoders.config import bind
from vocoders.server.app import load_app
from vocoders.server.metrics import Metrics, merge
from vocoders.server.process import read_token
from vocoders.server.settings import Settings

NAME = "vocoders"
_METRICS_TIMEOUT = 5.0  # seconds per replica


class ReplicaMetrics(Metrics):
    """A replica's metrics, printed with all others by the label ``replica``."""

    async def text(self) -> bytes:
        """Return the metrics of all replicas that answer."""
        handle = serve.get_deployment_handle(NAME, serve.get_replica_context().app_name)
        answers = handle.broadcast("collect").results_async(timeout_s=_METRICS_TIMEOUT, return_exceptions=True)
        families = dict(answer for answer in await answers if not isinstance(answer, BaseException))
        return merge(families)


@serve.ingress()
class Replica:
    """A replica: the ASGI application with its own models."""

    def __init__(self, settings: Settings, token: str | None) -> None:
        self._metrics = ReplicaMetrics()
        self._app = load_app(settings, token, self._metrics)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    def model_names(self) -> list[str]:
        """Return the names of the models, the default first."""
        return list(self._app.state.server.models)

    async def collect(self) -> tuple[str, list[Metric]]:
        """Return the name of this replica and its metrics."""
        return serve.get_replica_context().replica_id.unique_id, self._metrics.collect()


def app(arguments: dict[str, Any]) -> serve.Application:
    """Build the application from ``Settings`` as a dict, for Ray Serve."""
    return build(bind(Settings, arguments, "arguments of the application"))


def build(settings: Settings) -> serve.Application:
    """Build the application of ``settings``."""
    token = read_token(settings.token_file) if settings.token_file else None
    deployment = serve.deployment(
        name=NAME,
        **settings.scaling,
        ray_actor_options={"num_cpus": settings.threads, "num_gpus": settings.gpus},
        # Above the scheduler's limit, which words the refusal.
        max_ongoing_requests=2 * settings.max_requests,
        max_queued_requests=settings.max_requests,
        graceful_shutdown_timeout_s=settings.timeout,
    )
    return deployment(Replica).bind(settings, token)
