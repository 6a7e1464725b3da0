"""``vocoders serve``: serve models over HTTP and WebSocket."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vocoders.cli.common import add_device, count, limit_threads, port, seconds
from vocoders.errors import VocoderError
from vocoders.extras import require


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "serve",
        help="a server that turns mels into audio",
        description="Serve models over HTTP and WebSocket; see docs/serving.md. After Ctrl+C or SIGTERM, requests that "
        "are admitted are finished.",
    )
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL", help="as for vocode -m (default: the built-in model)")
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    add("--port", type=port, default=8000, help="port to listen on; 0 takes a free one (default: 8000)")
    add_device(parser)
    add("--token-file", type=Path, metavar="FILE", help="holds the bearer token that clients must send")
    add(
        "--allow-host",
        action="append",
        default=[],
        dest="allow_hosts",
        metavar="NAME",
        help="a name under which the server is used, such as tts.example.org, or of a site whose pages use it; may be "
        "repeated, * allows all (default: only addresses and localhost)",
    )
    add("--max-requests", type=count, default=64, metavar="N", help="requests at a time (default: 64)")
    add(
        "--max-batch",
        type=count,
        metavar="N",
        help="waiting requests in one batch (default: 8 where that is faster, as on a GPU, else 1)",
    )
    add("--max-body", type=count, default=64, metavar="MIB", help="MiB of a request's body (default: 64)")
    add("--max-seconds", type=seconds, default=600.0, metavar="S", help="seconds of audio of a request (default: 600)")
    add(
        "--timeout",
        type=seconds,
        default=120.0,
        metavar="S",
        help="seconds to wait for audio or a client (default: 120)",
    )
    add(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="serve by Ray Serve, on this machine or on the cluster at HOST:PORT; see docs/scaling.md",
    )
    add("--replicas", metavar="N", help="with --ray: number of replicas, or MIN-MAX by load (default: 1)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    require("serving", "serve", "fastapi", "uvicorn", "websockets", "prometheus_client")
    if options.ray is not None:
        require("serve --ray", "ray", "ray", "ray.serve")
    elif options.replicas is not None:
        raise VocoderError("--replicas needs --ray: one process serves alone")

    from vocoders.config import bind
    from vocoders.server.settings import Settings

    given = {
        name: value for name, value in vars(options).items() if name in Settings.model_fields and value is not None
    }
    settings = bind(Settings, given, "serve")
    if options.ray is not None:
        from vocoders.server.cluster import serve_on_cluster

        return serve_on_cluster(options.ray, settings, options.host, options.port)
    limit_threads(options.threads)

    from vocoders.server.process import serve

    return serve(settings, options.host, options.port)
