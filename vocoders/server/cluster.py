"""``vocoders serve --ray``: the application of ``deployment.py``, from its start on a Ray cluster to its end."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vocoders.errors import VocoderError
from vocoders.inference.synthesis import BackendName
from vocoders.server.deployment import NAME, Settings, build
from vocoders.server.process import announce, bind
from vocoders.server.proxy import CALLBACK
from vocoders.server.registry import load_models

LOCAL = "local"
_CONNECT_TIMEOUT = 5.0  # seconds; Ray itself tries for minutes


def serve_on_cluster(address: str, settings: Settings, host: str, port: int) -> int:
    """Serve models on a Ray cluster until a signal ends the process, and with it the application.

    Args:
        address: HOST:PORT of the cluster, or "local" for a new one on this machine, which ends with the process.
        settings: what to serve.
        host: the address that the HTTP proxy of each node listens on.
        port: their port; 0 for a free one, on a new cluster.

    Returns:
        The exit status, 0.

    Raises:
        VocoderError: when the cluster cannot be reached, has no room, or lacks the package or a model on a node.
    """
    models = [str(Path(model).resolve()) if Path(model).exists() else model for model in settings.models]
    settings = settings.model_copy(update={"models": models})
    application = build(settings)
    if address == LOCAL:
        with bind(host, port) as listener:  # Ray would say in a traceback that the port is taken
            port = listener.getsockname()[1]
    with _connection(address):
        check_room(settings)
        names = check_nodes(settings)
        try:
            _start(application, settings, host, port)
            announce(names, host, port, public=settings.token_file is None)
            _wait_for_signal()
        finally:
            serve.delete(NAME)  # waits for the requests that are admitted
    return 0


@contextlib.contextmanager
def _connection(address: str) -> Iterator[None]:
    """Join a cluster, or start one.

    Raises:
        VocoderError: when it cannot be reached.
    """
    options = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
        options |= {"include_dashboard": False}
    else:
        _knock(address)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        ray.init(**options)
    except (RayError, OSError, RuntimeError, ValueError) as error:
        raise VocoderError(f"cannot join the Ray cluster at {address}: {_last_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Check that something listens at the address of a cluster.

    Raises:
        VocoderError: when nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise VocoderError(f"the address of a Ray cluster is HOST:PORT, got '{address}'")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise VocoderError(f"no Ray cluster answers at {address}: {error}; 'ray start --head' starts one") from None


def check_room(settings: Settings) -> None:
    """Check that the replicas find room; Ray Serve would wait for it without a word.

    Raises:
        VocoderError: when they do not.
    """
    names = {"num_cpus": "CPU", "num_gpus": "GPU"}
    free = ray.available_resources()
    for option, each in settings.resources.items():
        needed, there = settings.fewest * each, free.get(names[option], 0)
        if needed > there:
            raise VocoderError(
                f"{settings.fewest} replicas need {needed} {names[option]}s, and {there:g} are free on the cluster; "
                f"take fewer --replicas or --threads"
            )


def check_nodes(settings: Settings) -> list[str]:
    """Check that every node that replicas may run on can load the models.

    Returns:
        The names of the models.

    Raises:
        VocoderError: when one cannot.
    """
    load = ray.remote(num_cpus=0, max_retries=0)(_load_names)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= settings.threads]
    strategies = [NodeAffinitySchedulingStrategy(node["NodeID"], soft=False) for node in nodes]
    answers = [load.options(scheduling_strategy=there).remote(settings.models, settings.backend) for there in strategies]
    names: list[str] = []
    for node, answer in zip(nodes, answers, strict=True):
        try:
            names = ray.get(answer)
        except (RayError, RuntimeError, ImportError) as error:
            raise VocoderError(f"the node {node['NodeManagerAddress']} cannot serve: {_last_line(error)}") from None
    return names


def _load_names(models: list[str], backend: BackendName | None) -> list[str]:
    """Load models, on a node; returns their names."""
    return list(load_models(models, backend=backend))


def _start(application: serve.Application, settings: Settings, host: str, port: int) -> None:
    """Start the proxies and the replicas, and wait until they are ready.

    Raises:
        VocoderError: when they do not become ready.
    """
    if serve.status().proxies:
        print("vocoders: Ray Serve runs on this cluster already, and its own address and port count", file=sys.stderr)
    http = {"host": host, "port": port, "request_timeout_s": settings.limits.session_timeout}
    try:
        serve.start(http_options=http, controller_options={"runtime_env": {"env_vars": CALLBACK}})
        serve.run(application, name=NAME, route_prefix="/")
    except (RayError, RayServeException, RuntimeError) as error:
        status = serve.status().applications.get(NAME)
        reasons = [deployment.message for deployment in status.deployments.values()] if status else []
        reason = next(filter(None, reasons), str(error))
        raise VocoderError(f"the replicas do not start: {_last_line(reason)}") from None


def _last_line(error: object) -> str:
    """Return the sentence at the end of a traceback of Ray, without the name of the error's class."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    return re.sub(r"^[\w.]+(Error|Exception): ", "", lines[-1]) if lines else type(error).__name__


def _wait_for_signal() -> None:
    """Wait for SIGINT or SIGTERM; a second one ends the process at once."""
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    while not ended.wait(1.0):  # on some systems a wait without end keeps signals away
        pass
