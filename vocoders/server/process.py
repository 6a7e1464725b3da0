"""The process of the server: port, signals, shutdown."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from vocoders.errors import VocoderError, printable
from vocoders.files import read_file
from vocoders.server.app import load_app
from vocoders.server.protocol import MAX_HEAD, BoundedProtocol
from vocoders.server.scheduler import Scheduler
from vocoders.server.settings import Settings
from vocoders.server.websocket import MAX_MESSAGE

_THREAD_TIMEOUT = 1.0  # seconds


def serve(settings: Settings, host: str, port: int) -> int:
    """Serve models over HTTP and WebSocket until a signal ends the process; return 0.

    Args:
        settings: what to serve.
        host: the address to listen on.
        port: the port; 0 for a free one.

    Raises:
        VocoderError: when a model, the token or the port cannot be used.
    """
    token = read_token(settings.token_file) if settings.token_file else None
    listener = bind(host, port)
    app = load_app(settings, token)
    host, port = listener.getsockname()[:2]
    announce(list(app.state.server.models), host, port, public=token is None)
    # uvicorn logs this for each handshake refused with a status.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "without completing handshake" not in record.getMessage()
    )
    Server(configure(app), app.state.server.scheduler, settings.timeout).run([listener])
    end_threads()
    return 0


def configure(app: FastAPI, **options: Any) -> uvicorn.Config:
    """Return the uvicorn configuration of an application."""
    return uvicorn.Config(
        app,
        **{"log_level": "warning", "timeout_graceful_shutdown": 5, **options},
        access_log=False,
        http=BoundedProtocol,
        h11_max_incomplete_event_size=MAX_HEAD,
        ws_max_size=MAX_MESSAGE,
    )


def end_threads() -> None:
    """Exit with status 0 if a thread still works for a finished request; Python would wait."""
    sys.stderr.flush()
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join(_THREAD_TIMEOUT)
            if thread.is_alive():
                os._exit(0)


class Server(uvicorn.Server):
    """uvicorn server that finishes admitted requests within ``timeout`` s of a signal; a second one ends it at once."""

    def __init__(self, config: uvicorn.Config, scheduler: Scheduler, timeout: float) -> None:
        super().__init__(config)
        self._scheduler = scheduler
        self._timeout = timeout
        self._deadline = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to shut down; at a second signal, end at once."""
        if self._scheduler.closing:
            self.should_exit = self.force_exit = True
        self._scheduler.closing = True
        self._deadline = time.monotonic() + self._timeout

    async def on_tick(self, counter: int) -> bool:
        """Check whether to end, ten times a second."""
        if self._scheduler.closing and (not self._scheduler.active_requests or time.monotonic() > self._deadline):
            self.should_exit = True
        return await super().on_tick(counter)


def announce(models: list[str], host: str, port: int, public: bool) -> None:
    """Print what is served and where, and warn if anyone may use it."""
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(printable(f"vocoders: serving {', '.join(models)} on {address}; Ctrl+C ends"), file=sys.stderr, flush=True)
    if public and not ipaddress.ip_address(host).is_loopback:
        print("vocoders: anyone who reaches this address is served; --token-file asks for a token", file=sys.stderr)


def bind(host: str, port: int) -> socket.socket:
    """Listen on a port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError, TypeError, UnicodeError) as error:  # the last two: invalid host name
        reason = getattr(error, "strerror", None) or error
        raise VocoderError(f"cannot listen on {host}, port {port}: {reason}") from None


def read_token(path: Path) -> str:
    """Read a bearer token from a file."""
    token = read_file(path).decode("ascii", "replace").strip()
    if len(token.split()) != 1 or "\ufffd" in token:
        raise VocoderError(f"{path} must hold one token: letters, digits and signs without spaces")
    return token
