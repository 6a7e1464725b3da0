"""Requests that nobody would send: whatever comes, the server answers, and never with 500.

``pytest tests/vocoders/server/test_fuzz.py --fuzz 6000`` sends so many.
"""

import collections
import contextlib
import io
import json
import random
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import schemathesis
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support import models, signals
from tests.support.server import ServerClient, eventually, npy, serving, small_model
from vocoders.io.mels import encode_mel

LIMITS = {"max_body": 2**18, "max_seconds": 5.0, "timeout": 20.0}
ALLOWED = {101, 200, 400, 404, 405, 409, 413, 422}


def modest(count: int) -> settings:
    checks = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
    return settings(max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=checks)


pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def client() -> Iterator[ServerClient]:
    with serving(small_model(), small_model("wavehax", framewise_norm=False), limits=LIMITS) as client:
        yield client
        eventually(lambda: client.scheduler.active_requests == 0)
        statuses: collections.Counter[str] = collections.Counter()
        for sample in client.app.state.server.metrics.requests.collect()[0].samples:
            if sample.name.endswith("_total"):
                statuses[sample.labels["status"]] += int(sample.value)
        print(f"\n{statuses.total()} requests; of each status {dict(sorted(statuses.items()))}")


def sane(answer: httpx.Response) -> None:
    assert answer.status_code in ALLOWED, (answer.status_code, answer.text)
    if answer.status_code not in (200, 405):
        assert answer.json()["detail"]


@pytest.mark.slow
def test_what_our_openapi_allows_and_what_it_does_not(client: ServerClient, fuzz: int) -> None:
    """Requests made by schemathesis; every response is one that the schema describes."""
    document = client.get("/openapi.json").json()
    lists = document["paths"]["/synthesize"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    lists["properties"]["mel"] |= {"minItems": 20, "maxItems": 20}  # as many as the model has
    schema: Any = schemathesis.openapi.from_dict(document)  # registers the checks that need a schema
    names = ("not_a_server_error", "status_code_conformance", "response_schema_conformance", "content_type_conformance")
    checks: list[Any] = [schemathesis.checks.CHECKS.get_one(name) for name in names]
    schema.config.base_url = str(client.base_url)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) == 6
    for operation in operations:
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            if mode == schemathesis.GenerationMode.NEGATIVE and operation.method == "get" and not operation.query:
                continue  # there is nothing to get wrong

            @modest(max(2, fuzz // (5 if operation.method == "post" else 50)))
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case: schemathesis.Case[Any]) -> None:
                answer = case.call()
                assert answer.status_code in ALLOWED, (answer.status_code, answer.text)
                if answer.status_code != 405:
                    case.validate_response(answer, checks=checks)

            send()


def seeds() -> list[bytes]:
    """Bodies that are served."""
    mel = models.mel(9)[0].numpy()
    sound, packed = io.BytesIO(), io.BytesIO()
    soundfile.write(sound, signals.voice(8000, 0.1), 8000, format="FLAC")
    f0 = models.f0(9).numpy().ravel()
    np.savez_compressed(packed, mel=mel, f0=f0)
    fields = {"mel": mel.round(2).tolist(), "f0": f0.round().tolist(), "mel_config": models.MEL_CONFIG.model_dump()}
    text = json.dumps(fields).encode()
    return [npy(mel), encode_mel(mel, models.MEL_CONFIG, "npz"), packed.getvalue(), text, sound.getvalue()]


SEEDS = seeds()
WORDS = [
    b"",
    b"\x00",
    b"\xff" * 8,
    b"-",
    b"NaN",
    b"1e999",
    b"[",
    b"{",
    b'"',
    b"PK\x05\x06",
    b"\x93NUMPY",
    b"'|O'",
    b"<f8",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A body with some of its bytes replaced, cut, doubled or taken from another."""
    body = bytearray(draw(st.sampled_from(SEEDS)))
    source = random.Random(draw(st.integers(0, 2**32)))
    for _ in range(draw(st.integers(0, 6))):
        # Headers are short, and where the decisions are.
        place = source.randrange(min(len(body), source.choice([16, 160, 10**9])) or 1) if body else 0
        length = source.choice([1, 1, 2, 8, 100])
        new = source.choice(
            [bytes([source.randrange(256)]), source.choice(WORDS), bytes(body[place : place + length]) * 2]
        )
        if source.random() < 0.2:
            new = source.choice(SEEDS)[place : place + length]
        body[place : place + length] = new
        if source.random() < 0.1:
            del body[source.randrange(len(body) + 1) :]
    return bytes(body)


SPECS = ["hifigan-22k", "hifigan-22k:n_mels=20", ":", "vocos-24k:floor=1e-999", "espnet-24k:log=2"]
USUAL = {"format": st.sampled_from(["wav", "flac", "raw"]), "stream": st.booleans(), "seed": st.integers(0, 9)}
STRANGE = {
    "format": st.sampled_from(["ogg", "", "WAV"]),
    "stream": st.sampled_from(["1", "x", ""]),
    "seed": st.one_of(st.integers(-1, 0), st.integers(2**63 - 2, 2**63 + 2), st.text(max_size=5)),
    "model": st.sampled_from(["hnmask", "wavehax", "", "/etc/passwd", "\x00", "é" * 300]),
    "f0": st.sampled_from(["true", "x"]),
    "mel_config": st.one_of(st.sampled_from(SPECS), st.text(max_size=30)),
}
UNKNOWN = {"fromat": st.just("wav"), "\x00": st.text(max_size=5)}
TAKEN = {
    "/synthesize": {"model", "format", "stream", "seed", "mel_config"},
    "/mel": {"model", "mel_config"},
    "/stream": {"model", "seed", "mel_config", "f0"},
}


def queries(path: str) -> st.SearchStrategy[dict[str, Any]]:
    """Parameters that a route takes, now and then one that it does not."""
    usual, strange = (
        st.fixed_dictionaries({}, optional={name: kinds[name] for name in sorted(kinds.keys() & TAKEN[path])})
        for kinds in (USUAL, STRANGE)
    )
    unknown = st.fixed_dictionaries({}, optional=UNKNOWN)
    return st.one_of(usual, usual, usual, strange, strange, strange, unknown)


REQUESTS = st.sampled_from(["/synthesize", "/synthesize", "/mel"]).flatmap(
    lambda path: st.tuples(st.just(path), queries(path))
)


def test_damaged_bodies(client: ServerClient, fuzz: int) -> None:
    @modest(fuzz // 4)
    @given(request=REQUESTS, body=damaged())
    def send(request: tuple[str, dict[str, Any]], body: bytes) -> None:
        path, query = request
        try:
            sane(client.post(path, content=body, params=query))
        except httpx.RemoteProtocolError:  # an answer that broke off, when its audio was not finite
            assert query.get("stream") in ("true", "1")

    send()


def test_strange_streams(client: ServerClient, fuzz: int) -> None:
    frames = st.integers(1, 40).map(lambda count: np.ascontiguousarray(models.mel(count)[0].T.numpy()).tobytes())
    messages = st.one_of(frames, frames, st.binary(max_size=200), st.just("end"), st.text(max_size=10))

    @modest(fuzz // 10)
    @given(output=st.lists(messages, max_size=6), query=queries("/stream"), abrupt=st.booleans())
    def send(output: list[bytes | str], query: dict[str, Any], abrupt: bool) -> None:
        address = str(httpx.URL(f"ws://127.0.0.1:{client.port}/stream", params=query))
        assert talk(address, [*output, None if abrupt else "end"]) in (ALLOWED | {None, 1000, 1007, 1008, 1009})

    send()


def talk(address: str, output: list[bytes | str | None]) -> int | None:
    """The status of a refused handshake, or the code of the closing; None where we went away, as None is said."""
    try:
        with connect(address) as stream, contextlib.suppress(ConnectionClosed):
            for message in output:
                if message is None:
                    with contextlib.suppress(OSError):  # it may be closed already
                        stream.socket.shutdown(socket.SHUT_RDWR)
                    return None
                stream.send(message)
            for answer in stream:
                assert isinstance(answer, bytes) or set(json.loads(answer)) & {"sample_rate", "detail"}
        return stream.protocol.close_code
    except InvalidStatus as refused:
        return refused.response.status_code
