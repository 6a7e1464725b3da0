"""The server as an application of Ray Serve: replicas on one machine or many.

Each replica is the application of ``create_app``, with its own models, scheduler and limits. A WebSocket stays on its
replica. ``vocoders serve --ray`` runs it, and so does ``serve run vocoders.server.deployment:app``.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client import Metric
from pydantic import Field, field_validator
from ray import serve

from vocoders.config import Config, bind
from vocoders.errors import MelWarning
from vocoders.inference.synthesis import BackendName
from vocoders.server.app import create_app
from vocoders.server.metrics import Metrics, merge
from vocoders.server.process import read_token
from vocoders.server.registry import load_models
from vocoders.server.requests import Limits
from vocoders.server.scheduler import DEFAULT_BATCH

NAME = "vocoders"
_METRICS_TIMEOUT = 5.0  # seconds that a replica may take to report its metrics


class Settings(Config):
    """What an application serves: the arguments of ``serve run`` and of a Serve config file."""

    models: list[str] = Field([], description="as for vocode -m; default: the built-in model")
    replicas: str = Field("1", description="number of replicas, such as 2, or MIN-MAX, such as 1-4")
    threads: int = Field(1, gt=0, description="CPUs of a replica")
    device: str = Field("cpu", description="the device of the models; a replica on cuda takes one GPU")
    backend: BackendName | None = Field(None, description="what runs a built-in model: onnx or torch")
    token_file: Path | None = Field(None, description="holds the bearer token that clients must send")
    allow_hosts: list[str] = Field([], description="names that requests may be sent to and pages may be of")
    max_requests: int = Field(64, gt=0, description="requests at a time of a replica")
    max_batch: int | None = Field(None, gt=0, description="waiting requests in one batch")
    max_body: int = Field(64, gt=0, description="MiB of a request's body")
    max_seconds: float = Field(600.0, gt=0, description="seconds of audio of a request")
    timeout: float = Field(120.0, gt=0, description="seconds to wait for audio or a client")

    @field_validator("models", "allow_hosts", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("replicas", mode="before")
    @classmethod
    def _range(cls, value: Any) -> str:
        text = str(value)
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        if match is None or not 0 < int(match[1]) <= int(match[2] or match[1]):
            raise ValueError("must be a number, such as 2, or a range, such as 1-4")
        return text

    @property
    def fewest(self) -> int:
        """The number of replicas without requests."""
        return int(self.replicas.partition("-")[0])

    @property
    def limits(self) -> Limits:
        """The limits of one request."""
        return Limits(self.max_body * 2**20, self.max_seconds, self.timeout)

    @property
    def gpus(self) -> int:
        """The number of GPUs of a replica."""
        return int(self.device.startswith("cuda"))

    @property
    def scaling(self) -> dict[str, Any]:
        """Options of the deployment that say how many replicas there are."""
        low, _, high = self.replicas.partition("-")
        if not high:
            return {"num_replicas": int(low)}
        at_once = self.max_batch or (DEFAULT_BATCH if self.gpus else 1)
        target = 2 * at_once  # one batch is computed and the next one waits
        return {
            "autoscaling_config": {
                "min_replicas": int(low),
                "max_replicas": int(high),
                "target_ongoing_requests": target,
            }
        }


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
        models = load_models(settings.models, settings.device, settings.backend)
        warnings.simplefilter("ignore", MelWarning)  # the client gets it as a header
        self._metrics = ReplicaMetrics()
        self._app = create_app(
            models,
            max_requests=settings.max_requests,
            max_batch=settings.max_batch,
            limits=settings.limits,
            token=token,
            allow_hosts=settings.allow_hosts,
            metrics=self._metrics,
        )

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
