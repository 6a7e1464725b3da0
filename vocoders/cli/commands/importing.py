"""``vocoders import``: convert a checkpoint of another project."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vocoders.errors import VocoderError, printable
from vocoders.extras import require
from vocoders.files import check_not_input


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "import",
        help="convert a checkpoint of another project",
        description="Convert a checkpoint of another project into one of this package.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.format_help = lambda: _help(parser)
    parser.add_argument("family", help="family of the checkpoint, see below")
    parser.add_argument("checkpoint", type=Path, help="the file that the project's training wrote")
    parser.add_argument("--config", type=Path, help="its configuration (default: the one beside it)")
    parser.add_argument(
        "--stats", type=Path, help="mean and scale of its mels, .npy or .h5 (default: stats.h5 or .npy beside it)"
    )
    parser.add_argument(
        "--mel-config", metavar="NAME", help="mel config of the model, where the configuration does not state it"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="model.safetensors")
    parser.set_defaults(run=_run)


def _help(parser: argparse.ArgumentParser) -> str:
    """Format the help with the families, which need torch."""
    try:
        require("the list of families", "import", "torch", "safetensors")
    except VocoderError as error:
        parser.epilog = str(error)
    else:
        from vocoders.importers import IMPORTERS

        lines = (f"  {name:<20} {importer.description}" for name, importer in IMPORTERS.items())
        parser.epilog = "\n".join(["families:", *lines])
    return argparse.ArgumentParser.format_help(parser)


def _run(options: argparse.Namespace) -> int:
    require("import", "import", "torch", "safetensors")
    from vocoders.checkpoint import save_checkpoint
    from vocoders.generators import generator_name
    from vocoders.importers import import_checkpoint

    if options.output.suffix != ".safetensors":  # the mark of this package's checkpoints
        raise VocoderError(f"'{options.output}' must end in .safetensors")
    check_not_input(options.output, options.checkpoint, options.config, options.stats)
    checkpoint = import_checkpoint(
        options.family, options.checkpoint, options.config, options.stats, options.mel_config
    )
    assert checkpoint.generator is not None
    save_checkpoint(checkpoint, options.output)
    made = f"{generator_name(checkpoint.generator)}, mel config {checkpoint.mel_config.name}"
    print(printable(f"wrote {options.output}: {made}"))
    return 0
