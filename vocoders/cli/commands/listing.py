"""``vocoders list``: names of generators, mel configs, built-in voices and importers."""

from __future__ import annotations

import argparse
import sys
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    text = "generators, mel configs, built-in voices, families that can be imported"
    parser = commands.add_parser("list", help=text, description=f"Print the names of {text}.")
    parser.set_defaults(run=_run)


def _run(_: argparse.Namespace) -> int:
    from vocoders.dsp.mel import MEL_CONFIGS
    from vocoders.generators import GENERATORS
    from vocoders.importers import IMPORTERS
    from vocoders.pretrained import DEFAULT_VOICE, list_voices

    print("generators")
    for name, kind in GENERATORS.items():
        print(f"  {name:<20} {(sys.modules[kind.__module__].__doc__ or '').splitlines()[0]}")
    print("mel configs")
    for name, mel_config in MEL_CONFIGS.items():
        band = f"{mel_config.fmin:g}-{mel_config.fmax:g} Hz"
        sizes = f"{mel_config.sample_rate} Hz, hop {mel_config.hop_length}, {mel_config.n_mels} bands"
        print(f"  {name:<20} {sizes}, {band}, {mel_config.log}")
    print("built-in voices")
    for name in list_voices():
        print(f"  {name}{' (default)' if name == DEFAULT_VOICE else ''}")
    print("families that 'vocoders import' reads")
    for name, importer in IMPORTERS.items():
        print(f"  {name:<20} {importer.description}")
    return 0
