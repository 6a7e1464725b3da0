"""HTTP: bodies, disconnects, audio responses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from vocoders.server.requests import Limits, RequestError
from vocoders.server.utterance import Utterance

T = TypeVar("T")
log = logging.getLogger("uvicorn.error")

_PART = 1 << 16  # bytes per message to the client
_RESERVED_AT_ONCE = 2**20  # bytes of a body


async def read_body(request: Request, limits: Limits, reserve: Callable[[int], None]) -> bytes:
    """Read the whole body, or raise RequestError 413 or 408, or ClientDisconnect.

    ``reserve`` gets the byte count before bytes are kept; an announced body may never come.
    """

    async def collect() -> bytes:
        body, reserved, announced = bytearray(), 0, request.headers.get("content-length", "")
        most = int(announced) if announced.isdecimal() else limits.max_body
        if most > limits.max_body:
            raise _too_large(limits)
        async for chunk in request.stream():
            size = len(body) + len(chunk)
            if size > limits.max_body:
                raise _too_large(limits)
            if size > reserved:
                reserved = min(most, -(-size // _RESERVED_AT_ONCE) * _RESERVED_AT_ONCE)
                reserve(reserved)
            body += chunk
        return bytes(body)

    try:
        return await asyncio.wait_for(collect(), limits.timeout)
    except TimeoutError:
        raise RequestError(408, f"the body did not arrive within {limits.timeout:g} s") from None


def _too_large(limits: Limits) -> RequestError:
    return RequestError(413, f"the body has more than {limits.max_body} bytes, the limit of this server")


class DisconnectListener:
    """Listen for a client's disconnect, after its body was read."""

    def __init__(self, receive: Receive) -> None:
        self._disconnect = asyncio.ensure_future(_wait_for_disconnect(receive))

    async def wait_for(self, work: Awaitable[T], timeout: float) -> T:
        """Wait for ``work``, cancelled at a disconnect (ClientDisconnect) or after ``timeout`` s (TimeoutError)."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._disconnect}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ClientDisconnect if self._disconnect.done() else TimeoutError
        finally:
            task.cancel()

    def stop(self) -> None:
        self._disconnect.cancel()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class AudioResponse(Response):
    """Send audio or a mel at the client's pace, then close the utterance and stop the listener.

    After an error or timeout the connection closes before the body is complete. ``size`` in bytes, None if
    unknown.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        size: int | None,
        utterance: Utterance,
        listener: DisconnectListener,
        limits: Limits,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if size is None:
            del self.headers["content-length"]
        else:
            self.headers["content-length"] = str(size)
        self._pieces = pieces
        self._size = size
        self._utterance = utterance
        self._listener = listener
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._send_audio(send)
        except ClientDisconnect:
            pass
        except TimeoutError:
            log.warning("a client took its audio too slowly; its connection is closed")
        except ValueError as error:  # the status is sent: break off
            log.warning("a response was broken off: %s", error)
        finally:
            self._utterance.close()
            self._listener.stop()

    async def _send_audio(self, send: Send) -> None:
        deadline, sent = time.monotonic() + self._limits.session_timeout, 0

        async def in_time(work: Awaitable[T]) -> T:
            left = max(0.0, deadline - time.monotonic())
            return await self._listener.wait_for(work, min(self._limits.timeout, left))

        async def send_in_time(message: Message) -> None:
            await in_time(send(message))

        await send_in_time({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while (piece := await in_time(anext(self._pieces, None))) is not None:
            for begin in range(0, len(piece), _PART):
                part = piece[begin : begin + _PART]
                sent += len(part)
                if sent == self._size:  # the client may reuse the connection before this ends
                    self._utterance.close()
                await send_in_time({"type": "http.response.body", "body": part, "more_body": True})
        self._utterance.close()
        await send_in_time({"type": "http.response.body", "body": b""})
