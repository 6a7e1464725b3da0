"""Bad requests are refused with a status and one sentence, and affect no other request."""

import io
import json
import os
import pickle
import struct
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.support.commands import HELLO
from tests.support.server import ServerClient, eventually, mel, npy, serving
from vocoders.io.audio import encode_audio
from vocoders.server import scheduler
from vocoders.server.registry import ServedModel

pytestmark = pytest.mark.filterwarnings("ignore::vocoders.errors.MelWarning")


@pytest.fixture(scope="module")
def client(model: ServedModel) -> Iterator[ServerClient]:
    with serving(model, limits={"max_body": 5 * 2**20, "max_seconds": 60.0, "timeout": 5.0}) as client:
        yield client


def archive(method: int, name: str = "mel.npy", data: bytes | None = None, more: bytes = b"") -> bytes:
    """An .npz with an array, and a mel config ``more``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr(name, npy(mel(5)) if data is None else data)
        if more:
            file.writestr("mel_config.npy", more)
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


def array(descr: str, shape: str, data: bytes = b"") -> bytes:
    """An .npy of this header."""
    return header(f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}") + data


class Hostile:
    """Makes a folder in the working folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


def packed(mel_config: str) -> bytes:
    return archive(zipfile.ZIP_DEFLATED, more=npy(np.array(mel_config)))


def packed_bytes(descr: str, data: bytes) -> bytes:
    return archive(0, more=array(descr, "()", data))


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
    "nothing for ever": (array("|V0", "(4611686018427387904,)"), 400, "header claims the shape (46116860184273879"),
    "much nothing": (array("|V0", "(1073741824,)"), 400, "the body holds |V0; expected an array of floats"),
    "text of no letters": (array("<U0", "(4611686018427387904,)"), 400, "claims the shape (4611686018427387904,)"),
    "text of few letters": (array("<U0", "(1073741824,)"), 400, "the body holds <U0; expected an array of floats"),
    "negative sizes": (array("<f4", "(-20, -4)", bytes(320)), 400, "its header claims the shape (-20, -4)"),
    "a negative size": (array("<f4", "(-1,)"), 400, "its header claims the shape (-1,)"),
    "sizes of truth": (array("<f4", "(True, 4)", bytes(16)), 400, "its header claims the shape (True, 4)"),
    "65 dimensions": (array("<f4", f"({'1,' * 65})", bytes(4)), 400, "its header claims the shape (1, 1, 1,"),
    "9 dimensions": (array("<f4", f"({'1,' * 9})", bytes(4)), 400, "its header claims the shape (1, 1, 1,"),
    "a large size beside 0": (array("<f4", "(0, 9223372036854775808)"), 400, "the shape (0, 9223372036854775808)"),
    "large sizes beside 0": (array("<f4", "(0, 4294967296, 4294967296)"), 400, "the shape (0, 4294967296, 4294967296)"),
    "records": (array("<f4,<f4", "(4,)", bytes(32)), 400, "the body holds [('f0', '<f4'), ('f1', '<f4')]"),
    "bytes of bytes": (array("|S80", "(20,)", bytes(1600)), 400, "the body holds |S80"),
    "dates": (array("<M8[s]", "(20,)", bytes(160)), 400, "the body holds datetime64[s]"),
    "long doubles": (array("<f16", "(20, 4)", bytes(1280)), 400, "expected an array of floats"),
    "half surrogates": (b'{"mel": [[1.0]], "mel_config": "\\ud800"}', 422, "unknown mel config '\\ud800'; known: "),
    "a half surrogate key": (b'{"mel": [[1.0]], "\\udfff": 1}', 400, "unable to parse raw data as a unicode string"),
    "a JSON of long text": (b'{"mel": [["' + b"a" * 2**21 + b'"' + b', "b"' * 2000 + b"]]}", 400, "must be a list of"),
    "lists and numbers": (b'{"mel": [[1.0], 1.0]}', 400, "must be a list of n_mels lists of numbers"),
    "a long mel config": (
        json.dumps({"mel": [[1.0]], "mel_config": "hifigan-22k:" + ",".join(f"k{n}=1" for n in range(10**5))}).encode(),
        422,
        "unknown mel config 'hifigan-22k'",
    ),
    "a mel config of many keys": (
        json.dumps({"mel": [[1.0]], "mel_config": {f"k{n}": 1 for n in range(2000)}}).encode(),
        422,
        "; and ",
    ),
    "an npz of a large mel config": (packed('"' + "a" * 2**15 + '"'), 400, "more than 65536 are refused"),
    "an npz of a deep mel config": (packed("[" * 16000), 400, "the mel config stored in the body is not JSON"),
    "an npz of no Unicode": (packed_bytes("<U1", b"\xff\xff\xff\xff"), 400, "holds no valid Unicode"),
    "an npz of half Unicode": (packed_bytes("<U1", b"\x00\xd8\x00\x00"), 400, "holds no valid Unicode"),
    "an npz of mel configs": (archive(0, data=npy(mel(5)), more=npy(np.array(["a", "b"]))), 400, "not one string"),
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
    "a form": (b'--x\r\nContent-Disposition: form-data; name="mel"\r\n\r\n', 400, "send the file itself, not a form"),
    "a sound file": (b"RIFF\x24\x00\x00\x00WAVEfmt ", 400, "sound files go to /mel"),
    "an unknown mel config": (b'{"mel": [[1.0]], "mel_config": "none"}', 422, "unknown mel config 'none'"),
    "half a mel config": (b'{"mel": [[1.0]], "mel_config": {"n_fft": 3}}', 422, "'mel_config': key 'sample_rate' is"),
    "a mel config of a number": (b'{"mel": [[1.0]], "mel_config": 5}', 422, "'mel_config' must be a name"),
    "a mel config of a list": (b'{"mel": [[1.0]], "mel_config": ["n_fft"]}', 422, "or an object of all fields"),
    "a deep mel config": (
        b'{"mel": [[1.0]], "mel_config": {"n_fft": ' + b"[" * 900 + b"]" * 900 + b"}}",
        422,
        "'mel_config': key 'sample_rate' is missing",
    ),
    "80 bands": (npy(np.zeros((80, 4), np.float32)), 422, "expects 20 bands (custom), this mel has 80"),
    "transposed": (npy(mel(12).T.copy()), 422, "looks transposed"),
    "1-D": (npy(np.zeros(20, np.float32)), 422, "this one is 1-D"),
    "4-D": (npy(np.zeros((1, 1, 20, 4), np.float32)), 422, "this one is 4-D"),
    "two": (npy(np.zeros((2, 20, 4), np.float32)), 422, "a request holds one mel"),
    "no frames": (npy(np.zeros((20, 0), np.float32)), 422, "the mel is empty"),
    "whole numbers": (npy(np.zeros((20, 4), np.int32)), 422, "must hold floats"),
    "complex numbers": (npy(np.zeros((20, 4), np.complex64)), 400, "expected an array of floats"),
    "text in an npy": (npy(np.array(["a"])), 400, "expected an array of floats"),
    "infinity": (npy(np.full((20, 4), np.inf, np.float32)), 422, "80 NaN or infinite values of 80"),
    "NaN": (json.dumps({"mel": [[float("nan")]] * 20}).encode(), 422, "20 NaN or infinite values of 20"),
    "more than float32": (npy(np.full((20, 4), 1e300)), 422, "80 NaN or infinite values"),
    "beyond the model": (npy(np.full((20, 4), 1e38, np.float32)), 422, "the model's output is not finite"),
    "61 s": (npy(np.zeros((20, 15250), np.float16)), 413, "15250 frames, 61 s of audio; the limit is 60 s"),
    "a large JSON": (b'{"mel": [' + b"0," * 2**21, 413, "JSON may have 4 MiB"),
    "a large body": (bytes(5 * 2**20 + 1), 413, "more than 5242880 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bodies(name: str, client: ServerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    body, status, sentence = BAD[name]
    answer = client.post("/synthesize", content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
    assert sentence in answer.json()["detail"]
    assert "MelConfig" not in answer.json()["detail"]
    assert not list(tmp_path.iterdir())
    eventually(lambda: client.scheduler.active_requests == 0)
    assert client.post("/synthesize", content=GOOD).status_code == 200


def at_2_ghz(wav: bytes) -> bytes:
    return wav[:24] + struct.pack("<I", 2 * 10**9) + wav[28:]


def test_bad_sound_files(client: ServerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vocoders.server.requests._MAX_SOUND", 2**22)
    for body, status, sentence in (
        (b"", 400, "the body is empty; it must hold a mel (.npy, .npz or JSON) or a sound file"),
        (b"hello", 400, "not a readable sound file"),
        (encode_audio(np.zeros(61 * 8000, np.float32), 8000, "wav"), 413, "the body is longer than 60 s"),
        (encode_audio(np.zeros(61 * 8000, np.float32), 8000, "flac"), 413, "the body is longer than 60 s"),
        (encode_audio(np.zeros(5, np.float32), 8000, "wav"), 422, "the audio is shorter than one frame"),
        (at_2_ghz(encode_audio(np.zeros(2**21 + 1, np.float32), 8000, "wav")), 413, "more than 1048576 samples"),
    ):
        answer = client.post("/mel", content=body)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json"), answer.text
        assert sentence in answer.json()["detail"]


def test_unknown_parameters(client: ServerClient) -> None:
    for path, query, hint in (
        ("/synthesize", "fromat=flac", "did you mean 'format'?"),
        ("/synthesize", "f0=true", "known: model, format, stream, seed, mel_config, model_rate"),
        ("/mel", "modle=hnmask&seed=1", "did you mean 'model'?"),
    ):
        answer = client.post(f"{path}?{query}", content=GOOD)
        assert answer.status_code == 422
        assert answer.json()["detail"] == f"unknown query parameter '{query.partition('=')[0]}' ({hint})"
    assert client.get("/mel-config?name=hnmask").status_code == 422
    assert client.get("/models?x=1").status_code == 200  # it takes none
    answer = client.post("/synthesize?seed=1&format=wav&seed=2", content=GOOD)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "query parameter 'seed' is given more than once"
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{client.port}/stream?sed=1")
    assert refused.value.response.status_code == 422
    assert json.loads(refused.value.response.body)["detail"].endswith("(did you mean 'seed'?)")


def test_bad_parameters(client: ServerClient) -> None:
    for query, sentence in {
        "seed=-1": "query parameter 'seed': Input should be greater than or equal to 0",
        "seed=9223372036854775808": "'seed': Input should be less than 9223372036854775808",
        "format=mp3": "'format': Input should be 'wav', 'flac' or 'raw'",
        "stream=perhaps": "'stream': Input should be a valid boolean",
        "mel_config=none": "unknown mel config 'none'",
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


def test_bodies_without_a_content_length(client: ServerClient) -> None:
    def chunks(count: int) -> Iterator[bytes]:
        yield from (bytes(2**16) for _ in range(count))

    answer = client.post("/synthesize", content=iter([GOOD[:100], GOOD[100:]]))
    assert answer.status_code == 200
    assert client.post("/synthesize", content=chunks(100)).status_code == 413


@pytest.mark.parametrize(
    ("messages", "code", "sentence"),
    [
        ([b"abc"], 1007, "expected whole frames of 20 float32 each, 80 bytes, or the text 'end'; got 3 bytes"),
        (["stop"], 1007, "got the text 'stop'"),
        (["end"], 1007, "the stream ended before its first frame"),
        ([b"\x00" * 80, "end", b"\x00" * 80], 1007, "a message came after 'end'"),
        ([np.full(20, np.nan, "<f4").tobytes()], 1007, "20 NaN or infinite values"),
        ([np.zeros((12000, 20), "<f4").tobytes()] * 2, 1009, "longer than 60 s"),
        ([bytes(2**20 + 80)], 1009, ""),
    ],
)
def test_bad_streams(
    messages: list[str | bytes], code: int, sentence: str, client: ServerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, genuine = threading.Event(), scheduler._synthesize
    if "end" not in messages[:-1]:  # else the audio would be ready, and the stream over, before the next message comes
        go.set()
    monkeypatch.setattr(scheduler, "_synthesize", lambda steps: genuine(steps) if go.wait(300) else [])
    with connect(f"ws://127.0.0.1:{client.port}/stream") as stream:
        stream.recv()
        output = ""
        try:
            for message in messages:
                stream.send(message)
            for answer in stream:
                if isinstance(answer, str):
                    output = json.loads(answer)["detail"]
        except ConnectionClosed:
            pass
    go.set()
    assert stream.protocol.close_code == code
    assert sentence in output
    eventually(lambda: client.scheduler.active_requests == 0)
    assert client.post("/synthesize", content=GOOD).status_code == 200
