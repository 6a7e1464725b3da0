"""The program ``vocode``: mel and audio files in, audio and mel files out."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from vocoders.cli.common import run, seed
from vocoders.cli.plan import FORMATS, Job, plan
from vocoders.errors import VocoderError

if TYPE_CHECKING:  # imported where used, so that --help answers at once
    from vocoders.cli.execution import Worker

_VOCODE_HELP = """\
what it does follows from the endings:
  vocode mel.npy -o out.wav              synthesis: mel in, audio out
  vocode voice.flac -o copy.wav          copy synthesis: audio in, audio out
  vocode voice.flac -o mel.npz           analysis: audio in, mel out (.npz carries its mel config, .npy does not)
  vocode mels/ -o audio/                 a folder, a quoted glob or many files in: a folder out, resumable
  cat mel.npy | vocode - -o - > out.wav  - is standard input or output
  tts | vocode - -o - --raw-mel --format raw | player
                                         audio while the frames arrive
"""


def vocode(arguments: list[str] | None = None) -> int:
    """Entry point of ``vocode``. Returns the exit status: 0, 1 (some files of a batch failed), 2 (bad input)."""
    parser = argparse.ArgumentParser(
        prog="vocode",
        description="Turn mel-spectrograms into audio.",
        epilog=_VOCODE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="mel (.npy, .npz) or sound files, folders, globs, or -"
    )
    parser.add_argument("-o", "--output", required=True, metavar="OUTPUT", help="file, folder for a batch, or -")
    parser.add_argument(
        "-m",
        "--model",
        help="checkpoint or .onnx file, built-in voice or hub repository org/name (default: built-in voice)",
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="bf16: faster on processors that multiply in bfloat16, and noisier (default: float32)",
    )
    parser.add_argument(
        "--mel-config",
        metavar="NAME",
        help="what the mel was made with, or is to be made with in analysis: a name, as 'vocoders info' prints it, "
        "with changes if need be: hifigan-22k:log=log10 (default: the model's)",
    )
    parser.add_argument(
        "--f0", metavar="FILE", help=".npy of one F0 in Hz per frame, 0 = unvoiced (default: estimated from the mel)"
    )
    parser.add_argument(
        "--seed",
        type=seed,
        default=0,
        help="of the noise in the voice; the same seed gives the same audio (default: 0)",
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="for output to a folder or to - (default: wav); raw: 16-bit PCM, no header"
    )
    parser.add_argument(
        "--raw-mel",
        action="store_true",
        help="standard input is frames as they arrive, without a header: float32, little-endian, all mels of a frame "
        "together; audio leaves as it becomes final (at once with --format raw)",
    )
    parser.add_argument("--overwrite", action="store_true", help="in a batch, redo outputs that are already there")
    parser.add_argument("-q", "--quiet", action="store_true", help="errors only")
    options = parser.parse_args(arguments)
    return run(lambda: _vocode(options), "vocode")


def _vocode(options: argparse.Namespace) -> int:
    jobs, batch = plan(options.inputs, options.output, options.format)
    if batch and options.f0:
        raise VocoderError("--f0 belongs to a single input and a single output file")
    if options.raw_mel and (batch or jobs[0].source or jobs[0].makes_mel or options.f0):
        raise VocoderError("--raw-mel makes a sound of frames on standard input, without --f0: vocode - -o - --raw-mel")
    todo = [job for job in jobs if not (batch and job.target and job.target.exists() and not options.overwrite)]
    if todo:
        from vocoders.cli.execution import Notes, Worker

        notes = Notes(options.quiet)
        worker = Worker(options, notes)
    if len(todo) < len(jobs) and not options.quiet:
        done = len(jobs) - len(todo)
        print(
            f"vocode: {done} of {len(jobs)} outputs are there already and left as they are (see --overwrite)",
            file=sys.stderr,
        )
    if not todo:
        return 0
    if not batch:
        notes.say(worker.do(todo[0], bar=not options.quiet))
        return 0
    return _do_all(worker, todo, options.quiet)


def _do_all(worker: Worker, jobs: list[Job], quiet: bool) -> int:
    """A batch: what cannot be done is listed at the end and keeps nothing else from being done."""
    from tqdm import tqdm

    failed = []
    for job in tqdm(jobs, unit="file", disable=True if quiet else None):
        try:
            assert job.target is not None
            job.target.parent.mkdir(parents=True, exist_ok=True)
            worker.do(job)
        except VocoderError as error:
            failed.append(str(error))
        except Exception as error:  # a defect of ours that one file brings out must not cost the others
            failed.append(f"{job.name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    if failed:
        print(f"vocode: {len(failed)} of {len(jobs)} files could not be done:", file=sys.stderr)
        for line in failed:
            print(f"  {line}", file=sys.stderr)
    return 1 if failed else 0
