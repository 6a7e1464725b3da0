"""The server as an application of Ray Serve: replicas on one machine or many.

Each replica is the application of ``create_app``, with its own models, scheduler and limits. A WebSocket stays on its
replica. ``vocoders serve --ray`` runs it, and so does ``serve run vocoders.server.deployment:app``.
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
_METRICS_TIMEOUT = 5.0  # seconds that a replica may take to report its metrics


class ReplicaMetrics(Metrics):
    """The metrics of one replica, which prints those of all, each with its label ``replica``."""

    async def text(self) -> bytes:
        """Return the metrics of all replicas that answer, in the text format of Prometheus."""
        handle = serve.get_deployment_handle(NAME, serve.get_replica_context().app_name)
        answers = handle.broadcast("collect").results_async(timeout_s=_METRICS_TIMEOUT, return_exceptions=True)
        families = dict(answer for answer in await answers if not isinstance(answer, BaseException))
        return merge(families)


@serve.ingress()
class Replica:
    """A replica: the ASGI application with models of its own, and the bearer token that clients must send, if any."""

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
    """Build the application; Ray Serve calls it with the arguments of ``serve run`` or of its config file.

    Args:
        arguments: keys and values of ``Settings``.

    Raises:
        VocoderError: for wrong arguments, or a token that cannot be read.
    """
    return build(bind(Settings, arguments, "arguments of the application"))


def build(settings: Settings) -> serve.Application:
    """Build the application.

    Raises:
        VocoderError: when the token cannot be read.
    """
    token = read_token(settings.token_file) if settings.token_file else None
    deployment = serve.deployment(
        name=NAME,
        **settings.scaling,
        ray_actor_options={"num_cpus": settings.threads, "num_gpus": settings.gpus},
        # The scheduler of the replica refuses what is too much, in its own words: it must see it.
        max_ongoing_requests=2 * settings.max_requests,
        max_queued_requests=settings.max_requests,
        graceful_shutdown_timeout_s=settings.timeout,
    )
    return deployment(Replica).bind(settings, token)
