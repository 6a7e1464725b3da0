"""Answer 503 with one sentence in Ray Serve's HTTP proxies when no replica answers.

Loaded by ``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=vocoders.server.proxy:middlewares`` in the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

import uvicorn.config
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CALLBACK = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "vocoders.server.proxy:middlewares"}
"""Environment that loads ``middlewares``."""

_RETRY_AFTER = 5  # seconds until another replica takes over
_GONE = f"the replica that worked on this request has ended; try again in {_RETRY_AFTER} s"
_ABSENT = f"nothing is served here now; try again in {_RETRY_AFTER} s"
_INTERNAL_ERROR = 1011  # close code of RFC 6455, section 7.4.1
# By these a client could set the proxy's limits for its request.
_OVERRIDES = (b"x-request-timeout-seconds", b"x-request-disconnect-disabled")
# The proxy buffers audio, so replicas cannot see a slow client. The default of --timeout.
_SEND_TIMEOUT = 120.0  # seconds


def middlewares() -> list[Middleware]:
    """Return the middlewares; Ray Serve calls it before it configures uvicorn."""
    uvicorn.config.HTTP_PROTOCOLS["auto"] = "vocoders.server.protocol:BoundedProtocol"  # Ray Serve has no option for it
    return [Middleware(ReplicaErrorsMiddleware)]


class ReplicaErrorsMiddleware:
    """Answer for a replica that died or was not found.

    Ray Serve answers 500 or plain text, and breaks off WebSockets.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"].startswith("/-/"):  # the proxy's routes
            await self.app(scope, receive, send)
            return
        answer = _Answer(send)
        headers = [header for header in scope["headers"] if header[0].lower() not in _OVERRIDES]
        await self.app({**scope, "headers": headers}, receive, answer.send)
        if answer.refused or not answer.begun:
            prefix = "websocket.http" if scope["type"] == "websocket" else "http"
            await _refuse(send, prefix, answer.reason or _GONE)
        elif answer.open:
            with contextlib.suppress(OSError, RuntimeError):  # perhaps closed by the client
                await send({"type": "websocket.send", "text": json.dumps({"detail": _GONE})})
                await send({"type": "websocket.close", "code": _INTERNAL_ERROR})


class _Answer:
    """What the proxy has sent for one request.

    Attributes:
        begun: whether the client got anything.
        open: whether a WebSocket is open.
        refused: whether Ray Serve refused, for ``reason``.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = self.open = self.refused = False
        self.reason = ""

    async def send(self, message: Message) -> None:
        """Pass on a message, except a refusal by Ray Serve."""
        kind = message["type"]
        if kind == "http.response.start" and message["status"] >= 400:
            self.refused = dict(message["headers"]).get(b"content-type", b"").startswith(b"text/plain")
            self.reason = _ABSENT if message["status"] == 404 else ""
        if self.refused:
            self.reason = self.reason or message.get("body", b"").decode()
            return
        self.begun = True
        self.open = kind == "websocket.accept" or (self.open and kind != "websocket.close")
        await asyncio.wait_for(self._send(message), _SEND_TIMEOUT)


async def _refuse(send: Send, prefix: str, detail: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"retry-after", str(_RETRY_AFTER).encode())]
    await send({"type": f"{prefix}.response.start", "status": 503, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": json.dumps({"detail": detail}).encode()})
