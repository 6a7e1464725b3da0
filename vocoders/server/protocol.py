"""HTTP connections: close idle ones, limit the request head."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_HEAD = 2**14
"""Bytes of request line and headers."""

_HEAD_TIMEOUT = 20.0  # seconds for a whole head
_FLUSH_TIMEOUT = 120.0  # seconds for the rest of a response after closing


class BoundedProtocol(H11Protocol):
    """uvicorn protocol that closes idle connections and limits headers, which httptools does not."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait_for_head()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave the connection to the WebSocket protocol."""
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(_HEAD_TIMEOUT, self._close_unused)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _close_unused(self) -> None:
        cycle: Any = self.cycle  # the latest request
        if cycle is None or cycle.response_complete:
            self.transport.close()
            self._timer = self.loop.call_later(_FLUSH_TIMEOUT, self.transport.abort)
