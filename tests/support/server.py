"""Servers for the tests: in a thread with a small model, or in their own process."""

from __future__ import annotations

import contextlib
import copy
import io
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import numpy as np
from fastapi import FastAPI

from tests.support import DATA
from vocoders.inference.base import BaseVocoder
from vocoders.inference.stream import Stream
from vocoders.onnx.vocoder import OnnxVocoder
from vocoders.server.app import create_app
from vocoders.server.process import Server, configure
from vocoders.server.registry import ServedModel
from vocoders.server.requests import Limits
from vocoders.server.scheduler import Scheduler

SMALL = DATA / "small.onnx"
"""The default small model, exported by python -m tests.support.small."""


def small_model(generator: str = "hnmask", f0_estimator: bool = True, **changes: Any) -> ServedModel:
    """Make a served model, without torch the exported default; ``changes`` are to the generator's configuration."""
    if find_spec("torch") is None:
        return ServedModel(generator, OnnxVocoder(SMALL))
    from tests.support import models
    from vocoders.inference.vocoder import Vocoder

    checkpoint = models.checkpoint(generator)
    if changes:
        checkpoint.generator = models.generator(generator, **changes)
    if not f0_estimator:
        checkpoint.f0_estimator = None
    return ServedModel(generator, Vocoder(checkpoint))


def changed(vocoder: BaseVocoder, **methods: Callable[..., Any]) -> BaseVocoder:
    """Copy a vocoder with some methods replaced by Mocks, which count calls."""
    copied = copy.copy(vocoder)
    vars(copied).update({name: Mock(side_effect=method) for name, method in methods.items()})
    return copied


def slow(vocoder: BaseVocoder, seconds: float) -> BaseVocoder:
    """Copy a vocoder, with slow synthesis of whole utterances."""

    def synthesize_batch(*args: Any, **kwargs: Any) -> list[np.ndarray]:
        time.sleep(seconds)
        return vocoder.synthesize_batch(*args, **kwargs)

    return changed(vocoder, synthesize_batch=synthesize_batch)


def held(vocoder: BaseVocoder, go: threading.Event) -> BaseVocoder:
    """Copy a vocoder that waits for ``go``: whole utterances, and streams after their first step."""

    def synthesize_batch(*args: Any, **kwargs: Any) -> list[np.ndarray]:
        assert go.wait(300)
        return vocoder.synthesize_batch(*args, **kwargs)

    def open_stream(*args: Any, **kwargs: Any) -> Stream:
        stream = vocoder.open_stream(*args, **kwargs)
        first, push = iter([True]), stream.push

        def held_push(*frames: Any) -> Any:
            assert next(first, False) or go.wait(300)
            return push(*frames)

        vars(stream)["push"] = held_push
        return stream

    return changed(vocoder, synthesize_batch=synthesize_batch, open_stream=open_stream)


def waiting(client: ServerClient) -> int:
    """Count whole utterances that wait for synthesis."""
    return len(client.scheduler._whole)


def calls(vocoder: BaseVocoder) -> int:
    """Count the calls of a ``slow`` vocoder."""
    assert isinstance(vocoder.synthesize_batch, Mock)
    return vocoder.synthesize_batch.call_count


class ServerClient(httpx.Client):
    """A client of a server in a thread.

    Attributes:
        app: the application.
        port: its port.
        scheduler: its scheduler.
    """

    app: FastAPI
    port: int
    scheduler: Scheduler


@contextlib.contextmanager
def serving(*served: ServedModel, **options: Any) -> Iterator[ServerClient]:
    """Run a server in a thread, and make a client of it."""
    limits = Limits(**options.pop("limits", {}))
    app = create_app({model.name: model for model in served}, limits=limits, **options)
    config = configure(app, port=0, log_level="critical", timeout_graceful_shutdown=2)
    server = Server(config, app.state.server.scheduler, timeout=5)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with ServerClient(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
            client.app, client.port, client.scheduler = app, port, app.state.server.scheduler
            yield client
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def process(
    *arguments: str, cwd: Path, forbidden: Sequence[str] = (), first: str = ""
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``vocoders serve`` without ``forbidden`` modules, after the code ``first``; yield process and address."""
    code = f"import runpy, sys; sys.modules |= dict.fromkeys({list(forbidden)})\n{first}\n"
    code += "runpy.run_module('vocoders', run_name='__main__')"
    with subprocess.Popen(
        [sys.executable, "-c", code, "serve", *arguments], stderr=subprocess.PIPE, text=True, cwd=cwd
    ) as running:
        assert running.stderr is not None
        line = running.stderr.readline()
        match = re.search(r"http://\S+:\d+", line)
        assert match, line + running.stderr.read()
        try:
            yield running, match[0]
        finally:
            running.kill()


def mel(frames: int, seed: int = 0) -> np.ndarray:
    """Make a mel (n_mels, frames) for the small models."""
    return np.random.default_rng(seed).normal(-6.5, 1.2, (20, frames)).astype(np.float32)


def npy(mel: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, mel)
    return buffer.getvalue()


def send_raw(client: ServerClient, head: str, body: bytes = b"") -> socket.socket:
    """Open a connection and send ``head`` and ``body``."""
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=20)
    connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
    return connection


def metric(client: httpx.Client, name: str) -> float:
    """Return a metric, labels included in its name."""
    match = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(match[1]) if match else 0.0


def eventually(condition: Callable[[], object], seconds: float = 300.0) -> None:
    """Wait until a condition holds; fail if it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
