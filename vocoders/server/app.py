"""The routes."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, TypeVar

import anyio
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect, HTTPConnection

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.server.encoding import MEDIA_TYPES, Encoder, Format
from vocoders.server.http import AudioResponse, Client, declared_size, read_body
from vocoders.server.metrics import Metrics
from vocoders.server.middleware import Door
from vocoders.server.registry import Voice
from vocoders.server.requests import MEL_BODY, Limits, Refused, analyze, decode_mel, parse_mel_config
from vocoders.server.scheduler import Busy, Scheduler, Utterance
from vocoders.server.websocket import converse

T = TypeVar("T")

# The page brings all it needs; it may talk to this server and play what it gets.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; media-src blob:"
)


@dataclass
class State:
    """What the routes share."""

    voices: dict[str, Voice]
    limits: Limits
    token: str | None
    scheduler: Scheduler
    metrics: Metrics
    decoding: anyio.CapacityLimiter  # bodies that are taken apart at a time

    def voice(self, name: str | None) -> Voice:
        """Raises Refused, 404."""
        name = name or next(iter(self.voices))
        if name not in self.voices:
            raise Refused(404, f"there is no voice {name!r} here; there are: {', '.join(self.voices)}")
        return self.voices[name]

    def admit(self, voice: Voice, seed: int, live: bool, size: int = 0) -> Utterance:
        """A place for an utterance whose request holds ``size`` bytes. Raises Refused and Busy."""
        if live and voice.lookahead is None:
            raise Refused(422, f"the voice '{voice.name}' cannot stream: its audio depends on the whole mel")
        return self.scheduler.admit(voice, seed, live, size)

    async def decode(self, function: Callable[..., T], *arguments: Any) -> T:
        """``function`` of a body in a thread: it may take its time, but not everyone's."""
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self.decoding)


def state_of(connection: HTTPConnection) -> State:
    state: State = connection.app.state.server
    return state


async def authorize(connection: HTTPConnection) -> None:
    """Raises Refused, 401, for a connection without the token, if there is one."""
    token = state_of(connection).token
    if token is None:
        return
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise Refused(401, "this server wants a token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


class Difference(BaseModel):
    model: str | float
    request: str | float


class Mismatch(Problem):
    """A mel of another mel config, and the fields in which they differ."""

    differences: dict[str, Difference]


class VoiceInfo(BaseModel):
    name: str
    default: bool
    sample_rate: int = Field(description="Hz")
    mel_config: str
    lookahead: int | None = Field(
        description="frames that must follow a frame before its audio is final; null for a voice that cannot stream"
    )


class Health(BaseModel):
    status: str = Field(description="ok; closing: finishes what it has, takes nothing new")
    utterances: int = Field(description="being synthesised, waiting or being fetched")
    places: int


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Mismatch if status == 409 else Problem} for status in statuses}


VoiceName = Annotated[str | None, Query(description="a name from /voices (default: the first)")]
Seed = Annotated[int, Query(ge=0, lt=2**63, description="of the noise in the voice: the same seed, the same audio")]
MelConfigName = Annotated[
    str | None,
    Query(description="what the mel was made with, such as hifigan-22k or hifigan-22k:log=log10 (default: unsaid)"),
]

router = APIRouter(dependencies=[Depends(authorize)], responses=_problems(401))
public = APIRouter()


@router.post(
    "/synthesize",
    response_class=Response,
    responses={
        200: {
            "description": "16-bit audio",
            "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()},
        },
        **_problems(400, 404, 408, 409, 413, 422, 503),
    },
    openapi_extra=MEL_BODY,
)
async def synthesize(
    request: Request,
    voice: VoiceName = None,
    format: Annotated[Format, Query(description="raw: 16-bit little-endian PCM without a header")] = "wav",
    stream: Annotated[bool, Query(description="send the audio while it is computed")] = False,
    seed: Seed = 0,
    mel_config: MelConfigName = None,
) -> Response:
    """Mel to audio. The body is an .npy, an .npz or JSON; what it is, it says itself."""
    state = state_of(request)
    limits, chosen = state.limits, state.voice(voice)
    source = None if mel_config is None else parse_mel_config(mel_config)
    utterance = state.admit(chosen, seed, stream, declared_size(request, limits))
    client = None
    try:
        body = await read_body(request, limits)
        client = Client(request.receive)
        mel = await client.waits(state.decode(decode_mel, body, chosen, source, limits), limits.patience)
        del body
        samples = mel.values.shape[1] * chosen.mel_config.hop_length
        utterance.claim(mel.values.nbytes + 4 * samples)
        utterance.feed(mel.values)
        utterance.end()
        pieces = _encoded(utterance, Encoder(format, chosen.mel_config.sample_rate, samples))
        size = None
        if not stream:
            whole = await client.waits(_joined(pieces), limits.patience)
            size, pieces = len(whole), _once(whole)
        return AudioResponse(
            pieces,
            size,
            utterance,
            client,
            limits,
            media_type=MEDIA_TYPES[format],
            headers={"Mel-Warning": mel.doubt} if mel.doubt else None,
        )
    except BaseException:
        utterance.close()
        if client:
            client.leave()
        raise


async def _encoded(utterance: Utterance, encoder: Encoder) -> AsyncIterator[bytes]:
    async for audio in utterance.audio():
        if data := await anyio.to_thread.run_sync(encoder, audio):
            yield data
    if data := encoder.finish():
        yield data


async def _joined(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def _once(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


@router.post(
    "/mel",
    response_class=Response,
    responses={
        200: {
            "description": "an .npy, float32 (n_mels, frames)",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        **_problems(400, 404, 408, 409, 413, 422, 503),
    },
    openapi_extra=MEL_BODY,
)
async def mel(request: Request, voice: VoiceName = None) -> Response:
    """What a voice hears: the mel, in its own mel config, of a sound file or of a mel that /synthesize takes."""
    state = state_of(request)
    chosen = state.voice(voice)
    place = state.admit(chosen, 0, live=False, size=declared_size(request, state.limits))
    try:
        body = await read_body(request, state.limits)
        return Response(await state.decode(analyze, body, chosen, state.limits), media_type="application/octet-stream")
    finally:
        place.close()


@router.websocket("/stream")
async def stream(
    websocket: WebSocket, voice: VoiceName = None, seed: Seed = 0, mel_config: MelConfigName = None
) -> None:
    state = state_of(websocket)
    chosen = state.voice(voice)
    source = None if mel_config is None else parse_mel_config(mel_config)
    utterance = state.admit(chosen, seed, live=True)
    try:
        await converse(websocket, utterance, source, state.limits)
    finally:
        utterance.close()


@router.get("/mel-config", responses=_problems(404, 422))
async def mel_config(request: Request, voice: VoiceName = None) -> MelConfig:
    """The mel config of a voice, which its mels must have but for the logarithm's base and the floor."""
    return state_of(request).voice(voice).mel_config


@router.get("/voices")
async def voices(request: Request) -> list[VoiceInfo]:
    """The voices of this server, the default one first."""
    return [
        VoiceInfo(
            name=voice.name,
            default=number == 0,
            sample_rate=voice.mel_config.sample_rate,
            mel_config=voice.mel_config.name,
            lookahead=voice.lookahead,
        )
        for number, voice in enumerate(state_of(request).voices.values())
    ]


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(state_of(request).metrics.text(), media_type="text/plain; version=0.0.4")


@public.get("/healthz", responses={503: {"model": Health}})
async def healthz(request: Request, response: Response) -> Health:
    """Whether requests are taken."""
    scheduler = state_of(request).scheduler
    response.status_code = 503 if scheduler.closing else 200
    status = "closing" if scheduler.closing else "ok"
    return Health(status=status, utterances=len(scheduler), places=scheduler.places)


@public.get("/", response_class=HTMLResponse, include_in_schema=False)
async def page() -> HTMLResponse:
    text = files("vocoders.server").joinpath("page.html").read_text(encoding="utf-8")
    return HTMLResponse(text, headers={"Content-Security-Policy": _PAGE_POLICY})


async def _refused(connection: HTTPConnection, error: Exception) -> Response | None:
    """The answer to what cannot be served."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)  # seen by nobody but the metrics
    if isinstance(error, Busy):
        error = Refused(503, str(error), {"Retry-After": str(error.retry_after)})
    elif isinstance(error, TimeoutError):
        patience = state_of(connection).limits.patience
        error = Refused(503, f"the audio was not ready within {patience:g} s", {"Retry-After": str(round(patience))})
    elif isinstance(error, (RequestValidationError, WebSocketRequestValidationError)):
        faults = [f"{fault['loc'][0]} parameter '{fault['loc'][-1]}': {fault['msg']}" for fault in error.errors()]
        error = Refused(422, "; ".join(faults))
    elif isinstance(error, VocoderError):
        error = Refused(422, str(error))
    elif not isinstance(error, Refused):
        error = Refused(500, "a defect of the server; its log says more")
    response = JSONResponse(error.content, error.status, error.headers)
    if isinstance(connection, WebSocket):
        await connection.send_denial_response(response)
        return None
    return response


def create_app(
    voices: dict[str, Voice],
    *,
    places: int = 64,
    batch: int = 1,
    limits: Limits | None = None,
    token: str | None = None,
) -> FastAPI:
    """The server as an ASGI application.

    Args:
        voices: the default one first.
        places: requests at a time, those that wait included; one more is answered with 503.
        batch: waiting requests that are synthesised in one pass, at most.
        token: what clients must bring along as bearer token, if any.
    """
    metrics = Metrics()
    scheduler = Scheduler(places, batch, metrics)
    metrics.watch(lambda: len(scheduler))

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        turns = asyncio.create_task(scheduler.run())
        yield
        turns.cancel()

    app = FastAPI(title="vocoders", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.server = State(voices, limits or Limits(), token, scheduler, metrics, anyio.CapacityLimiter(1))
    app.include_router(router)
    app.include_router(public)
    invalid = (RequestValidationError, WebSocketRequestValidationError)
    for kind in (Refused, Busy, VocoderError, *invalid, ClientDisconnect, TimeoutError, Exception):
        app.add_exception_handler(kind, _refused)  # type: ignore[arg-type]
    app.add_middleware(Door, metrics=metrics)
    return app
