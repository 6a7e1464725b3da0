"""The program ``vocode``: convert mel and sound files."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from vocoders.cli.common import Parser, add_device, add_precision, add_version, lasting, limit_threads, run, say, seed
from vocoders.errors import VocoderError
from vocoders.extras import require
from vocoders.files import make_folder
from vocoders.pretrained import model_for, start_loading

if TYPE_CHECKING:
    from vocoders.cli.execution import Options
    from vocoders.cli.plan import Job

_FORMATS = ("wav", "flac", "ogg", "mp3", "raw", "npy", "npz")

_EXAMPLES = """\
the file endings decide what it does:
  vocode mel.npy -o out.wav              synthesis: mel in, audio out
  vocode voice.flac -o copy.wav          copy synthesis: audio in, audio out
  vocode voice.flac -o mel.npz           analysis: audio in, mel out (.npz carries its mel config, .npy does not)
  vocode mels/ -o audio/                 a folder, a quoted glob or many files in: a folder out; resumes
  vocode s3://mels -o s3://audio --ray   a corpus, on all cores or on a cluster; resumes
  cat mel.npy | vocode - -o - > out.wav  - is standard input or output
  tts | vocode - -o - --raw-mel --format raw | player
                                         audio while the frames arrive
"""


def vocode(arguments: list[str] | None = None) -> int:
    """Run ``vocode``.

    Args:
        arguments: of the command line, without the program's name; those of the process by default.

    Returns:
        The exit status: 0, 1 (some files of a batch failed) or 2 (bad input).
    """
    options = _parser().parse_args(arguments)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "1")  # else it searches every installed package
    start = lasting() if arguments is None else nullcontext()
    return run(lambda: _vocode(options, start), "vocode")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="vocode",
        description="Turn mel-spectrograms into audio.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="mel (.npy, .npz) or sound files, folders, globs, or -")
    add("-o", "--output", required=True, metavar="OUTPUT", help="file, folder for a batch, or -")
    add(
        "-m",
        "--model",
        help="checkpoint or .onnx file, built-in model or hub repository org/name (default: the built-in model for the "
        "mel config)",
    )
    add(
        "--mel-config",
        metavar="NAME",
        help="mel config of a mel that does not carry one, or of the mel to be made: a name that 'vocoders list' "
        "prints, with changes if need be, such as hifigan-22k:log=log10 (default: the model's); a mel of another mel "
        "config than the model's is approximated, and gives audio of its own sample rate",
    )
    add("--model-rate", action="store_true", help="audio of an approximated mel has the model's sample rate")
    add(
        "--f0",
        type=Path,
        metavar="FILE",
        help=".npy of one F0 in Hz per frame, 0 = unvoiced (default: the array f0 of an .npz, else "
        "estimated from the mel)",
    )
    add("--seed", type=seed, default=0, help="seed of the noise; the same seed gives the same audio (default: 0)")
    add(
        "--format",
        choices=_FORMATS,
        help="format of output to a folder or to - (default: wav); raw: 16-bit PCM, no header",
    )
    add(
        "--raw-mel",
        action="store_true",
        help="standard input is frames as they arrive, without a header: float32, little-endian, all bands of a frame "
        "together; audio is written as it becomes final (at once with --format raw)",
    )
    add("--overwrite", action="store_true", help="in a batch, redo outputs that are already there")
    add(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="a corpus by Ray: on all cores of this machine, on the cluster at HOST:PORT, or auto for the one that "
        "runs here; takes URLs such as s3:// and shards (.tar), too, and writes manifest.jsonl; --threads and --device "
        "are those of each worker",
    )
    add_device(parser)
    add_precision(parser)
    add("-q", "--quiet", action="store_true", help="print errors only")
    add_version(parser)
    return parser


def _vocode(options: argparse.Namespace, start: AbstractContextManager[None]) -> int:
    if options.ray is not None:
        return _vocode_corpus(options)
    with start:
        limit_threads(options.threads)
        start_loading(_model(options), options.device, options.precision, options.backend)
        todo, batch = _todo(options)
        if not todo:
            return 0
        from vocoders.cli.execution import Worker, do_all

        worker = Worker(_worker_options(options))
    if batch:
        make_folder(Path(options.output))
        return do_all(worker, todo)
    worker.notes.say(worker.do(todo[0], bar=not options.quiet))
    return 0


def _model(options: argparse.Namespace) -> str | None:
    """Return the model that the worker will load first."""
    if options.model is None and options.mel_config is not None:
        from vocoders.dsp.mel import MelConfig  # slow to import

        return model_for(MelConfig.parse(options.mel_config))
    model: str | None = options.model
    return model


def _todo(options: argparse.Namespace) -> tuple[list[Job], bool]:
    """Return the jobs that are left, and whether they are a batch."""
    from vocoders.cli.plan import plan  # slow to import

    def note(text: str) -> None:
        if not options.quiet:
            say(f"vocode: {text}")

    jobs, batch = plan(options.inputs, options.output, options.format, note)
    if batch and options.f0:
        raise VocoderError("--f0 needs a single input and a single output file")
    if options.raw_mel and (batch or jobs[0].source or jobs[0].makes_mel or options.f0):
        raise VocoderError(
            "--raw-mel turns frames on standard input into a sound, without --f0: vocode - -o - --raw-mel"
        )
    todo = [job for job in jobs if not (batch and job.target and job.target.exists() and not options.overwrite)]
    if len(todo) < len(jobs):
        note(f"{len(jobs) - len(todo)} of {len(jobs)} outputs are there already and left as they are (see --overwrite)")
    return todo, batch


def _vocode_corpus(options: argparse.Namespace) -> int:
    if options.f0 or options.raw_mel:
        raise VocoderError(f"{'--f0' if options.f0 else '--raw-mel'} is for a single input, --ray for a corpus")
    require("--ray", "ray", "ray", "ray.data", "fsspec")
    from vocoders.cli.corpus.run import vocode_corpus

    return vocode_corpus(
        options.inputs,
        options.output,
        options.format or "wav",
        address=options.ray,
        options=_worker_options(options),
        overwrite=options.overwrite,
        threads=options.threads or 1,
    )


def _worker_options(options: argparse.Namespace) -> Options:
    from vocoders.cli.execution import Options

    return Options(
        model=options.model,
        device=options.device,
        precision=options.precision,
        backend=options.backend,
        mel_config=options.mel_config,
        inputs={"f0": options.f0} if options.f0 else {},
        seed=options.seed,
        raw_mel=options.raw_mel,
        model_rate=options.model_rate,
        quiet=options.quiet,
    )


if __name__ == "__main__":
    sys.exit(vocode())
