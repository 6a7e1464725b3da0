"""ASGI middleware of the server."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vocoders.server.metrics import Metrics

_MOST_DISCARDED = 256 * 2**20  # bytes of a body that nobody wants
_DISCARD_SECONDS = 10.0  # in all
_DISCARD_PAUSE = 1.0  # seconds without a byte


class Door:
    """ASGI middleware that every request passes: counts it, and reads what is left of a body before it is answered.

    A connection closed with bytes unread is reset, and the answer, such as a 503, may be lost on its way.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        begin, status, asked, complete = time.perf_counter(), 0, False, False

        async def counted_receive() -> Message:
            nonlocal asked, complete
            asked = True
            message = await receive()
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def counted_send(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
                expecting = not asked and (b"expect", b"100-continue") in scope["headers"]  # it has not sent it yet
                if scope["type"] == "http" and not complete and not expecting:
                    await discard()
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        async def discard() -> None:
            end, read = time.perf_counter() + _DISCARD_SECONDS, 0
            while not complete and read < _MOST_DISCARDED and time.perf_counter() < end:
                try:
                    message = await asyncio.wait_for(counted_receive(), _DISCARD_PAUSE)
                except asyncio.TimeoutError:
                    return
                read += len(message.get("body", b""))

        try:
            await self.app(scope, counted_receive, counted_send)
        except Exception:
            status = status or 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.request(route, status, time.perf_counter() - begin)
