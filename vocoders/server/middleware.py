"""ASGI middlewares."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vocoders.server.metrics import Metrics

# Limits for unread bodies.
_MAX_DRAINED = 256 * 2**20  # bytes
_DRAIN_TIMEOUT = 10.0  # seconds
_CHUNK_TIMEOUT = 1.0  # seconds without a byte


class RequestMetricsMiddleware:
    """Count requests and WebSockets by route and status, with their duration."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 0

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        try:
            await self.app(scope, receive, send_and_note_status)
        except Exception:
            status = status or 500
            raise
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.record_request(route, status, time.perf_counter() - begin)


class DrainBodyMiddleware:
    """Read and drop the rest of a body before the response, within limits.

    Otherwise a reset of the connection may lose the response, such as a 503.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = complete = False  # reading the body
        expects_continue = (b"expect", b"100-continue") in scope["headers"]

        async def receive_and_note_end() -> Message:
            nonlocal begun, complete
            begun = True
            message = await receive()
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def drain() -> None:
            deadline, drained = time.perf_counter() + _DRAIN_TIMEOUT, 0
            while not complete and drained < _MAX_DRAINED and time.perf_counter() < deadline:
                try:
                    message = await asyncio.wait_for(receive_and_note_end(), _CHUNK_TIMEOUT)
                except TimeoutError:
                    return
                drained += len(message.get("body", b""))

        async def drain_and_send(message: Message) -> None:
            # A client that expects "100 Continue" has not sent its body.
            if message["type"] == "http.response.start" and not complete and (begun or not expects_continue):
                await drain()
            await send(message)

        await self.app(scope, receive_and_note_end, drain_and_send)
