"""The server's responses when all goes well."""

import io
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.support import models, signals
from tests.support.exported import Exported
from tests.support.server import (
    ServerClient,
    calls,
    eventually,
    held,
    mel,
    metric,
    npy,
    process,
    serving,
    small_model,
    waiting,
)
from vocoders.dsp.analysis import analyze
from vocoders.dsp.mel import MelConfig
from vocoders.inference.vocoder import Vocoder
from vocoders.io.audio import encode_audio, to_pcm
from vocoders.io.mels import encode_mel
from vocoders.pretrained import load
from vocoders.server.registry import ServedModel

pytestmark = pytest.mark.filterwarnings("ignore::vocoders.errors.MelWarning")


def pcm(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, "<i2")


def same(audio: np.ndarray, expected: np.ndarray) -> None:
    """Equal, to the rounding of another order of sums: one step of 16 bits."""
    assert len(audio) == len(expected)
    assert np.abs(audio.astype(int) - expected).max() <= 1


def test_every_kind_of_body(client: ServerClient, model: ServedModel) -> None:
    array = mel(30).astype(np.float16).astype(np.float32)
    expected = to_pcm(model.vocoder(array))
    bodies = [npy(array.astype(kind)) for kind in ("<f2", "<f4", "<f8", ">f4")]
    bodies += [npy(np.asfortranarray(array)), npy(array[None])]
    bodies += [encode_mel(array, models.MEL_CONFIG, kind) for kind in ("npy", "npz")]
    compressed = io.BytesIO()
    np.savez_compressed(compressed, mel=array)
    bodies += [compressed.getvalue(), json.dumps({"mel": array.tolist()}).encode()]
    bodies += [json.dumps({"mel": array.tolist(), "mel_config": models.MEL_CONFIG.model_dump()}).encode()]
    for body in bodies:
        assert np.array_equal(pcm(client.post("/synthesize?format=raw", content=body)), expected)


@pytest.mark.parametrize("stream", ["false", "true"])
def test_every_kind_of_audio(client: ServerClient, model: ServedModel, stream: str) -> None:
    array = mel(700)
    audio = model.vocoder(array)
    files = {}
    for format in ("wav", "flac", "raw"):
        answer = client.post("/synthesize", params={"format": format, "stream": stream}, content=npy(array))
        kind = "application/octet-stream" if format == "raw" else f"audio/{format}"
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        files[format] = answer.content
    same(np.frombuffer(files["raw"], "<i2"), to_pcm(audio))
    header = encode_audio(audio, models.MEL_CONFIG.sample_rate, "wav")[:44]
    assert files["wav"] == header + files["raw"]
    samples, rate = soundfile.read(io.BytesIO(files["flac"]), dtype="int16")
    assert rate == models.MEL_CONFIG.sample_rate
    assert samples.astype("<i2").tobytes() == files["raw"]
    assert soundfile.info(io.BytesIO(files["flac"])).frames == len(audio)


def test_audio_that_is_sent_while_it_is_computed_comes_in_pieces(model: ServedModel) -> None:
    go = threading.Event()
    with serving(ServedModel("held", held(model.vocoder, go))) as client:
        with client.stream("POST", "/synthesize?stream=true&format=raw", content=npy(mel(4000))) as answer:
            pieces = answer.iter_raw()
            first = next(pieces)
            assert len(first) <= 2 * 32 * 64  # of the first step
            assert metric(client, "vocoders_audio_seconds_total") < 4000 * 32 / 8000  # not all of it yet
            go.set()
            rest = b"".join(pieces)
        assert len(first) + len(rest) == 2 * 32 * 4000


def test_seeds_and_models(client: ServerClient, model: ServedModel) -> None:
    array = mel(20)
    for seed in (0, 7):
        answer = client.post("/synthesize", params={"format": "raw", "seed": seed}, content=npy(array))
        assert np.array_equal(pcm(answer), to_pcm(model.vocoder(array, seed=seed)))
    other = small_model("hifigan").vocoder(array)
    assert np.array_equal(pcm(client.post("/synthesize?model=hifigan&format=raw", content=npy(array))), to_pcm(other))
    answer = client.post("/synthesize?model=../hnmask", content=npy(array))
    assert answer.status_code == 404
    assert answer.json() == {"detail": "there is no model '../hnmask' here; there are: hnmask, hifigan, required"}


def test_mel_configs(client: ServerClient, model: ServedModel) -> None:
    array = mel(20)
    log10 = models.MEL_CONFIG.model_copy(update={"log": "log10"})
    expected = to_pcm(model.vocoder(array))
    body = json.dumps({"mel": (array / np.log(10)).tolist(), "mel_config": log10.model_dump()})
    same(pcm(client.post("/synthesize?format=raw", content=body)), expected)
    same(pcm(client.post("/synthesize?format=raw", content=encode_mel(array / np.log(10), log10, "npz"))), expected)

    other = models.MEL_CONFIG.model_copy(update={"log": "log10", "fmax": 3000.0, "hop_length": 64})
    for answer in (
        client.post("/synthesize", json={"mel": array.tolist(), "mel_config": other.model_dump()}),
        client.post("/synthesize", content=encode_mel(array, other, "npz")),
    ):
        assert answer.status_code == 409
        assert answer.json()["differences"] == {
            "log": {"model": "ln", "request": "log10"},
            "fmax": {"model": 4000.0, "request": 3000.0},
            "hop_length": {"model": 32, "request": 64},
        }
        assert "hop_length 64 against 32" in answer.json()["detail"]
    answer = client.post("/synthesize?mel_config=hifigan-22k:n_mels=24", content=npy(array))
    assert answer.json()["differences"]["n_mels"] == {"model": 20, "request": 24}
    answer = client.post("/synthesize?mel_config=hifigan-22k", content=encode_mel(array, models.MEL_CONFIG, "npz"))
    assert answer.status_code == 422
    assert "the body and of the query differ in sample_rate 8000 against 22050, n_fft" in answer.json()["detail"]
    answer = client.post("/synthesize?mel_config=hifigan-23k", content=npy(array))
    assert answer.status_code == 422
    assert "unknown mel config 'hifigan-23k'" in answer.json()["detail"]


def test_a_mel_that_looks_like_another_mel_config_gets_a_warning(client: ServerClient) -> None:
    loud = mel(20) + 15
    assert "it looks like" in client.post("/synthesize", content=npy(loud)).headers["mel-warning"]
    assert "mel-warning" not in client.post("/synthesize", content=npy(mel(20))).headers
    told = client.post("/synthesize", content=encode_mel(loud, models.MEL_CONFIG, "npz"))  # it states its mel config
    assert told.status_code == 200
    assert "mel-warning" not in told.headers


def test_a_batch_equals_its_utterances_alone(model: ServedModel) -> None:
    lengths = [100, 100, 117, 130, 3, 1, 160, 90, 400, 120]
    go = threading.Event()
    vocoder = held(model.vocoder, go)
    with (
        serving(model, ServedModel("slow", vocoder), max_batch=4, max_requests=20) as client,
        ThreadPoolExecutor(20) as pool,
    ):

        def ask(index: int) -> httpx.Response:
            body = npy(mel(lengths[index], index))
            return client.post("/synthesize", params={"format": "raw", "seed": index}, content=body)

        first = pool.submit(client.post, "/synthesize?model=slow", content=npy(mel(5)))
        eventually(lambda: calls(vocoder))  # the thread is busy: the others wait
        asked = [pool.submit(ask, index) for index in range(len(lengths))]
        eventually(lambda: waiting(client) == len(lengths))
        go.set()
        answers = [request.result() for request in asked]
        assert first.result().status_code == 200
        for index, answer in enumerate(answers):
            same(pcm(answer), to_pcm(model.vocoder(mel(lengths[index], index), seed=index)))
        batches = metric(client, "vocoders_batch_size_count")
        assert metric(client, "vocoders_batch_size_sum") == len(lengths) + 1
        assert batches == 1 + 3  # 4 + 4 + 2


def test_a_batch_keeps_the_precision_of_the_model(model: ServedModel) -> None:
    checkpoint, go = models.checkpoint(), threading.Event()
    half, vocoder = ServedModel("half", Vocoder(checkpoint, precision="bfloat16")), held(model.vocoder, go)
    with serving(ServedModel("slow", vocoder), half, max_batch=4) as client, ThreadPoolExecutor(5) as pool:

        def ask(index: int) -> np.ndarray:
            return pcm(client.post(f"/synthesize?model=half&format=raw&seed={index}", content=npy(mel(60, index))))

        first = pool.submit(client.post, "/synthesize", content=npy(mel(5)))
        eventually(lambda: calls(vocoder))  # the thread is busy: the others wait
        asked = [pool.submit(ask, index) for index in range(4)]
        eventually(lambda: waiting(client) == 4)
        go.set()
        answers = [request.result() for request in asked]
        assert first.result().status_code == 200
        assert metric(client, "vocoders_batch_size_count") == 2
    for index, answer in enumerate(answers):
        low, full = (to_pcm(voc(mel(60, index), seed=index)).astype(int) for voc in (half.vocoder, model.vocoder))
        assert np.abs(answer - low).mean() < np.abs(answer - full).mean() / 10


def talk(port: int, array: np.ndarray, sizes: list[int], query: str = "") -> tuple[dict[str, int], np.ndarray]:
    """What the server says first, and the audio of a whole stream."""
    with connect(f"ws://127.0.0.1:{port}/stream{query}") as socket:
        hello = json.loads(socket.recv())
        begin = 0
        for size in sizes:
            socket.send(np.ascontiguousarray(array[:, begin : begin + size].T).astype("<f4").tobytes())
            begin += size
        assert begin == array.shape[1]
        socket.send("end")
        pieces = [piece for piece in socket if isinstance(piece, bytes)]  # until it is closed
    assert socket.protocol.close_code == 1000
    return hello, np.frombuffer(b"".join(pieces), "<i2")


def test_a_stream_equals_the_whole(client: ServerClient, model: ServedModel) -> None:
    array = mel(300)
    source = random.Random(0)
    sizes: list[int] = []
    while sum(sizes) < 300:
        sizes.append(min(source.choice([1, 2, 10, 70]), 300 - sum(sizes)))
    hello, audio = talk(client.port, array, sizes, "?seed=3")
    expected = {"sample_rate": 8000, "channels": 1, "n_mels": 20, "inputs": [], "lookahead": model.vocoder.lookahead}
    assert hello == expected
    same(audio, to_pcm(model.vocoder(array, seed=3)))
    _, audio = talk(client.port, array[:, :1], [1])
    same(audio, to_pcm(model.vocoder(array[:, :1])))


def test_streams_and_short_requests_do_not_wait_for_a_long_one(model: ServedModel) -> None:
    with serving(model) as client, ThreadPoolExecutor(3) as pool:
        done: list[str] = []

        def ask(name: str, frames: int) -> None:
            assert client.post("/synthesize", content=npy(mel(frames))).status_code == 200
            done.append(name)

        long = pool.submit(ask, "long", 60_000)
        eventually(lambda: metric(client, "vocoders_synthesis_seconds_total") > 0)
        pool.submit(ask, "short", 50).result()
        _, audio = talk(client.port, mel(100), [50, 50])
        done.append("stream")
        assert len(audio) == 3200
        long.result()
        assert done == ["short", "stream", "long"]


def test_a_model_that_cannot_stream_is_served_whole() -> None:
    model = small_model("wavehax", framewise_norm=False)
    assert model.vocoder.lookahead is None
    with serving(model) as client:
        answer = client.post("/synthesize?format=raw", content=npy(mel(600)))
        assert np.array_equal(pcm(answer), to_pcm(model.vocoder(mel(600))))
        answer = client.post("/synthesize?stream=true", content=npy(mel(20)))
        assert answer.status_code == 422
        assert "cannot stream" in answer.json()["detail"]
        with pytest.raises(InvalidStatus) as refused:
            connect(f"ws://127.0.0.1:{client.port}/stream")
        assert refused.value.response.status_code == 422
        assert client.get("/models").json()[0]["lookahead"] is None


def test_analysis(client: ServerClient, model: ServedModel) -> None:
    for rate in (8000, 11025):
        sound = signals.voice(rate, 0.5).astype(np.float32)
        buffer = io.BytesIO()
        soundfile.write(buffer, sound, rate, format="FLAC", subtype="PCM_24")
        result = np.load(io.BytesIO(client.post("/mel", content=buffer.getvalue()).content))
        assert result.dtype == np.float32
        assert result.shape == (20, 125)
        assert np.allclose(result, model.vocoder.analyze(sound, rate), atol=1e-3)
    array = mel(20)
    result = np.load(io.BytesIO(client.post("/mel", json={"mel": array.tolist()}).content))
    assert np.array_equal(result, array)


def test_the_mel_of_a_mel_in_another_mel_config(client: ServerClient) -> None:
    array, own = mel(20), models.MEL_CONFIG
    fields = ("sample_rate", "n_fft", "hop_length", "win_length", "n_mels", "fmax", "epsilon")
    query = {"mel_config": "hifigan-22k:log=log10," + ",".join(f"{field}={getattr(own, field):g}" for field in fields)}
    answer = client.post("/mel", params=query, content=npy((array / np.log(10)).astype(np.float32)))
    assert np.allclose(np.load(io.BytesIO(answer.content)), array, atol=1e-5)
    answer = client.post("/mel?mel_config=hifigan-22k:n_mels=24", content=npy(array))
    assert (answer.status_code, answer.json()["differences"]["n_mels"]) == (409, {"model": 20, "request": 24})
    answer = client.post("/mel?mel_config=hifigan-22k", content=npy(signals_mel("hifigan-22k")))
    assert np.load(io.BytesIO(answer.content)).shape == (20, 146)  # 50 frames of 11.6 ms, in frames of 4 ms
    sound = encode_audio(signals.voice(8000, 0.5).astype(np.float32), 8000, "wav")
    answer = client.post("/mel", params=query, content=sound)
    assert answer.status_code == 422
    assert "'mel_config' is for a mel" in answer.json()["detail"]


def test_routes_that_describe_the_server(client: ServerClient) -> None:
    assert MelConfig(**client.get("/mel-config").json()) == models.MEL_CONFIG
    assert client.get("/mel-config?model=no").status_code == 404
    listed = client.get("/models").json()
    assert [(model["name"], model["default"]) for model in listed] == [
        ("hnmask", True),
        ("hifigan", False),
        ("required", False),
    ]
    assert client.get("/healthz").json() == {"status": "ok", "active_requests": 0, "max_requests": 64}
    client.post("/synthesize", content=npy(mel(20)))
    client.post("/synthesize", content=b"")
    eventually(lambda: metric(client, 'vocoders_requests_total{route="/synthesize",status="400"}') >= 1)
    assert metric(client, 'vocoders_requests_total{route="/synthesize",status="200"}') >= 1
    assert metric(client, "vocoders_audio_seconds_total") > 0
    assert metric(client, "process_resident_memory_bytes") > 2**20
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/synthesize", "/mel", "/mel-config", "/models", "/healthz", "/metrics"}
    assert {"400", "401", "409", "413", "503"} <= set(paths["/synthesize"]["post"]["responses"])
    body = paths["/synthesize"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"mel", "f0", "mel_config"}
    assert body["additionalProperties"]["type"] == ["array", "null"]  # any input of a model
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_token(model: ServedModel) -> None:
    with serving(model, token="a secret".replace(" ", "-")) as client:
        for path in ("/mel-config", "/models", "/metrics"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        for given in ("", "Bearer", "Bearer a-secre", "Bearer a-secret2", "Basic a-secret", "Bearer \u00e9"):
            header = {b"Authorization": given.encode("latin-1")}
            assert client.post("/synthesize", content=npy(mel(5)), headers=header).status_code == 401
            with pytest.raises(InvalidStatus) as refused:
                connect(f"ws://127.0.0.1:{client.port}/stream", additional_headers={"Authorization": given})
            assert refused.value.response.status_code == 401
        right = {"Authorization": "Bearer a-secret"}
        assert client.post("/synthesize", content=npy(mel(5)), headers=right).status_code == 200
        with connect(f"ws://127.0.0.1:{client.port}/stream", additional_headers=right) as socket:
            assert json.loads(socket.recv())["n_mels"] == 20
        for path in ("/", "/healthz", "/openapi.json"):
            assert client.get(path).status_code == 200


def signals_mel(name: str) -> np.ndarray:
    """Return 50 frames of a voice in a named mel config."""
    mel_config = MelConfig.parse(name)
    seconds = 50 * mel_config.hop_length / mel_config.sample_rate
    audio = signals.voice(mel_config.sample_rate, seconds).astype(np.float32)
    return analyze(audio, mel_config)[:, :50]


def test_a_mel_of_another_mel_config(client: ServerClient, model: ServedModel) -> None:
    array = signals_mel("hifigan-22k")
    adapted = model.vocoder.for_mel_config("hifigan-22k")
    expected = to_pcm(adapted(array))
    answer = client.post("/synthesize?format=raw&mel_config=hifigan-22k", content=npy(array))
    same(pcm(answer), expected)
    assert "sample_rate 22050 against 8000" in answer.headers["Mel-Warning"]
    body = encode_mel(array, MelConfig.parse("hifigan-22k"), "npz")
    audio, rate = soundfile.read(io.BytesIO(client.post("/synthesize", content=body).content), dtype="int16")
    assert rate == 22050
    same(audio, expected)
    with connect(f"ws://127.0.0.1:{client.port}/stream?mel_config=hifigan-22k") as socket:
        hello = json.loads(socket.recv())
        assert (hello["sample_rate"], hello["n_mels"], hello["lookahead"]) == (22050, 80, adapted.lookahead)
        for begin in range(0, 50, 10):
            socket.send(np.ascontiguousarray(array[:, begin : begin + 10].T).astype("<f4").tobytes())
        socket.send("end")
        same(np.frombuffer(b"".join(message for message in socket if isinstance(message, bytes)), "<i2"), expected)


def test_model_rate(client: ServerClient, model: ServedModel) -> None:
    array = signals_mel("hifigan-22k:hop_length=441,win_length=1024")
    query = "mel_config=hifigan-22k:hop_length=441,win_length=1024&model_rate=true"
    adapted = model.vocoder.for_mel_config("hifigan-22k:hop_length=441,win_length=1024", model_rate=True)
    answer = client.post(f"/synthesize?format=raw&{query}", content=npy(array))
    same(pcm(answer), to_pcm(adapted(array)))
    with connect(f"ws://127.0.0.1:{client.port}/stream?{query}") as socket:
        hello = json.loads(socket.recv())
    assert (hello["sample_rate"], adapted.sample_rate) == (8000, 8000)
    assert hello["warning"] == adapted.approximation


def test_the_model_follows_from_the_mel_config(model: ServedModel) -> None:
    builtin = ServedModel("hnmask-24k", load("hnmask-24k", backend="onnx"))
    with serving(model, builtin) as client:
        array = signals_mel("bigvgan-24k")
        expected = to_pcm(builtin.vocoder(array))
        stated = encode_mel(array, MelConfig.parse("bigvgan-24k"), "npz")
        same(pcm(client.post("/synthesize?format=raw&mel_config=bigvgan-24k", content=npy(array))), expected)
        same(pcm(client.post("/synthesize?format=raw", content=stated)), expected)
        own = mel(20)
        same(pcm(client.post("/synthesize?format=raw", content=npy(own))), to_pcm(model.vocoder(own)))
        with connect(f"ws://127.0.0.1:{client.port}/stream?mel_config=bigvgan-24k") as socket:
            hello = json.loads(socket.recv())
        assert (hello["sample_rate"], "warning" in hello) == (24000, False)
        assert "approximated" in client.post("/synthesize?model=hnmask", content=stated).headers["Mel-Warning"]


def test_frames_of_another_mel_config(client: ServerClient) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{client.port}/stream?mel_config=hifigan-22k:n_mels=24")
    assert refused.value.response.status_code == 409
    assert json.loads(refused.value.response.body)["differences"]["hop_length"] == {"model": 32, "request": 256}


def test_an_exported_model(exported: Exported) -> None:
    model = ServedModel("exported", exported("hnmask"))
    assert model.vocoder.lookahead is not None
    array = mel(700)
    expected = to_pcm(model.vocoder(array))
    with serving(model, max_batch=4) as client, ThreadPoolExecutor(4) as pool:
        queries = ["format=raw", "format=raw&stream=true"] * 2
        for answer in pool.map(lambda query: client.post(f"/synthesize?{query}", content=npy(array)), queries):
            same(pcm(answer), expected)
        hello, audio = talk(client.port, array, [300, 400])
        assert hello["lookahead"] == model.vocoder.lookahead
        same(audio, expected)


def test_an_exported_model_is_served_without_torch(exported: Exported, tmp_path: Path) -> None:
    with process(exported("hifigan").name, "--port", "0", cwd=tmp_path, forbidden=["torch"]) as (_, address):
        assert httpx.get(f"{address}/models").json()[0]["name"] == "hifigan"
        answer = httpx.post(f"{address}/synthesize?format=raw", content=npy(mel(30)), timeout=60)
        same(pcm(answer), to_pcm(exported("hifigan")(mel(30))))
