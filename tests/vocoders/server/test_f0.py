"""F0 over HTTP and WebSocket."""

import io
import json
import random

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support import models
from tests.support.server import ServerClient, eventually, mel, npy
from vocoders.io.audio import to_pcm
from vocoders.server.registry import ServedModel

pytestmark = pytest.mark.filterwarnings("ignore::vocoders.errors.MelWarning")


def f0(frames: int, seed: int = 0) -> np.ndarray:
    return models.f0(frames, seed=seed).numpy().ravel()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own
    return buffer.getvalue()


def close(audio: np.ndarray, expected: np.ndarray) -> None:
    """Equal but for the rounding of another order of sums: one step of 16 bits."""
    assert len(audio) == len(expected)
    assert np.abs(audio.astype(int) - to_pcm(expected)).max() <= 1


def post(client: ServerClient, body: bytes, **query: str | bool) -> np.ndarray:
    response = client.post("/synthesize", params={"format": "raw", **query}, content=body)
    assert response.status_code == 200, response.text
    return np.frombuffer(response.content, "<i2")


@pytest.mark.parametrize("name", ["hnmask", "required"])
@pytest.mark.parametrize("stream", [False, True])
def test_f0_in_a_body(name: str, stream: bool, client: ServerClient, model: ServedModel) -> None:
    for frames in (40, 1200):  # one step, and several
        values, track = mel(frames), f0(frames)
        expected = model.vocoder(values, track)
        assert np.abs(to_pcm(expected) - to_pcm(model.vocoder(values)).astype(int)).max() > 100
        bodies = [npz(mel=values, f0=track), npz(mel=values, f0=track.astype(np.float64)[None])]
        if frames == 40:
            bodies.append(json.dumps({"mel": values.tolist(), "f0": track.tolist()}).encode())
        for body in bodies:
            close(post(client, body, model=name, stream=stream), expected)


def test_the_list_of_models_states_their_use_of_f0(client: ServerClient) -> None:
    listed = {model["name"]: model["f0"] for model in client.get("/models").json()}
    assert listed == {"hnmask": "estimated", "required": "required", "hifigan": "not used"}


def test_a_model_that_does_not_use_f0_ignores_it(client: ServerClient) -> None:
    values = mel(30)
    without = post(client, npy(values), model="hifigan")
    assert np.array_equal(post(client, npz(mel=values, f0=f0(30)), model="hifigan"), without)


BAD = {
    "too short": (f0(19), "f0 must hold one value per frame: expected 20, got 19"),
    "of a batch": (np.tile(f0(20), (2, 1)), "f0 must hold one value per frame"),
    "NaN": (np.full(20, np.nan), "f0 must be in Hz, from 0 (unvoiced) to 4000"),
    "infinite": (np.full(20, np.inf), "it holds inf to inf"),
    "more than float32": (np.full(20, 1e300), "it holds inf to inf"),
    "negative": (np.full(20, -1.0), "it holds -1 to -1"),
    "too high": (np.full(20, 4001.0), "from 0 (unvoiced) to 4000"),
}


@pytest.mark.parametrize("name", BAD)
def test_f0_that_does_not_fit(name: str, client: ServerClient) -> None:
    track, sentence = BAD[name]
    for model in ("hnmask", "hifigan"):
        response = client.post(f"/synthesize?model={model}", content=npz(mel=mel(20), f0=track))
        assert response.status_code == 422
        assert sentence in response.json()["detail"]
    assert client.scheduler.active_requests == 0


def test_json_f0_that_is_no_list_of_numbers(client: ServerClient) -> None:
    for track in ("x", ["a"], [True] * 20, [[1.0], [1.0, 2.0]], {"hz": 1}):
        response = client.post("/synthesize", json={"mel": mel(20).tolist(), "f0": track})
        assert response.status_code == 422
        assert "'f0' must be a list of one number a frame" in response.json()["detail"]
    assert client.post("/synthesize", json={"mel": mel(20).tolist(), "f0": None}).status_code == 200


def test_a_model_without_an_estimator_needs_f0(client: ServerClient) -> None:
    sentence = "needs f0 and has no estimator"
    response = client.post("/synthesize?model=required", content=npy(mel(20)))
    assert response.status_code == 422
    assert sentence in response.json()["detail"]
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{client.port}/stream?model=required")
    assert refused.value.response.status_code == 422
    assert sentence in json.loads(refused.value.response.body)["detail"]
    assert client.post("/mel?model=required", content=npy(mel(20))).status_code == 200


def exchange(
    client: ServerClient, query: str, messages: list[bytes | str]
) -> tuple[dict[str, int], np.ndarray, str, int | None]:
    """What the server says first, the audio, the sentence of a failure, and the close code."""
    audio, detail = b"", ""
    with connect(f"ws://127.0.0.1:{client.port}/stream?{query}") as stream:
        hello = json.loads(stream.recv())
        try:
            for message in messages:
                stream.send(message)
            for answer in stream:
                if isinstance(answer, bytes):
                    audio += answer
                else:
                    detail = json.loads(answer)["detail"]
        except ConnectionClosed:
            pass
    return hello, np.frombuffer(audio, "<i2"), detail, stream.protocol.close_code


@pytest.mark.parametrize("name", ["hnmask", "required", "hifigan"])
def test_f0_in_a_stream(name: str, client: ServerClient) -> None:
    served = client.app.state.server.models[name]
    values, track = mel(300), f0(300)
    frames = np.concatenate([values, track[None]]).T
    source, begin = random.Random(0), 0
    messages: list[bytes | str] = []
    while begin < 300:
        size = source.choice([1, 2, 10, 70])
        messages.append(np.ascontiguousarray(frames[begin : begin + size], "<f4").tobytes())
        begin += size
    hello, audio, detail, code = exchange(client, f"f0=true&model={name}", [*messages, "end"])
    assert (detail, code) == ("", 1000)
    assert hello["lookahead"] == served.vocoder.facts.lookahead
    close(audio, served.vocoder(values, track))


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        (np.zeros(20), "expected whole frames of 21 float32 each, 84 bytes, or the text 'end'; got 80 bytes"),
        (np.append(mel(1), -5), "f0 must be in Hz"),
        (np.append(mel(1), np.nan), "f0 must be in Hz"),
        (np.append(mel(1), 4001), "f0 must be in Hz"),
    ],
)
def test_streamed_f0_that_does_not_fit(frame: np.ndarray, sentence: str, client: ServerClient) -> None:
    _, _, detail, code = exchange(client, "f0=true", [frame.astype("<f4").tobytes()])
    assert sentence in detail
    assert code == 1007
    eventually(lambda: client.scheduler.active_requests == 0)


def test_an_empty_stream(client: ServerClient) -> None:
    for query in ("model=hnmask", "model=hnmask&f0=true", "model=required&f0=true"):
        _, _, detail, code = exchange(client, query, ["end"])
        assert (detail, code) == ("the stream ended before its first frame", 1007)
