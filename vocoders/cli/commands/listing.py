"""``vocoders list``: print names of mel configs, built-in models, generators and importers."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command."""
    text = "mel configs, built-in models, generators, families that can be imported"
    parser = commands.add_parser("list", help=text, description=f"Print the names of {text}.")
    parser.add_argument(
        "--hub", action="store_true", help="print the models of other projects instead that load by their name"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    if options.hub:
        from vocoders.hub import HUB_MODELS

        for name, family in HUB_MODELS.items():
            print(f"{name:<60} {family}")
        return 0
    from vocoders.dsp.mel import MEL_CONFIGS
    from vocoders.pretrained import DEFAULT_MODEL, list_models

    print("mel configs")
    for name, mel_config in MEL_CONFIGS.items():
        band = f"{mel_config.fmin:g}-{mel_config.fmax:g} Hz"
        sizes = f"{mel_config.sample_rate} Hz, hop {mel_config.hop_length}, {mel_config.n_mels} bands"
        print(f"  {name:<20} {sizes}, {band}, {mel_config.log}")
    print("built-in models")
    for name in list_models():
        print(f"  {name}{' (default)' if name == DEFAULT_MODEL else ''}")
    if find_spec("torch") is None:
        print("generators and families that can be imported need torch: pip install '.[torch]' in the clone")
        return 0
    from vocoders.generators import GENERATORS
    from vocoders.importers import IMPORTERS

    print("generators")
    for name, kind in GENERATORS.items():
        print(f"  {name:<20} {(sys.modules[kind.__module__].__doc__ or '').splitlines()[0]}")
    print("families that 'vocoders import' reads")
    for name, importer in IMPORTERS.items():
        print(f"  {name:<20} {importer.description}")
    return 0
