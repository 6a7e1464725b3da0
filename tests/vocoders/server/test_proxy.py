"""What the proxies of Ray Serve answer when no replica does."""

import asyncio
import json
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vocoders.server.protocol import BoundedProtocol
from vocoders.server.proxy import middlewares

PLAIN, JSON = [(b"content-type", b"text/plain; charset=utf-8")], [(b"content-type", b"application/json")]
ACCEPT: Message = {"type": "websocket.accept"}
GONE = "the replica that worked on this request has ended; try again in 5 s"


def start(status: int, headers: list[tuple[bytes, bytes]], kind: str = "http") -> Message:
    return {"type": f"{kind}.response.start", "status": status, "headers": headers}


def body(content: bytes, kind: str = "http") -> Message:
    return {"type": f"{kind}.response.body", "body": content}


def proxied(
    *messages: Message, type: str = "http", path: str = "/synthesize", seen: list[Scope] | None = None
) -> list[Message]:
    """What the client gets when a proxy sends these messages; ``seen`` takes what the proxy gets."""
    got: list[Message] = []
    headers = [(b"host", b"here"), (b"X-Request-Disconnect-Disabled", b"?1")]

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        if seen is not None:
            seen.append(scope)
        for message in messages:
            await send(message)

    async def send(message: Message) -> None:
        if message.get("text") == "lost":
            raise OSError("the client has closed the connection")
        got.append(message)

    async def run(app: ASGIApp) -> None:
        await app({"type": type, "path": path, "headers": headers}, None, send)  # type: ignore[arg-type]

    (middleware,) = middlewares()
    asyncio.run(run(middleware.cls(proxy, *middleware.args, **middleware.kwargs)))
    return got


def refusal(messages: list[Message]) -> Any:
    begin, content = messages
    headers = dict(begin["headers"])
    assert begin["status"] == 503
    assert headers[b"content-type"] == b"application/json"
    assert int(headers[b"retry-after"]) > 0
    return json.loads(content["body"])["detail"]


def test_answers_of_replicas_pass_as_they_are() -> None:
    for messages in (
        [start(200, []), body(b"audio")],
        [start(200, PLAIN), body(b"metrics")],
        [start(503, JSON), body(b'{"detail": "full"}')],
        [start(200, []), {"type": "http.response.body", "body": b"au", "more_body": True}],  # broken off: so it stays
    ):
        assert proxied(*messages) == messages
    closed = [ACCEPT, {"type": "websocket.send", "text": "{}"}, {"type": "websocket.close", "code": 1000}]
    assert proxied(*closed, type="websocket") == closed
    denied = [start(401, JSON, "websocket.http"), body(b"{}", "websocket.http")]
    assert proxied(*denied, type="websocket") == denied


def test_a_replica_that_dies_is_a_503_with_a_sentence() -> None:
    assert refusal(proxied()) == GONE
    denied = proxied(type="websocket")
    assert denied[0]["type"] == "websocket.http.response.start"
    assert refusal(denied) == GONE
    accepted, text, close = proxied(ACCEPT, type="websocket")
    assert accepted == ACCEPT
    assert json.loads(text["text"]) == {"detail": GONE}
    assert close == {"type": "websocket.close", "code": 1011}


@pytest.mark.parametrize("status", [404, 408, 503])
def test_words_of_ray_serve_become_a_503_with_a_sentence(status: int) -> None:
    detail = refusal(proxied(start(status, PLAIN), body(b"no replica is free")))
    assert detail == ("nothing is served here now; try again in 5 s" if status == 404 else "no replica is free")


def test_a_client_that_has_closed_its_session_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocoders.server.proxy.json.dumps", lambda _: "lost")
    assert proxied(ACCEPT, type="websocket") == [ACCEPT]


def test_clients_set_no_limits_of_the_proxy() -> None:
    seen: list[Scope] = []
    proxied(start(200, []), seen=seen)
    assert seen[0]["headers"] == [(b"host", b"here")]


def test_routes_of_the_proxy_stay_its_own() -> None:
    messages = [start(503, PLAIN), body(b"draining")]
    assert proxied(*messages, path="/-/healthz") == messages


def test_connections_of_proxies_are_bounded_as_those_of_the_plain_server() -> None:
    middlewares()
    config = uvicorn.Config(lambda: None, factory=True)  # as Ray Serve makes it
    config.load()
    assert config.http_protocol_class is BoundedProtocol
