"""Servers for the tests: in a thread with a small model, and in a process of their own."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn

from tests.support import models
from vocoders.inference.vocoder import Vocoder
from vocoders.server.app import create_app
from vocoders.server.process import Server
from vocoders.server.registry import Voice, make_voice
from vocoders.server.requests import Limits


def small_voice(generator: str = "hnmask", **changes: Any) -> Voice:
    checkpoint = models.checkpoint(generator)
    if changes:
        checkpoint.generator = models.generator(generator, **changes)
    return make_voice(generator, Vocoder(checkpoint))


class Slow:
    """A vocoder that takes its time, and counts what it was asked for."""

    def __init__(self, vocoder: Vocoder, seconds: float) -> None:
        self.vocoder, self.seconds, self.calls = vocoder, seconds, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.vocoder, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        time.sleep(self.seconds)
        return self.vocoder(*args, **kwargs)


@contextlib.contextmanager
def serving(*voices: Voice, **options: Any) -> Iterator[httpx.Client]:
    """A client of a server in a thread; ``client.app`` is the application."""
    limits = Limits(**options.pop("limits", {}))
    app = create_app({voice.name: voice for voice in voices}, limits=limits, **options)
    config = uvicorn.Config(app, port=0, log_level="critical", ws_max_size=2**20, timeout_graceful_shutdown=2)
    server = Server(config, app.state.server.scheduler, patience=5)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            client.app, client.port, client.scheduler = app, port, app.state.server.scheduler
            yield client
    finally:
        server.should_exit = True
        thread.join()


@contextlib.contextmanager
def process(*arguments: str, cwd: Path, forbidden: Sequence[str] = ()) -> Iterator[tuple[subprocess.Popen, str]]:
    """``vocoders serve`` and its address; ``forbidden`` modules cannot be imported."""
    code = f"import sys; sys.modules |= dict.fromkeys({list(forbidden)}); from vocoders.cli import vocoders; "
    code += "sys.exit(vocoders(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, "serve", *arguments], stderr=subprocess.PIPE, text=True, cwd=cwd
    ) as running:
        assert running.stderr is not None
        line = running.stderr.readline()
        found = re.search(r"http://\S+:\d+", line)
        assert found, line + running.stderr.read()
        try:
            yield running, found[0]
        finally:
            running.kill()


def npy(mel: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, mel)
    return buffer.getvalue()


def metric(client: httpx.Client, name: str) -> float:
    """The value of a metric, labels included in its name."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def eventually(condition: Any, seconds: float = 10.0) -> None:
    """Wait until something is so; fail when it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
