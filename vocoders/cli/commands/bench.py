"""``vocoders bench``: speed, latency and memory of models on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from vocoders.cli.common import add_device, add_precision, count, limit_threads, seconds


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "bench",
        help="speed, latency and memory of a model on this machine",
        description="Measure speed, latency and memory of models on this machine, one after the other.",
    )
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL", help="as for vocode -m (default: the built-in voice)")
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

    import torch

    from vocoders.cli.bench import bench
    from vocoders.cli.commands.info import model_facts
    from vocoders.complexity import build_on_meta, macs_per_second
    from vocoders.pretrained import DEFAULT_VOICE, find_pretrained, load

    measured = []
    for model in options.models or [DEFAULT_VOICE]:
        settings: dict[str, Any] = {"model": model, "device": options.device, "threads": torch.get_num_threads()}
        settings |= {"precision": options.precision, "seconds": options.seconds, "batch": options.batch}
        voc = load(model, options.device, options.precision)
        facts, _ = model_facts(*find_pretrained(model))
        work = macs_per_second(build_on_meta(facts["generator"], facts["config"], voc.mel_config))
        figures = bench(voc, work, options.device, options.seconds, options.runs, options.batch)
        measured.append(settings | figures)
    if options.json:
        print(json.dumps(measured, indent=2))
        return 0
    for facts in measured:
        for key, value in facts.items():
            shown = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else value
            print(f"{key.replace('_', ' '):<27} {shown}")
    return 0
