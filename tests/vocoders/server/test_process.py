"""The process of the server: signals, restarts, and what keeps it from starting."""

import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from websockets.sync.client import connect

from tests.support.commands import files
from tests.support.server import eventually, mel, npy, process
from vocoders.cli.vocoders import vocoders

GOOD = npy(mel(12))


@pytest.mark.slow
def test_sigterm_finishes_what_runs(work: Path) -> None:
    (work / "token").write_text("a-secret\n")
    before = files(work)
    arguments = ("model.safetensors", "--port", "0", "--max-requests", "8", "--timeout", "600", "--token-file", "token")
    headers = {"Authorization": "Bearer a-secret"}
    with process(*arguments, cwd=work) as (running, address):
        with httpx.Client(base_url=address, timeout=600, headers=headers) as client, ThreadPoolExecutor(4) as pool:
            assert httpx.get(f"{address}/models", timeout=60).status_code == 401
            assert client.get("/models").json()[0]["name"] == "model"
            body = npy(np.tile(mel(1000), 30))
            expected = 2 * 30_000 * 32
            whole = [pool.submit(client.post, "/synthesize?format=raw", content=body) for _ in range(3)]
            with connect(address.replace("http", "ws") + "/stream", additional_headers=headers) as stream:
                stream.recv()
                stream.send(mel(100).T.astype("<f4").tobytes())
                eventually(lambda: client.get("/healthz").json()["active_requests"] == 4)
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
        assert running.wait(300) == 0
        assert running.stderr is not None
        assert running.stderr.read() == ""
    assert files(work) == before


@pytest.mark.slow
def test_sigterm_ends_a_server_whose_work_never_ends(work: Path) -> None:
    never = "import time, vocoders.server.requests as requests; requests.read_audio = lambda *_: time.sleep(10000)"
    with process("model.safetensors", "--port", "0", "--timeout", "1", cwd=work, first=never) as (running, address):
        assert httpx.post(f"{address}/mel", content=b"RIFF", timeout=60).status_code == 503
        running.send_signal(signal.SIGTERM)
        assert running.wait(120) == 0


@pytest.mark.slow
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


def test_servers_that_cannot_start(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "empty").write_text(" \n")
    (work / "two").write_text("two words")
    (work / "copy").mkdir()
    (work / "copy" / "model.safetensors").write_bytes((work / "model.safetensors").read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, sentence in {
            ("--port", port): f"cannot listen on 127.0.0.1, port {port}: Address already in use",
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
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in ("vocoders.server.process", "vocoders.server.app"):
        monkeypatch.delitem(sys.modules, name)
    assert vocoders(["serve"]) == 2
    assert capsys.readouterr().err == (
        "vocoders: serving needs fastapi, which is not installed: pip install '.[serve]' in the clone\n"
    )
