"""Measure copy synthesis: python -m recipes.evaluate [[NAME=]MODEL ...] --data DIR [--report DIR]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from recipes.evaluation.copy_synthesis import evaluate
from recipes.evaluation.report import (
    summarize,
    table,
)
from vocoders.errors import VocoderError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.evaluate", description="Measure copy synthesis.")
    parser.add_argument(
        "models",
        nargs="*",
        metavar="[NAME=]MODEL",
        help="as for vocode -m (default: the built-in voice); NAME is what the table calls it",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of recordings")
    parser.add_argument("--list", metavar="FILE", help="file in DIR that lists the recordings to take")
    parser.add_argument("--clips", type=int, metavar="N", help="take only N of the recordings, evenly spaced")
    parser.add_argument(
        "--nisqa",
        action="store_true",
        help="predict the quality that listeners hear, of the recordings too; needs the extra nisqa, and weights that "
        "torchmetrics downloads once (CC BY-NC-SA 4.0: to measure, not to train)",
    )
    parser.add_argument("--report", type=Path, metavar="DIR", help="write a page to listen to, a new folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write means, intervals and per-clip figures here")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw spectrograms of the first recording (.png)")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes; speed is measured truly by one alone (default)"
    )
    options = parser.parse_args(arguments)
    try:
        outcomes, failed = evaluate(options)
    except VocoderError as error:
        print(f"recipes.evaluate: {error}", file=sys.stderr)
        return 2
    print(table(summarize(outcomes)))
    for reason in failed:
        print(f"recipes.evaluate: left out {reason}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
