"""What the server does with bad input, bad clients and bad days."""

import contextlib
import io
import json
import pickle
import signal
import socket
import struct
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support import models
from tests.support.commands import HELLO, files
from tests.support.server import Slow, eventually, metric, npy, process, serving, small_voice
from vocoders.cli.vocoders import vocoders
from vocoders.server.registry import Voice

pytestmark = pytest.mark.filterwarnings("ignore::vocoders.errors.MelWarning")


@pytest.fixture(scope="module")
def voice() -> Voice:
    return small_voice()


@pytest.fixture(scope="module")
def client(voice: Voice) -> httpx.Client:
    with serving(voice, limits={"body": 5 * 2**20, "seconds": 60.0, "patience": 5.0}) as client:
        yield client


def mel(frames: int, seed: int = 0) -> np.ndarray:
    return models.mel(frames, seed=seed)[0].numpy()


def archive(method: int, name: str = "mel.npy", data: bytes | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr(name, npy(mel(5)) if data is None else data)
    return buffer.getvalue()


def claiming(size: int) -> bytes:
    """An .npz whose header understates nothing, and holds ``size`` zeros in a few bytes."""
    return archive(zipfile.ZIP_DEFLATED, data=bytes(size))


def members(count: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(count):
            file.writestr(str(number), b"")
    return buffer.getvalue()


def header(text: str) -> bytes:
    """An .npy whose header is ``text``."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


class Hostile:
    def __reduce__(self) -> tuple:
        return pytest.exit, ("a pickle was loaded",)


GOOD = npy(mel(12))
BAD = {
    "nothing": (b"", 400, "the body is empty"),
    "text": (b"hello", 400, "neither .npy nor .npz nor a JSON object"),
    "a path": (str(HELLO).encode(), 400, "neither .npy nor .npz nor a JSON object"),
    "a pickle": (pickle.dumps(Hostile()), 400, "neither .npy nor .npz nor a JSON object"),
    "an npy of pickles": (npy(np.array([Hostile()], dtype=object)), 400, "holds pickled Python objects"),
    "an npz of pickles": (archive(0, data=npy(np.array([Hostile()], dtype=object))), 400, "holds pickled Python"),
    "half an npy": (GOOD[:-100], 400, "is not whole: its header claims 960 bytes of data, it holds 860"),
    "more than an npy": (GOOD + b"x", 400, "claims 960 bytes of data, it holds 961"),
    "an npy that claims": (GOOD.replace(b"(20, 12), }      ", b"(20, 10000000), }"), 400, "claims 800000000 bytes"),
    "an npy's beginning": (GOOD[:9], 400, "is not a readable .npy file"),
    "a deep header": (header("(" * 150 + "-" * 5000), 400, "is not a readable .npy file"),
    "an odd header": (header("{'descr': (), 'fortran_order': False, 'shape': (1,)}"), 400, "is not a readable .npy"),
    "half an npz": (HELLO.read_bytes()[:20000], 400, "is not a readable .npz file"),
    "a damaged npz": (claiming(1000)[:50] + b"\xff" * 20 + claiming(1000)[70:], 400, "is not a readable .npz file"),
    "an npz without a mel": (archive(0, "spectrogram.npy"), 400, "holds no array named 'mel', only: spectrogram"),
    "an npz of a path": (archive(0, "../../mel.npy"), 400, "holds no array named 'mel', only: ../../mel"),
    "an npz that swells": (claiming(200 * 2**20), 400, "claims 209715200 bytes for 'mel'"),
    "an npz in LZMA": (archive(zipfile.ZIP_LZMA), 400, "neither stored nor deflated"),
    "an npz of many": (members(100), 400, "an archive of more than 64 members"),
    "half a JSON": (b'{"mel": [[1.0, 2.0', 400, "the body is not JSON"),
    "a deep JSON": (b'{"mel": ' + b"[" * 4000, 400, "the body is not JSON"),
    "a JSON of many": (b'{"mel": [' + b"[]," * 5000 + b"[]]}", 400, "JSON of too many parts"),
    "JSON without a mel": (b'{"mell": [[1.0]]}', 400, "unknown key 'mell' (did you mean 'mel'?)"),
    "JSON of words": (b'{"mel": [["1.0"]]}', 400, "'mel' must be a list of n_mels lists of numbers"),
    "uneven JSON": (b'{"mel": [[1.0], [1.0, 2.0]]}', 400, "all of one length"),
    "JSON of truth": (b'{"mel": [[true]]}', 400, "must be a list of n_mels lists of numbers"),
    "JSON of large numbers": (b'{"mel": [[1' + b"0" * 400 + b"]]}", 400, "must be a list of n_mels lists of numbers"),
    "an unknown mel config": (b'{"mel": [[1.0]], "mel_config": "none"}', 400, "unknown mel config 'none'"),
    "half a mel config": (b'{"mel": [[1.0]], "mel_config": {"n_fft": 3}}', 400, "'mel_config"),
    "80 mels": (npy(np.zeros((80, 4), np.float32)), 422, "expects 20 bands (custom), this mel has 80"),
    "transposed": (npy(mel(12).T.copy()), 422, "looks transposed"),
    "1-D": (npy(np.zeros(20, np.float32)), 422, "this one is 1-D"),
    "4-D": (npy(np.zeros((1, 1, 20, 4), np.float32)), 422, "this one is 4-D"),
    "two": (npy(np.zeros((2, 20, 4), np.float32)), 422, "a request holds one mel"),
    "no frames": (npy(np.zeros((20, 0), np.float32)), 422, "the mel is empty"),
    "whole numbers": (npy(np.zeros((20, 4), np.int32)), 422, "must hold floats"),
    "complex numbers": (npy(np.zeros((20, 4), np.complex64)), 422, "expected an array of floats"),
    "text in an npy": (npy(np.array(["a"])), 422, "expected an array of floats"),
    "infinity": (npy(np.full((20, 4), np.inf, np.float32)), 422, "80 NaN or infinite values of 80"),
    "NaN": (json.dumps({"mel": [[float("nan")]] * 20}).encode(), 422, "20 NaN or infinite values of 20"),
    "more than float32": (npy(np.full((20, 4), 1e300)), 422, "80 NaN or infinite values"),
    "beyond the model": (npy(np.full((20, 4), 1e38, np.float32)), 422, "the model's output is not finite"),
    "61 s": (npy(np.zeros((20, 15250), np.float16)), 413, "15250 frames, 61 s of audio; the most is 60 s"),
    "a large JSON": (b'{"mel": [' + b"0," * 2**21, 413, "JSON may have 4 MiB"),
    "a large body": (bytes(5 * 2**20 + 1), 413, "more than 5242880 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bodies_that_cannot_be(
    name: str, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    body, status, sentence = BAD[name]
    answer = client.post("/synthesize", content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    assert sentence in answer.json()["detail"]
    eventually(lambda: len(client.scheduler) == 0)
    assert client.post("/synthesize", content=GOOD).status_code == 200


def test_parameters_that_cannot_be(client: httpx.Client) -> None:
    for query, sentence in {
        "seed=-1": "query parameter 'seed': Input should be greater than or equal to 0",
        "seed=9223372036854775808": "'seed': Input should be less than 9223372036854775808",
        "format=mp3": "'format': Input should be 'wav', 'flac' or 'raw'",
        "stream=perhaps": "'stream': Input should be a valid boolean",
    }.items():
        answer = client.post(f"/synthesize?{query}", content=GOOD)
        assert answer.status_code == 422
        assert sentence in answer.json()["detail"]
        if query.startswith("seed"):
            with pytest.raises(InvalidStatus) as refused:
                connect(f"ws://127.0.0.1:{client.port}/stream?{query}")
            assert refused.value.response.status_code == 422
    assert client.get("/synthesize").status_code == 405
    assert client.get("/etc/passwd").status_code == 404
    assert client.get("/..%2f..%2fetc/passwd").status_code == 404


def raw(client: httpx.Client, head: str, body: bytes = b"") -> socket.socket:
    """A connection on which ``head`` and ``body`` were sent."""
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=20)
    connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
    return connection


def test_bodies_of_an_unsaid_length(client: httpx.Client) -> None:
    def chunks(count: int):
        yield from (bytes(2**16) for _ in range(count))

    answer = client.post("/synthesize", content=iter([GOOD[:100], GOOD[100:]]))
    assert answer.status_code == 200
    assert client.post("/synthesize", content=chunks(100)).status_code == 413


def test_a_body_that_never_ends(voice: Voice) -> None:
    head = "POST /synthesize HTTP/1.1\nHost: x\nContent-Length: 1000"
    with serving(voice, limits={"patience": 0.5}) as client:
        connection = raw(client, head, GOOD[:100])
        eventually(lambda: len(client.scheduler) == 1)
        connection.close()
        eventually(lambda: len(client.scheduler) == 0)  # at once, not when patience ends
        with raw(client, head, GOOD[:100]) as connection:  # this one stays and sends no more
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        with raw(client, head) as connection:
            for _ in range(12):  # this one has all the time in the world
                time.sleep(0.1)
                connection.sendall(b"x")
            assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")
        eventually(lambda: len(client.scheduler) == 0)
        for garbage in (
            b"\x00" * 100,
            b"POST /synthesize HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
                connection.sendall(garbage)
                assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert client.post("/synthesize", content=GOOD).status_code == 200


def test_ten_minutes(voice: Voice) -> None:
    """Served, and kept from nobody else."""
    frames = 600 * 8000 // 32
    with serving(voice) as client, ThreadPoolExecutor(1) as pool:
        body = npy(np.tile(mel(1000), 150).astype(np.float16))
        long = pool.submit(client.post, "/synthesize?format=raw", content=body)
        eventually(lambda: metric(client, "vocoders_synthesis_seconds_total") > 0)
        for _ in range(3):
            assert client.post("/synthesize", content=GOOD).status_code == 200
            assert not long.done()
        assert len(long.result().content) == 2 * frames * 32
        assert client.post("/synthesize", content=npy(np.zeros((20, frames + 1), np.float16))).status_code == 413


def test_a_slow_client(voice: Voice) -> None:
    """Gets what it takes, holds little, and loses its place when it takes nothing at all."""
    with serving(voice, limits={"patience": 1.0}) as client:
        body = npy(np.tile(mel(1000), 100))
        head = f"POST /synthesize?stream=true HTTP/1.1\nHost: x\nContent-Length: {len(body)}"
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", client.port))
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        eventually(lambda: metric(client, "vocoders_audio_seconds_total") > 1)
        assert client.post("/synthesize", content=GOOD).status_code == 200
        eventually(lambda: len(client.scheduler) == 0)  # when patience ends
        assert metric(client, "vocoders_audio_seconds_total") < 300  # of 400: it stopped
        received = b""
        while data := connection.recv(2**20):
            received += data
        connection.close()
        assert not received.endswith(b"0\r\n\r\n")  # the end of a whole answer
        with connect(f"ws://127.0.0.1:{client.port}/stream") as idle, pytest.raises(ConnectionClosed):
            list(iter(idle.recv, None))
        assert idle.protocol.close_code == 1008


def test_a_stream_that_lasts_too_long(voice: Voice) -> None:
    with serving(voice, limits={"seconds": 0.5, "patience": 0.5}) as client:
        begin = time.monotonic()
        with connect(f"ws://127.0.0.1:{client.port}/stream") as stream, contextlib.suppress(ConnectionClosed):
            while time.monotonic() < begin + 5:
                stream.send(mel(1).T.astype("<f4").tobytes())
                time.sleep(0.1)
        assert 1 <= time.monotonic() - begin < 5
        assert stream.protocol.close_code == 1008
        eventually(lambda: len(client.scheduler) == 0)


def test_a_client_that_goes_in_mid_stream(voice: Voice) -> None:
    with serving(voice) as client:

        def stops() -> None:
            eventually(lambda: len(client.scheduler) == 0)
            time.sleep(0.1)  # a turn may have been under way
            before = metric(client, "vocoders_audio_seconds_total")
            time.sleep(0.3)
            assert metric(client, "vocoders_audio_seconds_total") == before
            assert client.post("/synthesize", content=GOOD).status_code == 200

        body = npy(np.tile(mel(1000), 100))
        with client.stream("POST", "/synthesize?stream=true", content=body) as answer:
            next(answer.iter_raw())
        stops()
        head = f"POST /synthesize HTTP/1.1\nHost: x\nContent-Length: {len(body)}"  # waits for all of it
        connection = raw(client, head, body)
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


def test_a_client_that_goes_while_it_waits_is_not_served(voice: Voice) -> None:
    slow = Slow(voice.vocoder, 0.5)
    with serving(Voice("slow", slow, voice.lookahead)) as client, ThreadPoolExecutor(1) as pool:
        slow.calls = 0
        first = pool.submit(client.post, "/synthesize", content=GOOD)
        eventually(lambda: slow.calls == 1)
        head = f"POST /synthesize HTTP/1.1\nHost: x\nContent-Length: {len(GOOD)}"
        connections = [raw(client, head, GOOD) for _ in range(5)]
        eventually(lambda: len(client.scheduler) == 6)
        for connection in connections:
            connection.close()
        eventually(lambda: len(client.scheduler) <= 1, seconds=0.45)
        assert first.result().status_code == 200
        assert client.post("/synthesize", content=GOOD).status_code == 200
        assert slow.calls == 2


def test_a_burst_of_ten_times_the_queue(voice: Voice) -> None:
    slow = Voice("slow", Slow(voice.vocoder, 0.05), voice.lookahead)
    with serving(slow, places=4) as client, ThreadPoolExecutor(40) as pool:
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
                assert "all 4 places are taken; try again in" in answer.json()["detail"]
        eventually(lambda: len(client.scheduler) == 0)
        assert client.post("/synthesize", content=body).content in whole
        with contextlib.ExitStack() as streams:
            for _ in range(4):
                streams.enter_context(connect(f"ws://127.0.0.1:{client.port}/stream"))
            with pytest.raises(InvalidStatus) as refused:
                connect(f"ws://127.0.0.1:{client.port}/stream")
        assert refused.value.response.status_code == 503
        assert "retry-after" in refused.value.response.headers


def test_bodies_that_would_take_too_much_memory_together(voice: Voice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocoders.server.scheduler.ROOM", 10 * 2**20)
    with serving(voice) as client:
        head = "POST /synthesize HTTP/1.1\nHost: x\nContent-Length: 9000000"
        with raw(client, head):
            eventually(lambda: len(client.scheduler) == 1)
            answer = client.post("/synthesize", content=npy(np.tile(mel(1000), 20)))
            assert answer.status_code == 503
            assert "requests hold 9 MiB and leave no room" in answer.json()["detail"]
            assert client.post("/synthesize", content=GOOD).status_code == 200
        eventually(lambda: len(client.scheduler) == 0)
        # A small archive that becomes large is counted as what it becomes; alone it may be as large as its limits.
        packed = io.BytesIO()
        np.savez_compressed(packed, mel=np.zeros((20, 75_000), np.float32))
        with raw(client, head.replace("9000000", "1000000")):
            eventually(lambda: len(client.scheduler) == 1)
            assert client.post("/synthesize", content=packed.getvalue()).status_code == 503
        eventually(lambda: len(client.scheduler) == 0)
        assert client.post("/synthesize", content=packed.getvalue()).status_code == 200


def test_audio_that_takes_too_long(voice: Voice) -> None:
    slow = Voice("slow", Slow(voice.vocoder, 1.0), voice.lookahead)
    with serving(slow, limits={"patience": 0.3}) as client:
        answer = client.post("/synthesize", content=GOOD)
        assert answer.status_code == 503
        assert answer.json()["detail"] == "the audio was not ready within 0.3 s"
        assert "retry-after" in answer.headers
        assert len(client.scheduler) == 0


def test_a_bad_mel_spoils_no_batch(voice: Voice) -> None:
    slow = Voice("slow", Slow(voice.vocoder, 0.3), voice.lookahead)
    with serving(voice, slow, batch=8) as client, ThreadPoolExecutor(9) as pool:
        first = pool.submit(client.post, "/synthesize?voice=slow", content=GOOD)
        eventually(lambda: len(client.scheduler) == 1)
        bad = np.full((20, 100), 1e38, np.float32)
        bodies = [npy(bad if index == 3 else mel(100)) for index in range(8)]
        answers = list(pool.map(lambda body: client.post("/synthesize", content=body), bodies))
        assert [answer.status_code for answer in answers] == [200, 200, 200, 422, 200, 200, 200, 200]
        assert len({answer.content for answer in answers}) == 2
        assert first.result().status_code == 200


def test_a_defect_in_the_model_stops_nothing(voice: Voice) -> None:
    class Broken(Slow):
        def __call__(self, mel: np.ndarray, **kwargs: int) -> np.ndarray:
            if mel.shape[1] == 13:
                raise RuntimeError("a secret of the server")
            return self.vocoder(mel, **kwargs)

    with serving(Voice("broken", Broken(voice.vocoder, 0), voice.lookahead)) as client:
        answer = client.post("/synthesize", content=npy(mel(13)))
        assert answer.status_code == 500
        assert answer.json() == {"detail": "a defect of the server; its log says more"}
        assert client.post("/synthesize", content=GOOD).status_code == 200
        eventually(lambda: len(client.scheduler) == 0)


@pytest.mark.parametrize(
    ("messages", "code", "sentence"),
    [
        ([b"abc"], 1007, "expected whole frames of 20 float32 each, 80 bytes, or the text 'end'; got 3 bytes"),
        (["stop"], 1007, "got the text 'stop'"),
        (["end"], 1007, "the stream ended before its first frame"),
        ([b"\x00" * 80, "end", b"\x00" * 80], 1007, "the frames were over"),
        ([np.full(20, np.nan, "<f4").tobytes()], 1007, "20 NaN or infinite values"),
        ([np.zeros((12000, 20), "<f4").tobytes()] * 2, 1009, "longer than 60 s"),
        ([bytes(2**20 + 80)], 1009, ""),
    ],
)
def test_streams_that_cannot_be(messages: list, code: int, sentence: str, client: httpx.Client) -> None:
    with connect(f"ws://127.0.0.1:{client.port}/stream") as stream:
        stream.recv()
        said = ""
        try:
            for message in messages:
                stream.send(message)
            for answer in stream:
                if isinstance(answer, str):
                    said = json.loads(answer)["detail"]
        except ConnectionClosed:
            pass
    assert stream.protocol.close_code == code
    assert sentence in said
    eventually(lambda: len(client.scheduler) == 0)
    assert client.post("/synthesize", content=GOOD).status_code == 200


def test_sigterm_finishes_what_runs(work: Path) -> None:
    (work / "token").write_text("a-secret\n")
    before = files(work)
    arguments = ("model.safetensors", "--port", "0", "--queue", "8", "--token-file", "token")
    headers = {"Authorization": "Bearer a-secret"}
    with process(*arguments, cwd=work) as (running, address):
        with httpx.Client(base_url=address, timeout=60, headers=headers) as client, ThreadPoolExecutor(4) as pool:
            assert httpx.get(f"{address}/voices").status_code == 401
            assert client.get("/voices").json()[0]["name"] == "model"
            body = npy(np.tile(mel(1000), 30))
            expected = 2 * 30_000 * 32
            whole = [pool.submit(client.post, "/synthesize?format=raw", content=body) for _ in range(3)]
            with connect(address.replace("http", "ws") + "/stream", additional_headers=headers) as stream:
                stream.recv()
                stream.send(mel(100).T.astype("<f4").tobytes())
                eventually(lambda: client.get("/healthz").json()["utterances"] == 4)
                running.send_signal(signal.SIGTERM)
                eventually(lambda: client.get("/healthz").status_code == 503)
                answer = client.post("/synthesize", content=GOOD)
                assert answer.status_code == 503
                assert answer.json()["detail"] == "the server is shutting down; try again in 5 s"
                assert not any(request.done() for request in whole)
                stream.send(mel(100).T.astype("<f4").tobytes())
                stream.send("end")
                assert sum(len(piece) for piece in stream) == 2 * 200 * 32
            for request in whole:
                assert len(request.result().content) == expected
        assert running.wait(20) == 0
        assert running.stderr.read() == ""
    assert files(work) == before


def test_kill_and_restart(work: Path) -> None:
    before = files(work)
    body = npy(np.tile(mel(1000), 100))
    with process("model.safetensors", "--port", "0", cwd=work) as (running, address):
        with httpx.stream("POST", f"{address}/synthesize?stream=true", content=body, timeout=60) as answer:
            pieces = answer.iter_raw()
            next(pieces)
            running.kill()
            with pytest.raises(httpx.TransportError):
                list(pieces)
        assert running.wait(20) == -signal.SIGKILL
    port = address.rsplit(":", 1)[1]
    with process("model.safetensors", "--port", port, cwd=work) as (_, address):
        assert httpx.post(f"{address}/synthesize", content=GOOD, timeout=60).status_code == 200
    assert files(work) == before


def test_servers_that_cannot_be(work: Path, capsys: pytest.CaptureFixture) -> None:
    (work / "empty").write_text(" \n")
    (work / "two").write_text("two words")
    (work / "copy").mkdir()
    (work / "copy" / "model.safetensors").write_bytes((work / "model.safetensors").read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, sentence in {
            ("--port", port): f"cannot listen on 127.0.0.1, port {port}: Address already in use",
            ("--port", "99999"): "cannot listen on 127.0.0.1, port 99999",
            ("--host", "no.such.host.invalid"): "cannot listen on no.such.host.invalid",
            ("none.safetensors",): "there is no checkpoint none.safetensors",
            ("--token-file", "none"): "there is no file none",
            ("--token-file", "empty"): "empty must hold one token",
            ("--token-file", "two"): "two must hold one token",
            ("model.safetensors", "copy/model.safetensors"): "two models have the name 'model'",
        }.items():
            if "--port" not in arguments:
                arguments = (*arguments, "--port", "0")
            assert vocoders(["serve", *arguments]) == 2
            lines = capsys.readouterr().err.splitlines()
            assert len(lines) == 1
            assert lines[0].startswith("vocoders: ")
            assert sentence in lines[0]


def test_without_the_extra_it_says_what_is_missing(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in ("vocoders.server.process", "vocoders.server.app"):
        monkeypatch.delitem(sys.modules, name)
    assert vocoders(["serve"]) == 2
    assert capsys.readouterr().err == "vocoders: serving needs fastapi: pip install '.[serve]' in the clone\n"
