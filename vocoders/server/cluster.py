"""Run the server on a Ray cluster: ``vocoders serve --ray``."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from vocoders.cluster.connection import LOCAL, check_machines, connected, first_line, sentence_of
from vocoders.errors import VocoderError
from vocoders.server.deployment import NAME, build
from vocoders.server.process import announce, bind
from vocoders.server.proxy import CALLBACK
from vocoders.server.settings import Settings


def serve_on_cluster(address: str, settings: Settings, host: str, port: int) -> int:
    """Serve models on a Ray cluster until a signal ends process and application.

    ``address`` as for ``connected``; each machine's proxy listens on ``host`` and ``port`` (0: a free one, on a new
    cluster).
    """
    models = [str(Path(model).resolve()) if Path(model).exists() else model for model in settings.models]
    settings = settings.model_copy(update={"models": models})
    application = build(settings)
    if address == LOCAL:
        with bind(host, port) as listener:  # Ray would raise a traceback for a taken port
            port = listener.getsockname()[1]
    elif not port:
        raise VocoderError("--port 0 finds a free port on this machine alone; name one that is free on the cluster")
    with connected(address):
        check_machines(models or [None], [])
        if NAME in serve.status().applications:
            raise VocoderError("this cluster serves already; end its application first, or take another cluster")
        check_room(settings)
        try:
            handle = _start(application, settings, host, port)
            announce(handle.model_names.remote().result(), host, port, public=settings.token_file is None)
            _wait_for_signal()
        finally:
            with contextlib.suppress(RayServeException):  # Ray Serve did not start
                serve.delete(NAME)  # waits for admitted requests
    return 0


def check_room(settings: Settings) -> None:
    """Check that the replicas fit; Ray Serve would wait silently."""
    free = ray.available_resources()
    for name, each in (("CPU", settings.threads), ("GPU", settings.gpus)):
        needed, there = settings.fewest * each, free.get(name, 0.0)
        if needed > there:
            raise VocoderError(
                f"--replicas {settings.replicas} with {each} {name}s each need {needed}, and {there:g} are free on the "
                f"cluster"
            )


def _start(application: serve.Application, settings: Settings, host: str, port: int) -> DeploymentHandle[Any]:
    """Start proxies and replicas, and wait until they are ready."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    if serve.status().proxies:
        print("vocoders: Ray Serve runs on this cluster already, and its own address and port count", file=sys.stderr)
    http = {"host": host, "port": port, "request_timeout_s": settings.limits.session_timeout}
    try:
        serve.start(http_options=http, controller_options={"runtime_env": {"env_vars": CALLBACK}})
        return serve.run(application, name=NAME, route_prefix="/")
    except (RayError, RayServeException, RuntimeError) as error:
        status = serve.status().applications.get(NAME)
        reasons = [RuntimeError(part.message) for part in status.deployments.values()] if status else []
        sentences = [sentence_of(reason) or first_line(reason) for reason in [*reasons, error] if str(reason)]
        raise VocoderError(f"the replicas do not start: {sentences[0]}") from None


def _wait_for_signal() -> None:
    """Wait for SIGINT or SIGTERM; a second one ends the process at once."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    while not ended.wait(1.0):  # on some systems an endless wait blocks signals
        pass
