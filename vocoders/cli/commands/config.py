"""``vocoders config``: a valid configuration of a generator for any sample rate."""

from __future__ import annotations

import argparse
from typing import Any

from vocoders.cli.common import count


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "config",
        help="a valid configuration for any sample rate",
        description="Print a valid configuration of a generator for a sample rate and hop, and what it costs.",
    )
    parser.add_argument("--generator", required=True, help="a name that 'vocoders list' prints")
    parser.add_argument("--sample-rate", type=int, required=True, metavar="HZ")
    parser.add_argument("--hop", type=int, required=True, metavar="SAMPLES", help="samples between mel frames")
    parser.add_argument(
        "--bands", type=count, metavar="N", help="bands of the mel (default: 80, 100 or 128, by the rate)"
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    import json

    from vocoders.complexity import build_on_meta, macs_per_second, mel_config_for
    from vocoders.generators import generator_class

    mel_config = mel_config_for(options.sample_rate, options.hop, options.bands)
    config = generator_class(options.generator).config_for(mel_config)
    generator = build_on_meta(options.generator, config, mel_config)
    context = generator.receptive_field
    frame = mel_config.hop_length / mel_config.sample_rate * 1000
    print("# for a recipe; JSON is YAML")
    print(f"mel: {mel_config.model_dump_json()}")
    print(f"generator: {json.dumps({'name': options.generator, 'config': config.model_dump(exclude_unset=True)})}")
    print(f"# parameters      {sum(p.numel() for p in generator.parameters()) / 1e6:.2f} M")
    print(f"# work            {macs_per_second(generator) / 1e9:.2f} GMAC per second of audio")
    reach = "the whole utterance" if context is None else f"{context} frames on each side, {context * frame:.0f} ms"
    print(f"# receptive field {reach}")
    return 0
