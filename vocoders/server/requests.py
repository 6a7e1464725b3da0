"""Limits, decoding and errors of requests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from pydantic import create_model

from vocoders.config import Config, bind
from vocoders.dsp.adaptation import adapter
from vocoders.dsp.mel import MelConfig, list_differences
from vocoders.errors import MelMismatch, VocoderError
from vocoders.inference.checks import prepare_mel
from vocoders.inputs import Input, Values, accepted
from vocoders.io.audio import Sound, SoundTooLong, read_audio
from vocoders.io.mels import decode_mel, encode_mel, read_inputs, unpacked_bytes
from vocoders.server.registry import ServedModel

_NPY = b"\x93NUMPY"
# JSON decoding blocks all other requests and takes many times the memory of the text.
_MAX_JSON = 4 * 2**20  # bytes
_MAX_JSON_TOKENS = 4096  # lists, objects and strings
_MAX_JSON_DEPTH = 3  # nested lists
_MAX_MEMBERS = 64  # per archive
_MAX_SECONDS_AT_ONCE = 120.0  # of audio processed as a whole
_MAX_SOUND = 64 * 2**20  # bytes decoded: 120 s at 139 kHz
_MAX_DECODING = 10.0  # seconds; 120 s of sound take less than one


@dataclass(frozen=True)
class Limits:
    """Limits of one request.

    Attributes:
        max_body: bytes.
        max_seconds: seconds of audio.
        timeout: seconds to wait for the audio, or for the client's next bytes.
    """

    max_body: int = 64 * 2**20
    max_seconds: float = 600.0
    timeout: float = 120.0

    @property
    def session_timeout(self) -> float:
        """Seconds for a stream or a response: the longest audio plus the timeout."""
        return self.max_seconds + self.timeout


class RequestError(Exception):
    """A refused request: HTTP status, headers, and a JSON body with ``detail`` and ``fields``."""

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None, **fields: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}
        self.content = {"detail": detail, **fields}


class SynthesisInput(NamedTuple):
    """Decoded input of a model.

    Attributes:
        model: the model, for mels of the mel config of this one.
        mel: float32 (n_mels, frames) in the model's mel config.
        values: the other inputs, (1, channels, length) by name.
        warning: a sentence when the values look like another mel config, or the mel is approximated.
    """

    model: ServedModel
    mel: np.ndarray
    values: Values
    warning: str | None


@dataclass(frozen=True)
class Target:
    """The model that a query asks for.

    Attributes:
        models: the named model, or all, the default first.
        mel_config: of the mel; None if not stated.
        model_rate: whether audio keeps the model's sample rate.
    """

    models: Sequence[ServedModel]
    mel_config: MelConfig | None = None
    model_rate: bool = False

    @property
    def inputs(self) -> list[Input]:
        """Inputs that any of the models takes."""
        return list(
            {item.name: item for model in self.models for item in accepted(model.vocoder.facts.inputs)}.values()
        )

    def model(self, mel_config: MelConfig | None) -> ServedModel:
        """Return the best model for mels of ``mel_config``, the default for None.

        Raises RequestError 409 with the differences if it cannot take them.
        """
        if mel_config is None:
            return self.models[0]
        best = max(self.models, key=lambda model: mel_config.fit(model.mel_config))
        try:
            return best.for_mel_config(mel_config, self.model_rate)
        except MelMismatch as error:
            pairs = best.mel_config.differences(mel_config).items()
            differences = {field: {"model": own, "request": other} for field, (own, other) in pairs}
            raise RequestError(409, str(error), differences=differences) from None


class JSONBody(Config):
    """Schema of a JSON body, to which the inputs of a model are added."""

    mel: Any
    mel_config: Any = None


class _Body(NamedTuple):
    """Stored arrays and mel config of a body."""

    mel: np.ndarray
    values: dict[str, np.ndarray]
    mel_config: MelConfig | None


def decoded_bytes(data: bytes, target: Target, max_size: int) -> int:
    """Return the most bytes that decoding takes; ``max_size`` bounds each array of an archive.

    RequestError 400 for an archive of many members, slow to list.
    """
    if _is_json(data):
        return 10 * min(len(data), _MAX_JSON)  # "0.1," becomes a list item, then an array item
    if data.startswith(b"PK"):
        if data.count(b"PK\x01\x02") > _MAX_MEMBERS:
            raise RequestError(400, f"the body is an archive of more than {_MAX_MEMBERS} members")
        return 2 * unpacked_bytes(data, target.inputs, max_size)  # in two dtypes
    return 2 * (len(data) if data.startswith(_NPY) else _MAX_SOUND)


def decode_body(data: bytes, target: Target, limits: Limits) -> SynthesisInput:
    """Decode a body (.npy, .npz or JSON), choose the model, and validate and convert the mel for it.

    Raises RequestError 400 for an unreadable body or no mel, 409 for a mel config that
    the model cannot take, 413 for too many frames, 422 if query and body differ; VocoderError for values that do not
    fit the model.
    """
    body = _read_body(data, target.inputs, limits.max_body)
    stated = body.mel_config
    if target.mel_config is not None and stated is not None and target.mel_config != stated:
        listed = list_differences(stated.differences(target.mel_config))
        raise RequestError(422, f"the mel configs of the body and of the query differ in {listed}; state only one")
    source = target.mel_config or stated
    model = target.model(source)
    mel = body.mel[0] if body.mel.ndim == 3 and len(body.mel) == 1 else body.mel
    if mel.ndim == 3:
        raise RequestError(422, f"a request holds one mel, (n_mels, frames); this array is {mel.shape}")
    if mel.ndim == 2:
        _check_length(mel.shape[1], model, limits)
    with np.errstate(over="ignore"):  # overflow of float32 is refused as infinite
        values, warning = prepare_mel(mel, model.mel_config, source)
        names = {item.name for item in accepted(model.vocoder.facts.inputs)}
        taken = {name: value for name, value in body.values.items() if name in names or _is_json(data)}
        given = model.vocoder.check_inputs(taken, 1, values.shape[1])
    sentence = warning.sentence("?mel_config={}") if warning else model.vocoder.approximation
    return SynthesisInput(model, values, given, sentence)


def _check_length(frames: int, model: ServedModel, limits: Limits) -> None:
    seconds, limit = model.seconds(frames), limits.max_seconds
    if model.vocoder.lookahead is None:
        limit = min(limit, _MAX_SECONDS_AT_ONCE)
    if seconds > limit:
        raise RequestError(413, f"the mel has {frames} frames, {seconds:.0f} s of audio; the limit is {limit:g} s")


def _is_json(data: bytes) -> bool:
    return data[:64].lstrip().startswith(b"{")


def _read_body(data: bytes, inputs: Sequence[Input], max_size: int) -> _Body:
    if not data:
        raise RequestError(400, "the body is empty; it must hold a mel: .npy, .npz or JSON")
    try:
        if not _is_json(data):
            return _read_arrays(data, inputs, max_size)
        fields = _read_json(data, inputs)
        mel = _numbers(fields.mel, "'mel' must be a list of n_mels lists of numbers, all of one length")
    except VocoderError as error:
        raise RequestError(400, str(error)) from None
    values = {}
    for item in inputs:
        if (value := getattr(fields, item.name)) is not None:
            what = {"frame": "one number a frame", "sample": "one number a sample", "utterance": "numbers"}[item.rate]
            lists = "lists" if item.channels > 1 and item.is_signal else "a list"
            values[item.name] = _numbers(value, f"'{item.name}' must be {lists} of {what}")
    return _Body(mel, values, _read_mel_config(fields.mel_config))


def _read_arrays(data: bytes, inputs: Sequence[Input], max_size: int) -> _Body:
    if not data.startswith((b"PK", _NPY)):
        raise VocoderError(
            "the body is neither .npy nor .npz nor a JSON object; send the file itself, not a form; sound files go to "
            "/mel"
        )
    mel, mel_config = decode_mel(data, "the body", max_size)
    values = read_inputs(data, "the body", inputs, max_size)
    return _Body(mel, values, mel_config)


def _read_json(data: bytes, inputs: Sequence[Input]) -> Any:
    if len(data) > _MAX_JSON:
        raise RequestError(413, f"a body of JSON may have {_MAX_JSON >> 20} MiB; send a longer mel as .npy or .npz")
    if sum(data.count(mark) for mark in (b"[", b"{", b'"')) > _MAX_JSON_TOKENS:
        raise VocoderError("the body is JSON of too many parts; a mel is a list of n_mels lists of numbers")
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise VocoderError(f"the body is not JSON ({error})") from None
    fields: dict[str, Any] = {item.name: (Any, None) for item in inputs}
    return bind(create_model("JSONBody", __base__=JSONBody, **fields), values, "the body")


def _read_mel_config(value: Any) -> MelConfig | None:
    """Read a body's mel config: a name, all fields, or nothing."""
    if value is None:
        return None
    if isinstance(value, str):
        return MelConfig.parse(value)
    if isinstance(value, dict):
        return bind(MelConfig, value, "'mel_config'")
    raise VocoderError("'mel_config' must be a name, such as \"hifigan-22k\", or an object of all fields")


def _numbers(values: Any, requirement: str) -> np.ndarray:
    """Convert nested lists of numbers to float64; ``requirement`` is the error."""
    try:
        if isinstance(values, list) and _holds_numbers(values, _MAX_JSON_DEPTH):
            return np.array(values, np.float64)
    except (ValueError, OverflowError):  # ragged lists, a number of 400 digits
        pass
    raise VocoderError(requirement)


def _holds_numbers(values: list[Any], depth: int) -> bool:
    """Tell whether all values are (lists of) numbers; numpy converts texts to arrays of any size."""
    kinds = set(map(type, values))
    return kinds <= {int, float} or (
        kinds == {list} and depth > 1 and all(_holds_numbers(part, depth - 1) for part in values)
    )


def analyze_body(data: bytes, target: Target, limits: Limits) -> bytes:
    """Compute the model's mel, float32 (n_mels, frames) as an .npy, from a sound file or a mel.

    Raises as ``decode_body``; for a sound file RequestError 400 if unreadable, 413 if too long, 422 with a mel config.
    """
    if not data:
        raise RequestError(400, "the body is empty; it must hold a mel (.npy, .npz or JSON) or a sound file")
    if _is_json(data) or data.startswith((b"PK", _NPY)):
        given = decode_body(data, target, limits)
        model = next(model for model in target.models if model.name == given.model.name)  # unadapted
        mel = np.ascontiguousarray(adapter(given.model.mel_config, model.mel_config)(given.mel))
    else:
        sound = _read_sound(data, limits)
        if target.mel_config is not None:
            raise RequestError(422, "'mel_config' is for a mel; the mel of a sound file has the model's mel config")
        model = target.models[0]
        mel = model.vocoder.analyze(sound.audio, sound.sample_rate)
    return encode_mel(mel, model.mel_config, "npy")


def _read_sound(data: bytes, limits: Limits) -> Sound:
    try:
        timeout = min(limits.timeout, _MAX_DECODING)
        return read_audio(data, "the body", min(limits.max_seconds, _MAX_SECONDS_AT_ONCE), _MAX_SOUND, timeout)
    except SoundTooLong as error:
        raise RequestError(413, str(error)) from None
    except VocoderError as error:
        raise RequestError(400, str(error)) from None
