"""The program ``vocoders``: commands about models."""

from __future__ import annotations

import sys

from vocoders.cli.commands import COMMANDS
from vocoders.cli.common import Parser, add_version, run


def vocoders(arguments: list[str] | None = None) -> int:
    """Run ``vocoders``.

    Args:
        arguments: as for ``vocode``.

    Returns:
        The exit status: 0, or 2 for bad input.
    """
    parser = Parser(prog="vocoders", description="Commands about models; 'vocode' synthesises.")
    add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    options = parser.parse_args(arguments)
    return run(lambda: options.run(options), "vocoders")


if __name__ == "__main__":
    sys.exit(vocoders())
