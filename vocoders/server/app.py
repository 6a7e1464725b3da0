"""The server as an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator, Sequence

from fastapi import FastAPI, Response, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect, HTTPConnection

from vocoders.errors import MelWarning, VocoderError, printable, shorten
from vocoders.server import routes
from vocoders.server.metrics import Metrics
from vocoders.server.middleware import DrainBodyMiddleware, RequestMetricsMiddleware
from vocoders.server.registry import ServedModel, load_models
from vocoders.server.requests import Limits, RequestError
from vocoders.server.scheduler import Busy, Scheduler
from vocoders.server.settings import Settings

_HANDLED = (
    RequestError,
    Busy,
    VocoderError,
    RequestValidationError,
    WebSocketRequestValidationError,
    ClientDisconnect,
    TimeoutError,
    Exception,
)
_LONGEST_DETAIL = 2000  # characters


def create_app(
    models: dict[str, ServedModel],
    *,
    max_requests: int = 64,
    max_batch: int | None = None,
    limits: Limits | None = None,
    token: str | None = None,
    allow_hosts: Sequence[str] = (),
    metrics: Metrics | None = None,
) -> FastAPI:
    """Create the ASGI application that serves models.

    Args:
        models: the models by name, the default first.
        max_requests: most requests at a time, waiting ones included; one more gets 503.
        max_batch: most waiting requests in one batch; None for 8 where a batch is faster, as on a GPU, else 1.
        limits: the limits of one request.
        token: the bearer token that clients must send; None where they need none.
        allow_hosts: names, such as "tts.example.org" or "localhost:3000", that requests may be sent to and that pages
            may be of, beside addresses, "localhost" and the server's own pages; "*" allows all.
        metrics: the metrics, new ones by default.
    """
    metrics = metrics or Metrics()
    scheduler = Scheduler(max_requests, max_batch, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        synthesis = asyncio.create_task(scheduler.run())
        yield
        synthesis.cancel()

    app = FastAPI(title="vocoders", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.server = routes.ServerState(models, limits or Limits(), token, frozenset(allow_hosts), scheduler, metrics)
    app.include_router(routes.router)
    app.include_router(routes.public)
    for kind in _HANDLED:
        app.add_exception_handler(kind, _handle)  # type: ignore[arg-type]
    app.add_middleware(DrainBodyMiddleware)
    app.add_middleware(RequestMetricsMiddleware, metrics=metrics)  # the outer one: draining counts as well
    return app


def load_app(settings: Settings, token: str | None, metrics: Metrics | None = None) -> FastAPI:
    """Load the models of ``settings`` and create their application; see ``create_app``.

    Raises:
        VocoderError: when a model cannot be loaded, and for two models of one name.
    """
    models = load_models(settings.models, settings.device, settings.backend)
    warnings.simplefilter("ignore", MelWarning)  # the client gets it as a header
    return create_app(
        models,
        max_requests=settings.max_requests,
        max_batch=settings.max_batch,
        limits=settings.limits,
        token=token,
        allow_hosts=settings.allow_hosts,
        metrics=metrics,
    )


async def _handle(connection: HTTPConnection, error: Exception) -> Response | None:
    """Respond to a request that raised ``error``."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)  # only the metrics see it
    refusal = _refusal(error, routes.server_state(connection).limits.timeout)
    # What a message quotes of a request may be long, or Unicode that cannot be encoded.
    detail = printable(shorten(refusal.content["detail"], _LONGEST_DETAIL))
    response = JSONResponse({**refusal.content, "detail": detail}, refusal.status, refusal.headers)
    if isinstance(connection, WebSocket):
        await connection.send_denial_response(response)
        return None
    return response


def _refusal(error: Exception, timeout: float) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, Busy):
        return RequestError(503, str(error), {"Retry-After": str(error.retry_after)})
    if isinstance(error, TimeoutError):
        detail = f"the result was not ready within {timeout:g} s"
        return RequestError(503, detail, {"Retry-After": str(round(timeout))})
    if isinstance(error, (RequestValidationError, WebSocketRequestValidationError)):
        faults = [f"{fault['loc'][0]} parameter '{fault['loc'][-1]}': {fault['msg']}" for fault in error.errors()]
        return RequestError(422, "; ".join(faults))
    if isinstance(error, VocoderError):
        return RequestError(422, str(error))
    # uvicorn closes the connection after a defect: a client that is told does not send its next request on it.
    return RequestError(500, "the server failed because of a defect; its log says more", {"Connection": "close"})
