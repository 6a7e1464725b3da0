"""Measure copy synthesis: python -m recipes.evaluate [[NAME=]MODEL ...] --data DIR [--report DIR]"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path, PurePath

from recipes.data.clips import Clip, choose, find_clips, list_clips
from recipes.data.smoothing import LEVELS
from recipes.evaluation.copy_synthesis import MANY, Page, draw_clip, evaluate
from recipes.evaluation.f0 import print_pitches, print_robustness, print_shifts
from recipes.evaluation.finished import open_finished
from recipes.evaluation.judges import require_judges
from recipes.evaluation.metrics import HAS_PESQ
from recipes.evaluation.nisqa import require_nisqa
from recipes.evaluation.summary import Outcome, as_json, summarize, table
from recipes.evaluation.systems import Comparison, load_systems
from vocoders.cli.common import Parser, prepare_streams, say
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.errors import VocoderError
from vocoders.files import write_file


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = Parser(prog="python -m recipes.evaluate", description="Measure copy synthesis.")
    parser.add_argument(
        "models",
        nargs="*",
        metavar="[NAME=]MODEL",
        help="as for vocode -m (default: the built-in model); NAME is its name in the table",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of recordings")
    parser.add_argument("--list", metavar="FILE", help="file in DIR that lists the recordings to measure")
    parser.add_argument("--clips", type=int, metavar="N", help="measure only N of the recordings, evenly spaced")
    parser.add_argument(
        "--smooth",
        action="append",
        default=[],
        choices=tuple(LEVELS),
        help="measure the models also on mels smoothed as those of acoustic models are; may be given twice",
    )
    parser.add_argument(
        "--mel-config",
        action="append",
        default=[],
        metavar="NAME",
        help="measure models and Griffin-Lim also on mels of this mel config; may be repeated; all: every named one",
    )
    parser.add_argument(
        "--others",
        action="append",
        default=[],
        metavar="NAME=DIR",
        help="compare finished audio of another system, too: sound files in DIR that are named like the recordings; "
        "may be repeated",
    )
    parser.add_argument(
        "--draws",
        type=int,
        default=1,
        metavar="N",
        help="average the metrics over N seeds of the noise (default: 1; PESQ varies by 0.02 to 0.04)",
    )
    parser.add_argument(
        "--judges",
        action="store_true",
        help="ask DistillMOS, DNSMOS and ViSQOL, which predict the opinion of listeners; needs the extra judges",
    )
    parser.add_argument(
        "--nisqa",
        action="store_true",
        help="predict the opinion of listeners, also of the recordings; needs the extra nisqa, and weights that "
        "torchmetrics downloads once (CC BY-NC-SA 4.0: to measure with, not to train with)",
    )
    parser.add_argument(
        "--f0",
        action="store_true",
        help="measure the F0 estimator instead: on vowels from 55 to 1400 Hz and, with --data, on the mels of "
        "recordings with noise, reverberation, a second voice, and with F0 shifted against the mel",
    )
    parser.add_argument("--report", type=Path, metavar="DIR", help="write a listening page to this new folder")
    parser.add_argument(
        "--format",
        choices=("flac", "ogg"),
        default="flac",
        help="format of sounds on the listening page (default: flac)",
    )
    parser.add_argument("--credits", default="", metavar="TEXT", help="a sentence about the recordings, for the page")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write means, intervals and per-clip figures here")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw spectrograms of the first recording (.png)")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes (default: 1; more make the speeds too low)"
    )
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="measure on a Ray cluster: on all cores of this machine, on the cluster at HOST:PORT, or auto for the one "
        "that runs here; all machines see this folder, the data and the models under the same paths",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns the exit status. 0: all recordings were measured; 1: some failed; 2: all failed, and one sentence on
    standard error says why.
    """
    options = build_parser().parse_args(arguments)
    prepare_streams()
    try:
        if options.f0:
            for model in options.models or [None]:
                print_pitches(model)
                if options.data:
                    print_robustness(model, _find_clips(options))
                    print_shifts(model, _find_clips(options))
            return 0
        outcomes, failed = _evaluate(options)
    except VocoderError as error:
        say(f"recipes.evaluate: {error}")
        return 2
    print(table(summarize(outcomes)))
    if not HAS_PESQ:
        say("recipes.evaluate: left out PESQ, which needs a C compiler: pip install '.[pesq]'")
    for reason in failed:
        say(f"recipes.evaluate: left out {reason}")
    return 1 if failed else 0


def _find_clips(options: argparse.Namespace) -> list[Clip]:
    """Find the recordings of the options."""
    if options.data is None:
        raise VocoderError("no recordings given; add --data DIR")
    root: Path = options.data
    return choose(list_clips(root, root / options.list) if options.list else find_clips(root), options.clips)


def _evaluate(options: argparse.Namespace) -> tuple[list[Outcome], list[str]]:
    """Check the options, measure, and write the results."""
    for name, count in (("--clips", options.clips), ("--workers", options.workers), ("--draws", options.draws)):
        if count is not None and count < 1:
            raise VocoderError(f"{name} must be at least 1, got {count}")
    for path in (options.json, options.picture):  # fail before the work
        if path and not Path(os.path.realpath(path)).parent.is_dir():
            raise VocoderError(f"cannot write {path}: there is no folder {path.parent}")
    root, clips = options.data, _find_clips(options)
    if len(clips) >= MANY:
        seconds = sum(clip.samples / clip.sample_rate for clip in clips)
        say(
            f"measuring {len(clips)} recordings, {seconds:.0f} s of audio; --clips N measures fewer, --workers N takes "
            f"more cores"
        )
    smooth = tuple(level for level in LEVELS if level in options.smooth)
    names = [PurePath(os.path.relpath(clip.path, root)) for clip in clips]
    others = tuple(open_finished(option, names) for option in options.others)
    mel_configs = tuple(MEL_CONFIGS) if options.mel_config == ["all"] else tuple(options.mel_config)
    comparison = Comparison(tuple(options.models) or (None,), smooth, others, options.draws, mel_configs)
    load_systems(comparison)
    if options.judges:
        require_judges()
    if options.nisqa:
        require_nisqa()
    if options.picture:
        draw_clip(clips[0], comparison, options.picture)
    title = ", ".join([root.absolute().name, *([Path(options.list).name] if options.list else [])])
    page = Page(options.report, title, options.format, options.credits) if options.report else None
    outcomes, failed = evaluate(
        clips,
        comparison,
        root,
        page=page,
        with_nisqa=options.nisqa,
        with_judges=options.judges,
        workers=options.workers,
        ray=options.ray,
    )
    if options.json:
        write_file(options.json, as_json(outcomes).encode())
    return outcomes, failed


if __name__ == "__main__":
    sys.exit(main())
