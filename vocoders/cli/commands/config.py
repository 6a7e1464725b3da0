"""``vocoders config``: print a valid configuration of a generator for any sample rate."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vocoders.cli.common import count
from vocoders.errors import VocoderError
from vocoders.extras import require

if TYPE_CHECKING:  # imported where used, for a fast --help
    from vocoders.dsp.mel import MelConfig


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "config",
        help="a valid configuration for any sample rate",
        description="Print a valid configuration of a generator for a sample rate and hop, and what it costs.",
    )
    parser.add_argument("--generator", required=True, help="a name that 'vocoders list' prints")
    parser.add_argument("--mel-config", metavar="NAME", help="as for vocode; instead of the three numbers that follow")
    parser.add_argument("--sample-rate", type=count, metavar="HZ")
    parser.add_argument("--hop", type=count, metavar="SAMPLES", help="samples between mel frames")
    parser.add_argument("--bands", type=count, metavar="N", help="bands (default: 80, 100 or 128, by the rate)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    import json

    require("the work of a generator", "torch", "torch")
    from vocoders.complexity import build_on_meta, macs_per_second
    from vocoders.generators import generator_class

    mel_config = _mel_config(options)
    config = generator_class(options.generator).config_for(mel_config)
    generator = build_on_meta(options.generator, config, mel_config)
    context = generator.context
    frame = mel_config.hop_length / mel_config.sample_rate * 1000
    print("# for a recipe; JSON is YAML")
    print(f"mel_config: {mel_config.model_dump_json()}")
    print(f"generator: {json.dumps({'name': options.generator, 'config': config.model_dump(exclude_unset=True)})}")
    print(f"# parameters      {sum(p.numel() for p in generator.parameters()) / 1e6:.2f} M")
    print(f"# work            {macs_per_second(generator) / 1e9:.2f} GMAC per second of audio")
    reach = "the whole utterance" if context is None else f"{context} frames on each side, {context * frame:.0f} ms"
    print(f"# receptive field {reach}")
    return 0


def _mel_config(options: argparse.Namespace) -> MelConfig:
    """Return the mel config that the options name or describe."""
    from vocoders.complexity import mel_config_for
    from vocoders.dsp.mel import MelConfig

    numbers = (options.sample_rate, options.hop, options.bands)
    if options.mel_config is not None:
        if numbers != (None, None, None):
            raise VocoderError("--mel-config states rate, hop and bands already; leave the others out")
        return MelConfig.parse(options.mel_config)
    if options.sample_rate is None or options.hop is None:
        raise VocoderError("config needs --sample-rate and --hop, or --mel-config")
    return mel_config_for(*numbers)
