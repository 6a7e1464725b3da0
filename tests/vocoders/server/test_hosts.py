"""Which names the server answers to, which pages may use it, and connections that idle or send too much."""

import socket
from collections.abc import Iterator

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support.server import ServerClient, mel, npy, send_raw, serving
from vocoders.server import protocol
from vocoders.server.registry import ServedModel

pytestmark = pytest.mark.filterwarnings("ignore::vocoders.errors.MelWarning")

GOOD = npy(mel(12))


@pytest.fixture(scope="module")
def client(model: ServedModel) -> Iterator[ServerClient]:
    with serving(model, allow_hosts=["tts.example.org", "localhost:3000"]) as client:
        yield client


def status(client: ServerClient, **headers: str) -> int:
    """The status of a request with these headers, of each kind of route the same."""
    statuses = {
        client.post("/synthesize", content=GOOD, headers=headers).status_code,
        client.get("/models", headers=headers).status_code,
        client.get("/", headers=headers).status_code,
    }
    try:
        with connect(f"ws://127.0.0.1:{client.port}/stream", additional_headers=headers):
            statuses.add(200)
    except InvalidStatus as refused:
        statuses.add(refused.response.status_code)
    (only,) = statuses
    return only


def test_pages_of_other_sites(client: ServerClient) -> None:
    own = f"127.0.0.1:{client.port}"
    for origin, expected in {
        f"http://{own}": 200,
        "http://evil.example": 403,
        f"http://evil.example:{client.port}": 403,
        f"http://localhost:{client.port}": 403,  # another site than 127.0.0.1
        "http://127.0.0.1": 403,
        "null": 403,
        "https://tts.example.org": 200,
        "http://localhost:3000": 200,
        "http://localhost:3001": 403,
        "http://tts.example.org.evil.example": 403,
    }.items():
        assert status(client, Origin=origin) == expected, origin
    answer = client.post("/synthesize", content=GOOD, headers={"Origin": "http://evil.example"})
    assert answer.json()["detail"] == (
        "pages of 'http://evil.example' may not use this server: vocoders serve --allow-host evil.example"
    )


def test_names_of_the_server(client: ServerClient) -> None:
    answer = client.get("/models", headers={"Host": "evil.example:8000"})
    assert answer.status_code == 403
    assert answer.json()["detail"] == (
        "this server does not answer to the name 'evil.example:8000': vocoders serve --allow-host evil.example"
    )
    for host, expected in {
        "localhost": 200,
        "LOCALHOST:8000": 200,
        "192.168.1.5:8000": 200,  # no page has the name of an address that is not its own
        "[::1]:8000": 200,
        "tts.example.org": 200,
        "tts.example.org:443": 200,
        "localhost.evil.example": 403,
        "127.0.0.1.evil.example": 403,
        "": 403,
    }.items():
        assert client.get("/models", headers={"Host": host}).status_code == expected, host


def test_all_names_where_that_is_said(model: ServedModel) -> None:
    with serving(model, allow_hosts=["*"]) as client:
        headers = {"Host": "any.example", "Origin": "https://other.example"}
        assert client.post("/synthesize", content=GOOD, headers=headers).status_code == 200


def closed(connection: socket.socket) -> bytes:
    """What the server sends until it closes a connection."""
    received = b""
    while part := connection.recv(2**16):
        received += part
    return received


def test_connections_that_idle(client: ServerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "_HEAD_TIMEOUT", 0.5)
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        assert closed(connection) == b""
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        connection.sendall(b"GET /models HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        assert closed(connection) == b""
    head = "GET /models HTTP/1.1\nHost: 127.0.0.1"
    with send_raw(client, head, b"GET /models HTTP/1.1\r\nX: ") as connection:  # the next request
        assert closed(connection).startswith(b"HTTP/1.1 200 ")
    with connect(f"ws://127.0.0.1:{client.port}/stream") as stream:
        stream.recv()
        with pytest.raises(TimeoutError):  # a stream has its own time
            stream.recv(timeout=1)


def test_long_headers(client: ServerClient) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        connection.sendall(b"GET /models HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        with pytest.raises(ConnectionError):
            connection.sendall((b"X: " + b"a" * 2**16 + b"\r\n") * 1000)
    assert client.get("/models").status_code == 200
