"""Routes of the server."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import hmac
import ipaddress
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from typing import Annotated, Any, TypeVar

import anyio
from fastapi import APIRouter, Depends, Query, Request, Response, WebSocket
from fastapi.responses import HTMLResponse
from starlette.requests import HTTPConnection

from vocoders.dsp.mel import MelConfig
from vocoders.errors import shorten
from vocoders.inputs import F0, check_given, constants_of, required, signals_of
from vocoders.server.encoding import MEDIA_TYPES, Encoder, Format
from vocoders.server.http import AudioResponse, DisconnectListener, read_body
from vocoders.server.metrics import Metrics
from vocoders.server.registry import ServedModel
from vocoders.server.requests import (
    Limits,
    RequestError,
    Target,
    analyze_body,
    decode_body,
    decoded_bytes,
)
from vocoders.server.scheduler import Scheduler
from vocoders.server.schemas import BODY_SCHEMA, Health, ModelInfo, problems
from vocoders.server.utterance import Utterance
from vocoders.server.websocket import StreamSession

T = TypeVar("T")

# The page contacts this server alone, and plays its responses.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; media-src blob:"
)


@dataclass
class ServerState:
    """State shared by the routes, see ``create_app``.

    ``turns``: one lock per decoding function, so a mel does not wait for sounds.
    """

    models: dict[str, ServedModel]
    limits: Limits
    token: str | None
    allow_hosts: frozenset[str]
    scheduler: Scheduler
    metrics: Metrics
    turns: defaultdict[Callable[..., Any], asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    def target(self, name: str | None, mel_config: str | None = None, model_rate: bool = False) -> Target:
        """Return the model that a query asks for; raise RequestError 404 for an unknown name."""
        if name and name not in self.models:
            raise RequestError(404, f"there is no model {name!r} here; there are: {', '.join(self.models)}")
        models = [self.models[name]] if name else list(self.models.values())
        return Target(models, None if mel_config is None else MelConfig.parse(mel_config), model_rate)

    def admit(self, model: ServedModel, seed: int, stream: bool) -> Utterance:
        """Admit an utterance, see ``Scheduler.admit``; raise RequestError 422 if the model cannot stream."""
        if stream and model.vocoder.lookahead is None:
            raise RequestError(422, f"the model '{model.name}' cannot stream: its audio depends on the whole mel")
        return self.scheduler.admit(model, seed, stream)

    async def decode(self, function: Callable[..., T], body: bytes, utterance: Utterance, target: Target) -> T:
        """Call ``decode_body`` or ``analyze_body`` in a thread.

        It cannot be interrupted: after a disconnect this waits for it, with its turn and memory.
        """
        async with self.turns[function]:
            size = await anyio.to_thread.run_sync(decoded_bytes, body, target, self.limits.max_body)
            with self.scheduler.decoding(utterance, size):
                call = anyio.to_thread.run_sync(function, body, target, self.limits)
                work = asyncio.ensure_future(call)
                try:
                    return await asyncio.shield(work)
                finally:
                    await asyncio.wait({work})


def server_state(connection: HTTPConnection) -> ServerState:
    """Return a connection's server state."""
    state: ServerState = connection.app.state.server
    return state


async def authorize(connection: HTTPConnection) -> None:
    """Check the bearer token, if any; raise RequestError 401."""
    token = server_state(connection).token
    if token is None:
        return
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        headers = {"WWW-Authenticate": "Bearer"}
        raise RequestError(401, "this server needs a token: Authorization: Bearer TOKEN", headers)


async def check_host(connection: HTTPConnection) -> None:
    """Check Host and Origin; raise RequestError 403 for names outside ``allow_hosts``.

    Pages of any site can send requests to this machine, also under their own name, but not under an address or
    localhost.
    """
    allowed = server_state(connection).allow_hosts
    host = connection.headers.get("host", "").lower()
    if not allowed & {"*", host, _name(host)} and not _is_local(_name(host)):
        detail = f"this server does not answer to the name '{shorten(host)}'"
        raise RequestError(403, f"{detail}: vocoders serve --allow-host {shorten(_name(host)) or 'NAME'}")
    if "origin" in connection.headers:
        origin = connection.headers["origin"].lower().partition("://")[2]
        if origin != host and not allowed & {"*", origin, _name(origin)}:
            detail = f"pages of '{shorten(connection.headers['origin'])}' may not use this server"
            raise RequestError(403, f"{detail}: vocoders serve --allow-host {shorten(origin) or 'NAME'}")


def _name(host: str) -> str:
    return re.sub(r":\d*$", "", host)


def _is_local(name: str) -> bool:
    """Whether a name is localhost or an address (IPv6 in brackets)."""
    with contextlib.suppress(ValueError):
        return name == "localhost" or bool(ipaddress.ip_address(name.strip("[]")))
    return False


async def check_query(connection: HTTPConnection) -> None:
    """Check that query parameters are known and unique; raise RequestError 422."""
    known = [parameter.alias for parameter in connection.scope["route"].dependant.query_params]
    given = [name for name, _ in connection.query_params.multi_items()]
    if not known:
        return
    if unknown := next((name for name in given if name not in known), None):
        near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
        raise RequestError(422, f"unknown query parameter '{unknown}' ({hint})")
    if twice := next((name for name in given if given.count(name) > 1), None):
        raise RequestError(422, f"query parameter '{twice}' is given more than once")


ModelName = Annotated[
    str | None, Query(description="a name from /models (default: the one that suits the mel config best)")
]
Seed = Annotated[int, Query(ge=0, lt=2**63, description="seed of the noise: the same seed gives the same audio")]
MelConfigName = Annotated[
    str | None,
    Query(
        description="the mel config of the mel, such as hifigan-22k or hifigan-22k:log=log10 (default: the one in the "
        "body, else that of the first model)"
    ),
]
ModelRate = Annotated[bool, Query(description="audio of an approximated mel has the model's sample rate")]

router = APIRouter(
    dependencies=[Depends(check_host), Depends(authorize), Depends(check_query)], responses=problems(401, 403)
)
public = APIRouter(dependencies=[Depends(check_host)], responses=problems(403))


@router.post(
    "/synthesize",
    response_class=Response,
    responses={
        200: {
            "description": "16-bit audio",
            "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()},
        },
        **problems(400, 404, 408, 409, 413, 422, 503),
    },
    openapi_extra=BODY_SCHEMA,
)
async def synthesize(
    request: Request,
    model: ModelName = None,
    format: Annotated[Format, Query(description="raw: 16-bit little-endian PCM without a header")] = "wav",
    stream: Annotated[bool, Query(description="send the audio while it is computed")] = False,
    seed: Seed = 0,
    mel_config: MelConfigName = None,
    model_rate: ModelRate = False,
) -> Response:
    """Turn a mel into audio. The body is an .npy, an .npz or JSON."""
    state = server_state(request)
    limits, target = state.limits, state.target(model, mel_config, model_rate)
    utterance = state.admit(target.model(target.mel_config), seed, stream)
    with contextlib.ExitStack() as stack:
        stack.callback(utterance.close)
        body = await read_body(request, limits, partial(state.scheduler.reserve, utterance))
        listener = DisconnectListener(request.receive)
        stack.callback(listener.stop)
        given = await listener.wait_for(state.decode(decode_body, body, utterance, target), limits.timeout)
        del body
        utterance.model, mel, values, warning = given
        facts = utterance.model.vocoder.facts
        check_given(facts.inputs, facts.estimated, values)
        samples = mel.shape[1] * facts.samples_per_frame
        arrays = sum(value.nbytes for value in (mel, *values.values()))
        state.scheduler.reserve(utterance, arrays + 4 * facts.channels * samples)
        utterance.constants = constants_of(facts.inputs, values)
        utterance.push(mel, signals_of(facts.inputs, values))
        utterance.finish()
        pieces = _encode(utterance, Encoder(format, facts.sample_rate, samples, facts.channels))
        size = None
        if not stream:
            whole = await listener.wait_for(_join(pieces), limits.timeout)
            size, pieces = len(whole), _single(whole)
        headers = {"Mel-Warning": warning} if warning else None
        stack.pop_all()  # the response closes the utterance
        return AudioResponse(pieces, size, utterance, listener, limits, media_type=MEDIA_TYPES[format], headers=headers)


async def _encode(utterance: Utterance, encoder: Encoder) -> AsyncIterator[bytes]:
    async for audio in utterance.audio():
        if data := await anyio.to_thread.run_sync(encoder.encode, audio):
            yield data
    if data := encoder.finish():
        yield data


async def _join(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def _single(piece: bytes) -> AsyncIterator[bytes]:
    yield piece


@router.post(
    "/mel",
    response_class=Response,
    responses={
        200: {
            "description": "an .npy, float32 (n_mels, frames)",
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        },
        **problems(400, 404, 408, 409, 413, 422, 503),
    },
    openapi_extra=BODY_SCHEMA,
)
async def mel(request: Request, model: ModelName = None, mel_config: MelConfigName = None) -> Response:
    """Compute the mel that a model takes, from a sound file or from a mel as /synthesize takes it."""
    state = server_state(request)
    limits, target = state.limits, state.target(model, mel_config)
    utterance = state.admit(target.models[0], 0, stream=False)  # counts as a request
    with contextlib.ExitStack() as stack:
        stack.callback(utterance.close)
        body = await read_body(request, limits, partial(state.scheduler.reserve, utterance))
        listener = DisconnectListener(request.receive)
        stack.callback(listener.stop)
        data = await listener.wait_for(state.decode(analyze_body, body, utterance, target), limits.timeout)
        state.scheduler.reserve(utterance, len(data))
        stack.pop_all()  # the response closes the utterance
        return AudioResponse(
            _single(data), len(data), utterance, listener, limits, media_type="application/octet-stream"
        )


@router.websocket("/stream")
async def stream(
    websocket: WebSocket,
    model: ModelName = None,
    seed: Seed = 0,
    mel_config: MelConfigName = None,
    model_rate: ModelRate = False,
    f0: Annotated[bool, Query(description="each frame ends with its F0 in Hz, 0 = unvoiced")] = False,
) -> None:
    """Turn frames into audio while they arrive; see ``StreamSession``."""
    state = server_state(websocket)
    target = state.target(model, mel_config, model_rate)
    chosen = target.model(target.mel_config)
    utterance = state.admit(chosen, seed, stream=True)
    try:
        facts, given = chosen.vocoder.facts, [F0.name] if f0 else []
        others = [item.name for item in required(facts.inputs, facts.estimated) if item != F0]
        check_given(facts.inputs, facts.estimated, [*given, *others])  # each frame holds the others
        await StreamSession(websocket, utterance, target.mel_config or chosen.mel_config, given, state.limits).run()
    finally:
        utterance.close()


@router.get("/mel-config", responses=problems(404, 422))
async def mel_config(request: Request, model: ModelName = None) -> MelConfig:
    """Return the mel config of a model. A mel may differ from it in the base of the logarithm and in the floor."""
    return server_state(request).target(model).models[0].mel_config


@router.get("/models")
async def models(request: Request) -> list[ModelInfo]:
    """List the models of this server, the default first."""
    return [
        ModelInfo(
            name=model.name,
            default=number == 0,
            f0=model.f0,
            lookahead=model.vocoder.lookahead,
            mel_config=model.mel_config.name,
            sample_rate=model.vocoder.sample_rate,
            facts=model.vocoder.facts.model_copy(update={"training": {}}),
        )
        for number, model in enumerate(server_state(request).models.values())
    ]


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Return metrics in the text format of Prometheus."""
    return Response(await server_state(request).metrics.text(), media_type="text/plain; version=0.0.4")


@public.get("/healthz", responses={503: {"model": Health}})
async def healthz(request: Request, response: Response) -> Health:
    """Return whether the server takes requests."""
    scheduler = server_state(request).scheduler
    response.status_code = 503 if scheduler.closing else 200
    return Health(
        status="closing" if scheduler.closing else "ok",
        active_requests=scheduler.active_requests,
        max_requests=scheduler.max_requests,
    )


@public.get("/", response_class=HTMLResponse, include_in_schema=False)
async def page() -> HTMLResponse:
    """Return the web page."""
    text = files("vocoders.server").joinpath("page.html").read_text(encoding="utf-8")
    return HTMLResponse(text, headers={"Content-Security-Policy": _PAGE_POLICY})
