"""``vocoders bench``: measure speed, latency and memory of models."""

from __future__ import annotations

import argparse
import os
import sys
from importlib.util import find_spec
from typing import Any

from vocoders.cli.common import add_device, add_precision, count, limit_threads, seconds
from vocoders.errors import printable


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bench",
        help="speed, latency and memory of a model on this machine",
        description="Measure speed, latency and memory of models on this machine, one after the other.",
    )
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL", help="as for vocode -m (default: the built-in model)")
    add("--seconds", type=seconds, default=5.0, metavar="S", help="seconds of audio (default: 5)")
    add("--batch", type=count, default=1, metavar="N", help="utterances at once (default: 1)")
    add("--runs", type=count, default=7, metavar="N", help="measurements, of which the median is printed (default: 7)")
    add_device(parser)
    add_precision(parser)
    add("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    import json

    limit_threads(options.threads)

    from vocoders.pretrained import DEFAULT_MODEL

    measured = [_measure(model, options) for model in options.models or [DEFAULT_MODEL]]
    if options.json:
        print(json.dumps(measured, indent=2))
        return 0
    for facts in measured:
        for key, value in facts.items():
            shown = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else value
            print(printable(f"{key.replace('_', ' '):<27} {shown}"))
    return 0


def _measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one model: settings and figures."""
    from vocoders.cli.bench import bench, utilization
    from vocoders.pretrained import load

    voc = load(model, options.device, options.precision, options.backend)
    figures = bench(voc, options.device, options.seconds, options.runs, options.batch)
    settings: dict[str, Any] = {"model": model, "device": options.device, "backend": voc.backend}
    settings |= {"threads": _threads(), "precision": options.precision}
    settings |= {"seconds": options.seconds, "batch": options.batch}
    if find_spec("torch") is None:  # needed to count the work
        return settings | figures
    from vocoders.complexity import build_on_meta

    generator = build_on_meta(voc.facts.generator.name, voc.facts.generator.config, voc.mel_config)
    return settings | figures | utilization(generator, figures["x_real_time"], options.device)


def _threads() -> int:
    """Return the number of CPU threads of models."""
    if torch := sys.modules.get("torch"):
        return torch.get_num_threads()
    from vocoders.onnx.session import stated_threads

    return stated_threads() or os.cpu_count() or 1
