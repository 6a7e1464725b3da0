"""Prepare a corpus for training: python -m recipes.prepare NAME [DIR] [--download]"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from vocoders.cli.common import Parser

NAMES = sorted(path.parent.name for path in Path(__file__).parent.glob("corpora/*/prepare.py"))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = Parser(
        prog="python -m recipes.prepare",
        description="Find or download a corpus and write the lists of its recordings. "
        "The options of each: python -m recipes.prepare NAME --help",
    )
    parser.add_argument("name", choices=NAMES)
    given = sys.argv[1:] if arguments is None else arguments
    name = parser.parse_args(given[:1]).name
    return int(import_module(f"recipes.corpora.{name}.prepare").main(given[1:]))


if __name__ == "__main__":
    sys.exit(main())
