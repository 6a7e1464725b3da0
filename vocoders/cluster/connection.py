"""Join a Ray cluster and check its machines."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vocoders.errors import VocoderError
from vocoders.extras import require
from vocoders.pretrained import DEFAULT_MODEL, find_pretrained

LOCAL = "local"

_CONNECT_TIMEOUT = 5.0  # seconds; Ray tries for minutes
_PROBE_TIMEOUT = 120.0  # seconds; a busy machine imports the package


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Join a Ray cluster for a block, or start one that ends with it.

    ``address``: HOST:PORT, "auto" for the cluster that runs here, or "local" to start one, protected by the token in
    ~/.ray. Ray sends the token to HOST:PORT only if RAY_AUTH_MODE is "token".
    """
    require("--ray", "ray", "ray", "ray.data")
    import ray

    if ray.is_initialized():
        yield
        return
    if address not in (LOCAL, "auto"):
        _check_reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to Ray's makers
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options["include_dashboard"] = False
        if hasattr(os, "nice"):  # Ray's default, 15, starves workers beside other work
            os.environ.setdefault("RAY_worker_niceness", str(os.nice(0)))
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        try:
            ray.init(**options)
        except (ray.exceptions.RayError, OSError, RuntimeError, ValueError) as error:
            token = "" if address == LOCAL else "; if it asks for a token, set RAY_AUTH_MODE=token"
            raise VocoderError(f"cannot join the Ray cluster at {address}: {first_line(error)}{token}") from None
        stack.callback(ray.shutdown)
        yield


def machines() -> list[dict[str, Any]]:
    """Return each living machine with a CPU, as Ray describes it."""
    import ray

    return [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def fingerprint(model: str | None) -> str:
    """Return the hash of a model file."""
    _, path = find_pretrained(model)
    if not path.is_file():
        raise VocoderError(f"there is no file {path}")
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()


def check_machines(models: Sequence[str | None], paths: Sequence[str]) -> None:
    """Check that every machine has this package and ``models``, and sees ``paths``."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    import vocoders

    version, expected = vocoders.__version__, [fingerprint(model) for model in models]

    # Ray sends a nested function by value: it runs without the package.
    def probe() -> str | None:
        try:
            import vocoders
            from vocoders.cluster.connection import fingerprint
            from vocoders.errors import VocoderError
        except ImportError as error:
            return f"cannot import vocoders ({error}); install version {version} with the extra 'ray' there"
        if vocoders.__version__ != version:
            return f"has vocoders {vocoders.__version__}, this machine {version}; install the same on both"
        for path in paths:
            if not os.path.exists(path):
                return f"does not see {path}; all machines need a shared folder, or give a URL such as s3://"
        for model, known in zip(models, expected, strict=True):
            try:
                found = fingerprint(model)
            except VocoderError as error:
                return f"does not have the model: {error}"
            if found != known:
                return f"has another file of the model {model or DEFAULT_MODEL}; copy the same one to all machines"
        return None

    remote = ray.remote(num_cpus=0, max_retries=1)(probe)
    probes = {
        remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(): node
        for node in machines()
    }
    for answer, node in probes.items():
        name = node["NodeManagerAddress"]
        try:
            problem = ray.get(answer, timeout=_PROBE_TIMEOUT)
        except ray.exceptions.RayError as error:
            raise VocoderError(f"the machine {name} of the cluster does not answer: {first_line(error)}") from None
        if problem:
            raise VocoderError(f"the machine {name} of the cluster {problem}")


def sentence_of(error: BaseException) -> str | None:
    """Return the sentence for the user in a worker's error; None for a bug."""
    if found := re.findall(r"(?:VocoderError|CheckpointError|MelMismatch): (.+)", str(error)):
        return found[-1]
    if missing := re.findall(r"ModuleNotFoundError: (.+)", str(error)):
        return f"a machine of the cluster lacks a package: {missing[-1]}"
    return None


def first_line(error: BaseException) -> str:
    """Return an error's first line, or its class name."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide Ray's output for a block, not this process' standard error.

    Ray prints logs of dead processes to standard output, and its native code writes to file descriptor 2.
    """
    with Path(os.devnull).open("w", encoding="utf-8") as nothing, contextlib.redirect_stdout(nothing):
        stderr = sys.__stderr__
        if stderr is None or sys.stderr is not stderr:
            yield
            return
        kept = os.dup(2)
        with os.fdopen(kept, "w", buffering=1, encoding=stderr.encoding, errors=stderr.errors) as terminal:
            os.dup2(nothing.fileno(), 2)
            try:
                with contextlib.redirect_stderr(terminal):
                    yield
            finally:
                os.dup2(kept, 2)


def _check_reachable(address: str) -> None:
    """Check that something listens at HOST:PORT."""
    import ray

    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise VocoderError(f"the address of a Ray cluster is HOST:PORT, auto or local, got '{address}'")
    if host in ("localhost", "127.0.0.1"):
        host = ray.util.get_node_ip_address()  # as Ray translates it
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VocoderError(f"no Ray cluster answers at {address} ({reason}); 'ray start --head' starts one") from None
