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
        max_requests: most requests at a time, waiting ones included; more get 503.
        max_batch: most waiting requests in a batch; None for 8 where batching is faster (GPU), else 1.
        limits: the limits of one request.
        token: the clients' bearer token; None for no check.
        allow_hosts: names allowed in Host and Origin beside addresses, "localhost" and the server's own pages, such as
            "tts.example.org" or "localhost:3000"; "*" for all.
        metrics: default: new ones.
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
    app.add_middleware(RequestMetricsMiddleware, metrics=metrics)  # outermost, to include draining
    return app


def load_app(settings: Settings, token: str | None, metrics: Metrics | None = None) -> FastAPI:
    """Load the models of ``settings`` and create their application."""
    models = load_models(settings.models, settings.device, settings.backend)
    warnings.simplefilter("ignore", MelWarning)  # sent as a header
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
        return Response(status_code=499)  # seen by the metrics alone
    refusal = _refusal(error, routes.server_state(connection).limits.timeout)
    # Quoted parts may be long, or Unicode that cannot be encoded.
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
    # uvicorn closes the connection after a defect; the header tells the client.
    return RequestError(500, "the server failed because of a defect; its log says more", {"Connection": "close"})
