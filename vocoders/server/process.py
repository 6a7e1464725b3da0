"""The process: its port, its models, and how it ends."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import socket
import sys
import time
import warnings
from pathlib import Path
from types import FrameType

import uvicorn

from vocoders.errors import MelWarning, VocoderError
from vocoders.files import read_file
from vocoders.server.app import create_app
from vocoders.server.registry import load_models
from vocoders.server.requests import Limits
from vocoders.server.scheduler import Scheduler

_LARGEST_MESSAGE = 2**20  # bytes of frames in one WebSocket message


def serve(options: argparse.Namespace) -> int:
    """``vocoders serve``: returns when a signal has ended it. Raises VocoderError for what cannot be served."""
    token = _read_token(options.token_file) if options.token_file else None
    listener = _bind(options.host, options.port)
    voices = load_models(options.models, options.device)
    warnings.simplefilter("ignore", MelWarning)  # said to the client
    app = create_app(
        voices,
        places=options.queue,
        # A batch pays where one utterance leaves a device idle; on a CPU it costs more than it saves.
        batch=options.batch or (1 if options.device == "cpu" else 8),
        limits=Limits(options.max_body * 2**20, options.max_seconds, options.timeout),
        token=token,
    )
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(f"vocoders: serving {', '.join(voices)} on {address}; Ctrl+C ends", file=sys.stderr, flush=True)
    if token is None and not ipaddress.ip_address(host).is_loopback:
        print("vocoders: anyone who reaches this address is served; --token-file asks for a token", file=sys.stderr)
    # uvicorn says this of every handshake that is refused with a status and a reason.
    logging.getLogger("uvicorn.error").addFilter(
        lambda record: "without completing handshake" not in record.getMessage()
    )
    config = uvicorn.Config(
        app, access_log=False, log_level="warning", ws_max_size=_LARGEST_MESSAGE, timeout_graceful_shutdown=5
    )
    Server(config, app.state.server.scheduler, options.timeout).run([listener])
    return 0


class Server(uvicorn.Server):
    """Ends when what was admitted is done, or its time is up; at a second signal at once.

    uvicorn's own way would break off WebSockets.
    """

    def __init__(self, config: uvicorn.Config, scheduler: Scheduler, patience: float) -> None:
        super().__init__(config)
        self.scheduler = scheduler
        self.patience = patience
        self.deadline = float("inf")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.scheduler.closing:
            self.should_exit = self.force_exit = True
        self.scheduler.closing = True
        self.deadline = time.monotonic() + self.patience

    async def on_tick(self, counter: int) -> bool:
        if self.scheduler.closing and (not len(self.scheduler) or time.monotonic() > self.deadline):
            self.should_exit = True
        return await super().on_tick(counter)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise VocoderError(f"cannot listen on {host}, port {port}: {reason}") from None


def _read_token(path: Path) -> str:
    token = read_file(path).decode("ascii", "replace").strip()
    if len(token.split()) != 1 or "\ufffd" in token:
        raise VocoderError(f"{path} must hold one token: letters, digits and signs without spaces")
    return token
