"""The HTTP side of a request: its body, the client who may go away or fall asleep, and the answer while it is made."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from vocoders.server.requests import Limits, Refused
from vocoders.server.scheduler import Utterance

T = TypeVar("T")
log = logging.getLogger("uvicorn.error")

_PIECE = 1 << 16  # bytes handed to the connection at once


def declared_size(request: Request, limits: Limits) -> int:
    """Bytes of the body as the client says, the most it may have when it does not. Raises Refused, 413."""
    text = request.headers.get("content-length", "")
    size = int(text) if text.isdecimal() else limits.body
    if size > limits.body:
        raise _too_large(limits)
    return size


async def read_body(request: Request, limits: Limits) -> bytes:
    """The whole body. Raises Refused (413, 408), and ClientDisconnect when the client goes before it is there."""

    async def collect() -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limits.body:
                raise _too_large(limits)
        return bytes(body)

    try:
        return await asyncio.wait_for(collect(), limits.patience)
    except asyncio.TimeoutError:
        raise Refused(408, f"the body did not come within {limits.patience:g} s") from None


def _too_large(limits: Limits) -> Refused:
    return Refused(413, f"the body has more than {limits.body} bytes, the most that this server takes")


class Client:
    """Whoever waits for the answer; known to be there until ``receive`` says otherwise. For after the body was read."""

    def __init__(self, receive: Receive) -> None:
        self._gone = asyncio.ensure_future(_disconnect(receive))

    async def waits(self, work: Awaitable[T], seconds: float) -> T:
        """The result of ``work``; cancels it when the client goes (ClientDisconnect) or time is up (TimeoutError)."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ClientDisconnect if self._gone.done() else TimeoutError
        finally:
            task.cancel()

    def leave(self) -> None:
        """Nobody looks any more whether the client is there."""
        self._gone.cancel()


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class AudioResponse(Response):
    """Sends pieces as they come, no faster than the client takes them, and closes the utterance when all is over.

    When the synthesis fails, or the client takes too long, the connection is closed before the body is complete, which
    the client can tell. ``size`` is that of the body in bytes, where it is known.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        size: int | None,
        utterance: Utterance,
        client: Client,
        limits: Limits,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if size is None:
            del self.headers["content-length"]
        else:
            self.headers["content-length"] = str(size)
        self.pieces = pieces
        self.size = size
        self.utterance = utterance
        self.client = client
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        end, sent = time.monotonic() + self.limits.session, 0

        async def in_time(work: Awaitable[T]) -> T:
            return await self.client.waits(work, min(self.limits.patience, max(0.0, end - time.monotonic())))

        async def give(message: Message) -> None:
            await in_time(send(message))

        try:
            await give({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while (piece := await in_time(anext(self.pieces, None))) is not None:
                for begin in range(0, len(piece), _PIECE):
                    part = piece[begin : begin + _PIECE]
                    sent += len(part)
                    if sent == self.size:  # the client may be back before we know that it has all
                        self.utterance.close()
                    await give({"type": "http.response.body", "body": part, "more_body": True})
            self.utterance.close()
            await give({"type": "http.response.body", "body": b""})
        except ClientDisconnect:
            pass
        except TimeoutError:
            log.warning("a client took its audio too slowly; its connection is closed")
        except ValueError as error:  # VocoderError: said to the client only by an incomplete answer
            log.warning("an answer broke off: %s", error)
        finally:
            self.utterance.close()
            self.client.leave()
