"""What the server does when clients are slow or disconnect, when too much is asked of it, and when a model fails."""

import contextlib
import io
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support.server import calls, changed, eventually, held, mel, metric, npy, send_raw, serving, slow, waiting
from vocoders.errors import VocoderError
from vocoders.inference.stream import Stream
from vocoders.server.registry import ServedModel

pytestmark = pytest.mark.filterwarnings("ignore::vocoders.errors.MelWarning")

GOOD = npy(mel(12))


def test_a_body_that_never_ends(model: ServedModel) -> None:
    head = "POST /synthesize HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 1000"
    with serving(model) as client:
        connection = send_raw(client, head, GOOD[:100])
        eventually(lambda: client.scheduler.active_requests == 1)
        connection.close()
        eventually(lambda: client.scheduler.active_requests == 0, seconds=60)  # at once, not after the timeout
    with serving(model, limits={"timeout": 0.5}) as client:
        with send_raw(client, head, GOOD[:100]) as connection:  # this one stays and sends no more
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        with send_raw(client, head) as connection:
            for _ in range(6):  # this one sends a byte every 0.1 s
                time.sleep(0.1)
                connection.sendall(b"x")
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        eventually(lambda: client.scheduler.active_requests == 0)
    with serving(model) as client:
        for garbage in (
            b"\x00" * 100,
            b"POST /synthesize HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
                connection.sendall(garbage)
                assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert client.post("/synthesize", content=GOOD).status_code == 200


@pytest.mark.slow
def test_ten_minutes(model: ServedModel) -> None:
    """It is served, and other requests do not wait for it."""
    frames = 600 * 8000 // 32
    with serving(model, limits={"timeout": 600.0}) as client, ThreadPoolExecutor(1) as pool:
        body = npy(np.tile(mel(1000), 150).astype(np.float16))
        long = pool.submit(client.post, "/synthesize?format=raw", content=body)
        eventually(lambda: metric(client, "vocoders_synthesis_seconds_total") > 0)
        for _ in range(3):
            assert client.post("/synthesize", content=GOOD).status_code == 200
            assert not long.done()
        assert len(long.result().content) == 2 * frames * 32
        assert client.post("/synthesize", content=npy(np.zeros((20, frames + 1), np.float16))).status_code == 413


def test_a_slow_client(model: ServedModel) -> None:
    """A client that reads nothing does not hold up others, and is disconnected after the timeout."""
    with serving(model, limits={"timeout": 3.0}) as client:
        body = npy(np.tile(mel(1000), 100))
        head = f"POST /synthesize?stream=true HTTP/1.1\nHost: 127.0.0.1\nContent-Length: {len(body)}"
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", client.port))
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        eventually(lambda: metric(client, "vocoders_audio_seconds_total") > 1)
        assert client.post("/synthesize", content=GOOD).status_code == 200
        eventually(lambda: client.scheduler.active_requests == 0)  # after the timeout
        assert metric(client, "vocoders_audio_seconds_total") < 300  # of 400: it stopped
        received = b""
        while data := connection.recv(2**20):
            received += data
        connection.close()
        assert not received.endswith(b"0\r\n\r\n")  # the end of a whole answer
        with connect(f"ws://127.0.0.1:{client.port}/stream") as idle, pytest.raises(ConnectionClosed):
            list(iter(idle.recv, None))
        assert idle.protocol.close_code == 1008


def test_a_stream_that_lasts_too_long(model: ServedModel) -> None:
    with serving(model, limits={"max_seconds": 0.5, "timeout": 0.5}) as client:
        begin = time.monotonic()
        with connect(f"ws://127.0.0.1:{client.port}/stream") as stream, contextlib.suppress(ConnectionClosed):
            while time.monotonic() < begin + 60:
                stream.send(mel(1).T.astype("<f4").tobytes())
                time.sleep(0.1)
        assert 1 <= time.monotonic() - begin < 60
        assert stream.protocol.close_code == 1008
        eventually(lambda: client.scheduler.active_requests == 0)


def test_a_client_that_disconnects_in_mid_stream(model: ServedModel) -> None:
    with serving(model) as client:

        def stands_still() -> bool:
            before = metric(client, "vocoders_audio_seconds_total")
            time.sleep(0.3)
            return metric(client, "vocoders_audio_seconds_total") == before

        def stops() -> None:
            eventually(lambda: client.scheduler.active_requests == 0)
            eventually(stands_still, seconds=2)  # a step may be running; all of the audio would take longer
            assert client.post("/synthesize", content=GOOD).status_code == 200

        body = npy(np.tile(mel(1000), 100))
        with client.stream("POST", "/synthesize?stream=true", content=body) as answer:
            next(answer.iter_raw())
        stops()
        head = f"POST /synthesize HTTP/1.1\nHost: 127.0.0.1\nContent-Length: {len(body)}"  # waits for all of it
        connection = send_raw(client, head, body)
        started = metric(client, "vocoders_audio_seconds_total")
        eventually(lambda: metric(client, "vocoders_audio_seconds_total") > started)
        connection.close()
        stops()
        assert metric(client, "vocoders_audio_seconds_total") < started + 300  # of 400
        with connect(f"ws://127.0.0.1:{client.port}/stream") as stream:
            stream.send(mel(100).T.astype("<f4").tobytes())
            stream.recv()
            stream.recv()
            stream.socket.shutdown(socket.SHUT_RDWR)
        stops()


def test_a_client_that_disconnects_while_it_waits_is_not_served(model: ServedModel) -> None:
    go = threading.Event()
    vocoder = held(model.vocoder, go)
    with serving(ServedModel("slow", vocoder)) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/synthesize", content=GOOD)
        eventually(lambda: calls(vocoder) == 1)
        head = f"POST /synthesize HTTP/1.1\nHost: 127.0.0.1\nContent-Length: {len(GOOD)}"
        connections = [send_raw(client, head, GOOD) for _ in range(5)]
        eventually(lambda: client.scheduler.active_requests == 6 and waiting(client) == 5)
        for connection in connections:
            connection.close()
        eventually(lambda: client.scheduler.active_requests == 1)
        go.set()
        assert first.result().status_code == 200
        assert client.post("/synthesize", content=GOOD).status_code == 200
        assert calls(vocoder) == 2


def test_a_burst_of_ten_times_the_limit(model: ServedModel) -> None:
    delayed = ServedModel("slow", slow(model.vocoder, 0.05))
    with serving(delayed, max_requests=4) as client, ThreadPoolExecutor(40) as pool:
        body = npy(mel(500))
        answers = list(pool.map(lambda _: client.post("/synthesize", content=body), range(40)))
        counts = {status: sum(answer.status_code == status for answer in answers) for status in (200, 503)}
        assert counts[200] >= 4
        assert counts[503] >= 20
        assert sum(counts.values()) == 40
        whole = {answer.content for answer in answers if answer.status_code == 200}
        assert len(whole) == 1
        for answer in answers:
            if answer.status_code == 503:
                assert 1 <= int(answer.headers["retry-after"]) <= 60
                assert "the server has 4 requests, its limit; try again in" in answer.json()["detail"]
        eventually(lambda: client.scheduler.active_requests == 0)
        assert client.post("/synthesize", content=body).content in whole
        with contextlib.ExitStack() as streams:
            for _ in range(4):
                streams.enter_context(connect(f"ws://127.0.0.1:{client.port}/stream"))
            with pytest.raises(InvalidStatus) as refused:
                connect(f"ws://127.0.0.1:{client.port}/stream")
        assert refused.value.response.status_code == 503
        assert "retry-after" in refused.value.response.headers


def test_bodies_that_would_take_too_much_memory_together(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocoders.server.scheduler.MAX_MEMORY", 10 * 2**20)
    with serving(model) as client:
        head = "POST /synthesize HTTP/1.1\nHost: 127.0.0.1\nContent-Length: 9437185"
        with send_raw(client, head, bytes(9 * 2**20)):
            eventually(lambda: client.scheduler.reserved == 9 * 2**20)
            answer = client.post("/synthesize", content=npy(np.tile(mel(1000), 20)))
            assert answer.status_code == 503
            assert "requests hold 9 MiB and leave no room" in answer.json()["detail"]
            assert client.post("/synthesize", content=GOOD).status_code == 200
        eventually(lambda: client.scheduler.active_requests == 0)
        # A small archive that becomes large is counted as what it becomes; alone it may be as large as its limits.
        packed = io.BytesIO()
        np.savez_compressed(packed, mel=np.zeros((20, 75_000), np.float32))
        with send_raw(client, head, bytes(2**20)):
            eventually(lambda: client.scheduler.reserved == 2**20)
            assert client.post("/synthesize", content=packed.getvalue()).status_code == 503
        eventually(lambda: client.scheduler.active_requests == 0)
        assert client.post("/synthesize", content=packed.getvalue()).status_code == 200


@pytest.mark.parametrize("announced", ["Transfer-Encoding: chunked", f"Content-Length: {64 * 2**20}"])
def test_bodies_that_do_not_come_take_no_memory(model: ServedModel, announced: str) -> None:
    head = f"POST /synthesize HTTP/1.1\nHost: 127.0.0.1\n{announced}"
    with serving(model) as client, contextlib.ExitStack() as idle:
        for _ in range(10):
            idle.enter_context(send_raw(client, head))
        eventually(lambda: client.scheduler.active_requests == 10)
        assert client.post("/synthesize", content=GOOD).status_code == 200


def test_bodies_of_unknown_length_are_counted_as_they_arrive(
    model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vocoders.server.scheduler.MAX_MEMORY", 10 * 2**20)
    head = "POST /synthesize HTTP/1.1\nHost: 127.0.0.1\nTransfer-Encoding: chunked"
    with serving(model) as client, send_raw(client, head, b"600000\r\n" + bytes(6 * 2**20)):
        eventually(lambda: client.scheduler.reserved == 6 * 2**20)
        answer = client.post("/synthesize", content=iter([bytes(2**20)] * 6))
        assert answer.status_code == 503
        assert "requests hold 6 MiB and leave no room" in answer.json()["detail"]
        assert client.post("/synthesize", content=iter([GOOD])).status_code == 200


def test_audio_that_takes_too_long(model: ServedModel) -> None:
    delayed = ServedModel("slow", slow(model.vocoder, 1.0))
    with serving(delayed, limits={"timeout": 0.3}) as client:
        answer = client.post("/synthesize", content=GOOD)
        assert answer.status_code == 503
        assert answer.json()["detail"] == "the result was not ready within 0.3 s"
        assert "retry-after" in answer.headers
        assert client.scheduler.active_requests == 0


def test_decoding_that_takes_too_long(model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request ends, its memory counts until the thread ends, and mels are decoded meanwhile."""
    go = threading.Event()

    def read_audio(*args: Any) -> Any:
        assert go.wait(300)

    monkeypatch.setattr("vocoders.server.requests.read_audio", read_audio)
    with serving(model, limits={"timeout": 0.5}) as client:
        answer = client.post("/mel", content=b"RIFF" * 100)
        assert answer.status_code == 503
        assert answer.json()["detail"] == "the result was not ready within 0.5 s"
        assert client.scheduler.active_requests == 0
        assert client.scheduler.reserved == 2 * 64 * 2**20
        assert client.post("/mel", content=b"RIFF" * 100).status_code == 503
        assert client.scheduler.reserved == 2 * 64 * 2**20  # the second waited for its turn, which did not come
        assert client.post("/synthesize", content=b"hello").status_code == 400
        go.set()
        eventually(lambda: client.scheduler.reserved == 0)


def test_a_bad_mel_does_not_affect_its_batch(model: ServedModel) -> None:
    def synthesize_batch(mels: list[np.ndarray], *args: Any, **kwargs: Any) -> list[np.ndarray]:
        if any(mel.max() > 1e29 for mel in mels):  # which one is not said
            raise VocoderError("the model's output is not finite")
        return model.vocoder.synthesize_batch(mels, *args, **kwargs)

    strict = ServedModel("strict", changed(model.vocoder, synthesize_batch=synthesize_batch))
    go = threading.Event()
    delayed = ServedModel("slow", held(model.vocoder, go))
    with serving(strict, delayed, max_batch=8) as client, ThreadPoolExecutor(9) as pool:
        first = pool.submit(client.post, "/synthesize?model=slow", content=GOOD)
        eventually(lambda: calls(delayed.vocoder) == 1)
        bad = np.full((20, 100), 1e30, np.float32)
        bodies = [npy(bad if index == 3 else mel(100)) for index in range(8)]
        asked = [pool.submit(client.post, "/synthesize", content=body) for body in bodies]
        eventually(lambda: waiting(client) == 8)
        go.set()
        answers = [request.result() for request in asked]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 422, 200, 200, 200, 200]
        assert len({answer.content for answer in answers}) == 2
        assert first.result().status_code == 200


def test_a_defect_in_the_model_stops_nothing(model: ServedModel) -> None:
    def synthesize_batch(mels: list[np.ndarray], *args: Any, **kwargs: Any) -> list[np.ndarray]:
        if mels[0].shape[1] == 13:
            raise RuntimeError("a secret of the server")
        return model.vocoder.synthesize_batch(mels, *args, **kwargs)

    def open_stream(*args: Any, **kwargs: Any) -> Stream:
        raise RuntimeError("a secret of the server")

    broken = changed(model.vocoder, synthesize_batch=synthesize_batch, open_stream=open_stream)
    with serving(ServedModel("broken", broken)) as client:
        for frames in (13, 1300):  # one step, and a stream of several
            answer = client.post("/synthesize", content=npy(mel(frames)))
            assert answer.status_code == 500
            assert answer.headers["connection"] == "close"  # as uvicorn does, sooner or later
            assert answer.json() == {"detail": "the server failed because of a defect; its log says more"}
            assert client.post("/synthesize", content=GOOD).status_code == 200
        eventually(lambda: client.scheduler.active_requests == 0)
