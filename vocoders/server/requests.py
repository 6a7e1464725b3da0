"""Bodies in and out: mels as clients send them, audio as they want it, and why a request is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from vocoders.config import Config, bind
from vocoders.dsp.mel import MelConfig, diagnose
from vocoders.errors import MelMismatch, VocoderError
from vocoders.inference.checks import prepare_mel
from vocoders.io.audio import read_audio, resample
from vocoders.io.mels import encode_mel, read_mel
from vocoders.server.registry import Voice

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
    mel_config: MelConfig | str | None = None


@dataclass(frozen=True)
class Mel:
    """values: float32 (n_mels, frames) in the model's mel config; doubt: why they hardly are, if so."""

    values: np.ndarray
    doubt: str | None


def parse_mel_config(text: str) -> MelConfig:
    """A mel config by its name, with changes. Raises Refused."""
    try:
        return MelConfig.parse(text)
    except VocoderError as error:
        raise Refused(422, str(error)) from None


def decode_mel(data: bytes, voice: Voice, mel_config: MelConfig | None, limits: Limits) -> Mel:
    """The mel of a body (.npy, .npz or JSON) in the mel config of ``voice``.

    mel_config: what the client says of it, if it says so elsewhere.
    Raises Refused: 400 for bytes that hold no mel, 409 for another mel config, 413 for more frames than allowed, 422
    for a mel that does not fit.
    """
    array, own = _read(data, limits.body)
    if mel_config is not None and own is not None and mel_config != own:
        raise Refused(422, f"the body says that its mel config is {own.name}, the request says {mel_config.name}")
    return fit(array, mel_config or own, voice, limits)


def fit(array: np.ndarray, mel_config: MelConfig | None, voice: Voice, limits: Limits) -> Mel:
    """The array in the mel config of ``voice``; see ``decode_mel``."""
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
            prepare_mel(array, voice.mel_config, voice.mel_config)
        values = convert(np.asarray(array, np.float32), mel_config, voice)
    except VocoderError as error:
        raise Refused(422, str(error)) from None
    return Mel(values, diagnose(values, voice.mel_config) if mel_config is None else None)


def convert(values: np.ndarray, mel_config: MelConfig | None, voice: Voice) -> np.ndarray:
    """A mel of mel config ``mel_config`` in that of ``voice``. Raises Refused, 409 with the fields that differ."""
    if mel_config is None or mel_config == voice.mel_config:
        return values
    try:
        converted: np.ndarray = voice.vocoder.convert(values, mel_config)
    except MelMismatch as error:
        pairs = voice.mel_config.differences(mel_config).items()
        raise Refused(
            409, str(error), differences={field: {"model": mine, "request": theirs} for field, (mine, theirs) in pairs}
        ) from None
    return converted


def _read(data: bytes, largest: int) -> tuple[np.ndarray, MelConfig | None]:
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


def _read_json(data: bytes) -> tuple[np.ndarray, MelConfig | None]:
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
    mel_config = MelConfig.parse(body.mel_config) if isinstance(body.mel_config, str) else body.mel_config
    return mel.astype(np.float64), mel_config


def analyze(data: bytes, voice: Voice, limits: Limits) -> bytes:
    """The .npy of the mel, float32 (n_mels, frames), that ``voice`` gets from a mel or a sound file. Raises Refused."""
    if not data or data[:64].lstrip().startswith((b"{", b"PK", b"\x93NUMPY")):
        return encode_mel(np.ascontiguousarray(decode_mel(data, voice, None, limits).values), voice.mel_config, "npy")
    try:
        sound = read_audio(data, "the body", min(limits.seconds, _MOST_SECONDS_AT_ONCE))
        audio = resample(sound.audio, sound.sample_rate, voice.mel_config.sample_rate)
        return encode_mel(voice.vocoder.analyze(audio, voice.mel_config.sample_rate), voice.mel_config, "npy")
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
                        "mel_config": {
                            "description": "what the mel was made with: a name, or the fields that /mel-config gives",
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
