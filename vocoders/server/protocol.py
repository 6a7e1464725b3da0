"""Bodies in and out: mels as clients send them, audio as they want it, and why a request is refused."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vocoders.audio import encode_mel, read_audio, read_mel, resample, to_pcm
from vocoders.config import Config, bind
from vocoders.errors import MelMismatch, VocoderError
from vocoders.mel import MelSpec, suspicion
from vocoders.server.voices import Voice

Format = Literal["wav", "flac", "raw"]
MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "raw": "application/octet-stream"}

# JSON is read in one go that lets nobody else on, and its objects take many times the bytes that write them down.
_LARGEST_JSON = 4 * 2**20  # bytes
_MOST_TOKENS = 4096
_MOST_MEMBERS = 64  # of an archive, likewise
_MOST_SECONDS_AT_ONCE = 120.0  # of audio that cannot be worked on in pieces


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    body: bytes. seconds: of audio. patience: seconds that a request may wait for its audio, and that a client may keep
    the server waiting for the next bytes.
    """

    body: int = 64 * 2**20
    seconds: float = 600.0
    patience: float = 120.0

    @property
    def session(self) -> float:
        """Seconds that sending audio may take, and a whole stream: as long as the audio, and patience."""
        return self.seconds + self.patience


class Refused(Exception):
    """A request that cannot be served: an HTTP status, one sentence, and further fields of the answer."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}
        self.content = {"detail": detail, **more}


class MelBody(Config):
    """A mel as JSON."""

    mel: Any
    mel_spec: MelSpec | str | None = None


@dataclass(frozen=True)
class Mel:
    """values: float32 (n_mels, frames) in the model's convention; doubt: why they hardly are, if so."""

    values: np.ndarray
    doubt: str | None


def read_spec(text: str) -> MelSpec:
    """A convention by its name, with changes. Raises Refused."""
    try:
        return MelSpec.parse(text)
    except VocoderError as error:
        raise Refused(422, str(error)) from None


def decode_mel(data: bytes, voice: Voice, spec: MelSpec | None, limits: Limits) -> Mel:
    """The mel of a body (.npy, .npz or JSON) in the convention of ``voice``.

    spec: what the client says of it, if it says so elsewhere.
    Raises Refused: 400 for bytes that hold no mel, 409 for another convention, 413 for more frames than allowed, 422
    for a mel that does not fit.
    """
    array, own = _read(data, limits.body)
    if spec is not None and own is not None and spec != own:
        raise Refused(422, f"the body says that its convention is {own.name}, the request says {spec.name}")
    return fit(array, spec or own, voice, limits)


def fit(array: np.ndarray, spec: MelSpec | None, voice: Voice, limits: Limits) -> Mel:
    """The array in the convention of ``voice``; see ``decode_mel``."""
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim == 3:
        raise Refused(422, f"a request holds one mel, (n_mels, frames); this array is {array.shape}")
    seconds = voice.seconds(array.shape[1]) if array.ndim == 2 else 0.0
    most = limits.seconds if voice.lookahead is not None else min(limits.seconds, _MOST_SECONDS_AT_ONCE)
    if seconds > most:
        raise Refused(413, f"the mel has {array.shape[1]} frames, {seconds:.0f} s of audio; the most is {most:g} s")
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
            voice.vocoder.check_mel(array)
        values = convert(np.asarray(array, np.float32), spec, voice)
    except VocoderError as error:
        raise Refused(422, str(error)) from None
    return Mel(values, suspicion(values, voice.mel_spec) if spec is None else None)


def convert(values: np.ndarray, spec: MelSpec | None, voice: Voice) -> np.ndarray:
    """A mel of convention ``spec`` in that of ``voice``. Raises Refused, 409 with the fields that differ."""
    if spec is None or spec == voice.mel_spec:
        return values
    try:
        converted: np.ndarray = voice.vocoder.convert(values, spec)
    except MelMismatch as error:
        pairs = voice.mel_spec.differences(spec).items()
        raise Refused(
            409, str(error), differences={field: {"model": mine, "request": theirs} for field, (mine, theirs) in pairs}
        ) from None
    return converted


def _read(data: bytes, largest: int) -> tuple[np.ndarray, MelSpec | None]:
    if not data:
        raise Refused(400, "the body is empty; it must hold a mel: .npy, .npz or JSON")
    try:
        if data[:64].lstrip().startswith(b"{"):
            return _read_json(data)
        if data.count(b"PK\x01\x02") > _MOST_MEMBERS:
            raise VocoderError(f"the body is an archive of more than {_MOST_MEMBERS} members")
        if not data.startswith((b"PK", b"\x93NUMPY")):
            raise VocoderError("the body is neither .npy nor .npz nor a JSON object")
        return read_mel(data, "the body", largest)
    except VocoderError as error:
        raise Refused(400, str(error)) from None


def _read_json(data: bytes) -> tuple[np.ndarray, MelSpec | None]:
    if len(data) > _LARGEST_JSON:
        raise Refused(413, f"a body of JSON may have {_LARGEST_JSON >> 20} MiB; send a longer mel as .npy or .npz")
    if sum(data.count(mark) for mark in (b"[", b"{", b'"')) > _MOST_TOKENS:
        raise VocoderError("the body is JSON of too many parts; a mel is a list of n_mels lists of numbers")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise VocoderError(f"the body is not JSON ({error})") from None
    body = bind(MelBody, values, "the body")
    try:
        mel = np.array(body.mel)
    except (ValueError, RecursionError):
        mel = np.array(None)
    if mel.dtype.kind not in "fiu":
        raise VocoderError("'mel' must be a list of n_mels lists of numbers, all of one length")
    spec = MelSpec.parse(body.mel_spec) if isinstance(body.mel_spec, str) else body.mel_spec
    return mel.astype(np.float64), spec


def analyze(data: bytes, voice: Voice, limits: Limits) -> bytes:
    """The .npy of the mel, float32 (n_mels, frames), that ``voice`` gets from a mel or a sound file. Raises Refused."""
    if not data or data[:64].lstrip().startswith((b"{", b"PK", b"\x93NUMPY")):
        return encode_mel(np.ascontiguousarray(decode_mel(data, voice, None, limits).values), voice.mel_spec, "npy")
    try:
        sound = read_audio(data, "the body", min(limits.seconds, _MOST_SECONDS_AT_ONCE))
        audio = resample(sound.audio, sound.sample_rate, voice.mel_spec.sample_rate)
        return encode_mel(voice.vocoder.analyze(audio), voice.mel_spec, "npy")
    except VocoderError as error:
        raise Refused(400, str(error)) from None


# What a body holds, as OpenAPI has it.
MEL_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["mel"],
                    "additionalProperties": False,
                    "properties": {
                        "mel": {
                            "description": "n_mels lists of one number a frame",
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "array", "minItems": 1, "items": {"type": "number"}},
                        },
                        "mel_spec": {
                            "description": "the mel's convention, by name or by its fields, as /mel-spec gives them",
                            "type": ["string", "object", "null"],
                        },
                    },
                }
            },
            "application/octet-stream": {
                "schema": {"description": ".npy or .npz", "type": "string", "format": "binary"}
            },
        },
    }
}


class Encoder:
    """Audio to the bytes of a 16-bit sound file, piece by piece; joined, they are the file of ``samples`` samples."""

    def __init__(self, format: Format, sample_rate: int, samples: int) -> None:
        self._samples = samples
        self._file: Any = None
        self._sink = _Sink()
        if format == "wav":
            layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
            self._sink.write(struct.pack("<4sI4s", b"RIFF", 36 + 2 * samples, b"WAVE") + layout)
            self._sink.write(struct.pack("<4sI", b"data", 2 * samples))
        elif format == "flac":
            import soundfile

            self._file = soundfile.SoundFile(self._sink, "w", sample_rate, 1, format="FLAC")

    def __call__(self, audio: np.ndarray) -> bytes:
        """float32 (samples,) -> bytes, perhaps none; beyond [-1, 1] it is clipped."""
        if self._file is not None:
            self._file.write(to_pcm(audio))
        else:
            self._sink.write(to_pcm(audio).tobytes())
        return self._take()

    def finish(self) -> bytes:
        """The rest."""
        if self._file is not None:
            self._file.close()
        return self._take()

    def _take(self) -> bytes:
        first = self._sink.sent == 0
        data = self._sink.take()
        if self._file is not None and first and data:
            # STREAMINFO counts the samples in 36 bits; libFLAC goes back to write them when it knows them, too late.
            rest = struct.unpack_from(">Q", data, 18)[0] >> 36 << 36
            data = data[:18] + struct.pack(">Q", rest | self._samples) + data[26:]
        return data


class _Sink:
    """A file of which only the part that was not taken yet is kept; what is written before it is dropped."""

    def __init__(self) -> None:
        self.sent = 0
        self._place = 0
        self._new = bytearray()

    def write(self, data: Any) -> int:
        begin = self._place - self.sent
        if begin >= 0:
            self._new[begin : begin + len(data)] = data
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = (0, self._place, self.sent + len(self._new))[whence] + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int) -> bytes:
        return b""

    def take(self) -> bytes:
        data = bytes(self._new)
        self.sent += len(data)
        self._new.clear()
        return data
