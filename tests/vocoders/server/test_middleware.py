"""Each middleware alone, around a small ASGI application."""

import asyncio
from collections.abc import Iterable

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vocoders.server import middleware
from vocoders.server.metrics import Metrics
from vocoders.server.middleware import DrainBodyMiddleware, RequestMetricsMiddleware

START = {"type": "http.response.start", "status": 503, "headers": []}
END = {"type": "http.response.body", "body": b""}


def scope(kind: str = "http", *headers: tuple[bytes, bytes]) -> Scope:
    return {"type": kind, "headers": list(headers)}


def chunks(count: int, size: int = 10) -> list[Message]:
    """The messages of a body."""
    return [{"type": "http.request", "body": bytes(size), "more_body": left > 0} for left in reversed(range(count))]


def call(app: ASGIApp, scope: Scope, messages: Iterable[Message] = ()) -> tuple[list[Message], list[Message]]:
    """The messages that were not received, and those that were sent; a client that has said all stays silent."""
    waiting, sent = list(messages), list[Message]()

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await app(scope, receive, send)

    asyncio.run(run())
    return waiting, sent


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    """Responds without reading the body."""
    await send(START)
    await send(END)


async def reads_one(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await refuses(scope, receive, send)


@pytest.mark.parametrize("app", [refuses, reads_one])
def test_an_unread_body_is_drained_before_the_response(app: ASGIApp) -> None:
    assert call(DrainBodyMiddleware(app), scope(), chunks(5)) == ([], [START, END])


def test_nothing_is_received_after_the_end_of_the_body() -> None:
    later: list[Message] = [{"type": "http.disconnect"}]
    assert call(DrainBodyMiddleware(reads_one), scope(), chunks(1) + later) == (later, [START, END])
    assert call(DrainBodyMiddleware(refuses), scope(), chunks(3) + later) == (later, [START, END])


def test_a_client_that_waits_for_100_continue_is_not_asked_for_its_body() -> None:
    body = chunks(3)
    expecting = scope("http", (b"expect", b"100-continue"))
    assert call(DrainBodyMiddleware(refuses), expecting, list(body)) == (body, [START, END])
    assert call(DrainBodyMiddleware(reads_one), expecting, list(body)) == ([], [START, END])


def test_draining_is_bounded_in_bytes_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_MAX_DRAINED", 25)
    waiting, sent = call(DrainBodyMiddleware(refuses), scope(), chunks(10))
    assert (len(waiting), sent) == (7, [START, END])
    monkeypatch.setattr(middleware, "_CHUNK_TIMEOUT", 0.05)
    assert call(DrainBodyMiddleware(refuses), scope(), chunks(10)[:2]) == ([], [START, END])


def test_other_connections_are_passed_on() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.close"})

    message = {"type": "websocket.connect"}
    for kind in ("websocket", "lifespan"):
        assert call(DrainBodyMiddleware(app), scope(kind), [message]) == ([message], [{"type": "websocket.close"}])


def samples(metrics: Metrics) -> dict[tuple[str, str, str], float]:
    """The counted requests, by metric, route and status."""
    return {
        (sample.name, sample.labels["route"], sample.labels.get("status", "")): sample.value
        for family in metrics.collect()
        for sample in family.samples
        if "route" in sample.labels and "le" not in sample.labels and not sample.name.endswith("_created")
    }


def test_requests_are_counted_with_route_and_status() -> None:
    class Route:
        path = "/synthesize"

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route
        await refuses(scope, receive, send)

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError

    async def accepts(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    metrics = Metrics()
    for app, kind in (
        (routed, "http"),
        (routed, "http"),
        (refuses, "http"),
        (accepts, "websocket"),
        (refuses, "lifespan"),
    ):
        call(RequestMetricsMiddleware(app, metrics), scope(kind))
    with pytest.raises(RuntimeError):
        call(RequestMetricsMiddleware(fails, metrics), scope())
    result = samples(metrics)
    seconds = result.pop(("vocoders_request_duration_seconds_sum", "/synthesize", ""))
    assert seconds > 0
    assert result.pop(("vocoders_request_duration_seconds_sum", "other", "")) > 0
    assert result == {
        ("vocoders_requests_total", "/synthesize", "503"): 2,
        ("vocoders_requests_total", "other", "503"): 1,
        ("vocoders_requests_total", "other", "101"): 1,
        ("vocoders_requests_total", "other", "500"): 1,
        ("vocoders_request_duration_seconds_count", "/synthesize", ""): 2,
        ("vocoders_request_duration_seconds_count", "other", ""): 3,
    }


def test_messages_pass_unchanged() -> None:
    body = chunks(2)
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([await receive(), await receive()])
        await refuses(scope, receive, send)

    assert call(RequestMetricsMiddleware(app, Metrics()), scope(), list(body)) == ([], [START, END])
    assert seen == body
