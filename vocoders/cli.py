"""The commands ``vocode`` (mel and audio files in, audio and mel files out) and ``vocoders`` (about models).

Files speak for themselves: what is done follows from the endings of input and output.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocoders.errors import VocoderError
from vocoders.jobs import FORMATS, Job, plan

if TYPE_CHECKING:  # imported where used, so that --help answers at once
    from vocoders.mel import MelSpec
    from vocoders.worker import Worker

_VOCODE_HELP = """\
what it does follows from the endings:
  vocode mel.npy -o out.wav              synthesis: mel in, audio out
  vocode voice.flac -o copy.wav          copy synthesis: audio in, audio out
  vocode voice.flac -o mel.npz           analysis: audio in, mel out (.npz carries its convention, .npy does not)
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
        choices=("float32", "bf16"),
        default="float32",
        help="bf16: faster on processors that multiply in bfloat16, and noisier (default: float32)",
    )
    parser.add_argument(
        "--mel-convention",
        metavar="NAME",
        help="what the mel was made with, or is to be made with in analysis: a name, as 'vocoders info' prints it, "
        "with changes if need be: hifigan-22k:log=log10 (default: the model's)",
    )
    parser.add_argument(
        "--f0", metavar="FILE", help=".npy of one F0 in Hz per frame, 0 = unvoiced (default: estimated from the mel)"
    )
    parser.add_argument(
        "--seed",
        type=_seed,
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
    return _run(lambda: _vocode(options), "vocode")


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"must be from 0 to 2^63 - 1, got {text}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0, got {text}")
    return value


def _run(command: Callable[[], int], name: str) -> int:
    """Turn what a user can act on into one line and an exit status."""
    try:
        return command()
    except VocoderError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{name}: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except MemoryError:
        print(f"{name}: out of memory", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130


def _vocode(options: argparse.Namespace) -> int:
    jobs, batch = plan(options.inputs, options.output, options.format)
    if batch and options.f0:
        raise VocoderError("--f0 belongs to a single input and a single output file")
    if options.raw_mel and (batch or jobs[0].source or jobs[0].makes_mel or options.f0):
        raise VocoderError("--raw-mel makes a sound of frames on standard input, without --f0: vocode - -o - --raw-mel")
    todo = [job for job in jobs if not (batch and job.target and job.target.exists() and not options.overwrite)]
    if todo:
        from vocoders.worker import Notes, Worker

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


def vocoders(arguments: list[str] | None = None) -> int:
    """Entry point of ``vocoders``."""
    parser = argparse.ArgumentParser(prog="vocoders", description="About models; 'vocode' synthesises.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="what a checkpoint is", description="Print what a checkpoint is.")
    info.add_argument(
        "model", nargs="?", help="checkpoint or .onnx file, built-in voice or hub repository (default: built-in voice)"
    )
    info.add_argument("--json", action="store_true", help="for machines")
    info.set_defaults(run=_info)
    importing = commands.add_parser(
        "import",
        help="take over a checkpoint of another project",
        description="Turn a checkpoint of another project into one of ours; see the README for the families.",
    )
    importing.add_argument("family", help="hifi-gan, istftnet, parallel-wavegan, wavehax or speecht5-hifigan")
    importing.add_argument("checkpoint", type=Path, help="the file that project's training wrote")
    importing.add_argument("--config", type=Path, help="its configuration (default: config.json or .yml beside it)")
    importing.add_argument("--stats", type=Path, help="mean and scale of its mels, .npy or .h5")
    importing.add_argument("--mel-convention", metavar="NAME", help="where the configuration does not say it")
    importing.add_argument("-o", "--output", type=Path, required=True, help="model.safetensors")
    importing.set_defaults(run=_import)
    exporting = commands.add_parser(
        "export",
        help="write a model as ONNX, which runs without torch",
        description="Write a model as one ONNX graph from mel to audio. 'vocode -m model.onnx' runs it without torch.",
    )
    exporting.add_argument("model", nargs="?", help="as for info (default: built-in voice)")
    exporting.add_argument("-o", "--output", type=Path, required=True, help="model.onnx")
    exporting.set_defaults(run=_export)
    designing = commands.add_parser(
        "design",
        help="a valid configuration for any sample rate",
        description="Print a valid configuration of a generator for a sample rate and hop, and what it costs.",
    )
    designing.add_argument("--generator", required=True, help="a name that 'vocoders list' prints")
    designing.add_argument("--sample-rate", type=int, required=True, metavar="HZ")
    designing.add_argument("--hop", type=int, required=True, metavar="SAMPLES", help="between mel frames")
    designing.add_argument("--mels", type=int, metavar="N", help="default: 80, 100 or 128, by the sample rate")
    designing.set_defaults(run=_design)
    serving = commands.add_parser(
        "serve",
        help="a server that turns mels into audio",
        description="Serve models over HTTP and WebSocket; see the README. Ctrl+C or SIGTERM finishes what runs.",
    )
    serving.add_argument("models", nargs="*", metavar="MODEL", help="as for vocode -m (default: the built-in voice)")
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine)")
    serving.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    serving.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps")
    serving.add_argument("--token-file", type=Path, metavar="FILE", help="holds the bearer token clients must bring")
    serving.add_argument("--queue", type=_count, default=64, metavar="N", help="requests at a time (default: 64)")
    serving.add_argument(
        "--batch",
        type=_count,
        metavar="N",
        help="waiting requests in one pass (default: 1 on a CPU, else 8)",
    )
    serving.add_argument("--max-body", type=_count, default=64, metavar="MIB", help="of a request (default: 64)")
    serving.add_argument("--max-seconds", type=_seconds, default=600.0, metavar="S", help="of audio (default: 600)")
    serving.add_argument(
        "--timeout",
        type=_seconds,
        default=120.0,
        metavar="S",
        help="to wait for audio or for a client (default: 120)",
    )
    serving.set_defaults(run=_serve)
    benching = commands.add_parser(
        "bench",
        help="how fast a model is here",
        description="Measure speed, latency and memory of models on this machine, one after the other.",
    )
    benching.add_argument("models", nargs="*", metavar="MODEL", help="as for vocode -m (default: built-in voice)")
    benching.add_argument("--seconds", type=float, default=5.0, help="of audio (default: 5)")
    benching.add_argument("--batch", type=int, default=1, metavar="N", help="utterances at once (default: 1)")
    benching.add_argument("--runs", type=int, default=7, metavar="N", help="whose median counts (default: 7)")
    benching.add_argument("--threads", type=int, metavar="N", help="default: one for each core")
    benching.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps")
    benching.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    benching.add_argument("--json", action="store_true", help="for machines")
    benching.set_defaults(run=_bench)
    listing = commands.add_parser("list", help="generators, mel conventions, built-in voices")
    listing.set_defaults(run=_list)
    options = parser.parse_args(arguments)
    return _run(lambda: options.run(options), "vocoders")


def _import(options: argparse.Namespace) -> int:
    from vocoders.checkpoint import save_checkpoint
    from vocoders.generators import generator_name
    from vocoders.importers import import_checkpoint

    checkpoint = import_checkpoint(
        options.family, options.checkpoint, options.config, options.stats, options.mel_convention
    )
    assert checkpoint.generator is not None
    save_checkpoint(checkpoint, options.output)
    print(f"wrote {options.output}: {generator_name(checkpoint.generator)}, mel convention {checkpoint.mel_spec.name}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from vocoders.checkpoint import load_checkpoint
    from vocoders.export import OPSET, export_onnx
    from vocoders.models import find_model

    if options.output.suffix.lower() != ".onnx":
        raise VocoderError(f"'{options.output}' must end in .onnx")
    difference = export_onnx(load_checkpoint(find_model(options.model)[1]), options.output)
    print(
        f"wrote {options.output}: {options.output.stat().st_size / 1e6:.1f} MB, opset {OPSET}, "
        f"audio within {difference:.0e} of torch's, of the peak"
    )
    return 0


def _design(options: argparse.Namespace) -> int:
    import json

    from vocoders.design import build_on_meta, design, macs_per_second

    config, spec = design(options.generator, options.sample_rate, options.hop, options.mels)
    generator = build_on_meta(options.generator, config, spec)
    context = generator.receptive_field
    frame = spec.hop_length / spec.sample_rate * 1000
    print("# for a recipe; JSON is YAML")
    print(f"mel: {spec.model_dump_json()}")
    print(f"generator: {json.dumps({'name': options.generator, 'config': config})}")
    print(f"# parameters      {sum(p.numel() for p in generator.parameters()) / 1e6:.2f} M")
    print(f"# work            {macs_per_second(generator) / 1e9:.2f} GMAC per second of audio")
    reach = "the whole utterance" if context is None else f"{context} frames on each side, {context * frame:.0f} ms"
    print(f"# receptive field {reach}")
    return 0


def _serve(options: argparse.Namespace) -> int:
    try:
        from vocoders.server.run import serve
    except ModuleNotFoundError as error:
        raise VocoderError(f"serving needs {error.name}: pip install '.[serve]' in the clone") from None
    return serve(options)


def _bench(options: argparse.Namespace) -> int:
    import json

    import torch

    from vocoders.bench import bench
    from vocoders.models import DEFAULT_VOICE, load

    if options.runs < 1 or options.batch < 1 or not 0 < options.seconds <= 3600:
        raise VocoderError("bench needs --runs and --batch of 1 or more and --seconds above 0, up to 3600")
    if options.threads is not None:
        if options.threads < 1:
            raise VocoderError(f"--threads must be 1 or more, got {options.threads}")
        torch.set_num_threads(options.threads)
    measured = []
    for model in options.models or [DEFAULT_VOICE]:
        facts: dict[str, Any] = {"model": model, "device": options.device, "threads": torch.get_num_threads()}
        vocoder = load(model, options.device, options.precision)
        facts |= {"precision": options.precision, "seconds": options.seconds, "batch": options.batch}
        measured.append(facts | bench(vocoder, options.seconds, options.runs, options.batch))
    if options.json:
        print(json.dumps(measured, indent=2))
        return 0
    for facts in measured:
        for key, value in facts.items():
            shown = "-" if value is None else f"{value:.4g}" if isinstance(value, float) else value
            print(f"{key.replace('_', ' '):<27} {shown}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from vocoders.generators import GENERATORS
    from vocoders.mel import CONVENTIONS
    from vocoders.models import DEFAULT_VOICE, list_voices

    print("generators")
    for name, kind in GENERATORS.items():
        print(f"  {name:<20} {(sys.modules[kind.__module__].__doc__ or '').splitlines()[0]}")
    print("mel conventions")
    for name, spec in CONVENTIONS.items():
        band = f"{spec.fmin:g}-{spec.fmax:g} Hz"
        print(f"  {name:<20} {spec.sample_rate} Hz, hop {spec.hop_length}, {spec.n_mels} mels, {band}, {spec.log}")
    print("built-in voices")
    for name in list_voices():
        print(f"  {name}{' (default)' if name == DEFAULT_VOICE else ''}")
    return 0


def _info(options: argparse.Namespace) -> int:
    import json

    from vocoders.models import find_model

    name, path = find_model(options.model)
    facts, training = (_onnx_facts if path.suffix.lower() == ".onnx" else _checkpoint_facts)(name, path)
    if options.json:
        print(json.dumps(facts | {"training": training}, indent=2))
        return 0
    lines = facts | {key: value for key, value in training.items() if not isinstance(value, (dict, list))}
    for key, value in lines.items():
        if key.startswith("context") and value is None:
            value = "the whole utterance"
        if isinstance(value, dict):
            value = ", ".join(f"{field} {item}" for field, item in value.items())
        print(f"{key.replace('_', ' '):<27} {value}")
    return 0


def _checkpoint_facts(name: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a checkpoint is, and how it was trained."""
    from vocoders.checkpoint import load_checkpoint
    from vocoders.generators import generator_name

    checkpoint = load_checkpoint(path)
    spec, generator, pitch = checkpoint.mel_spec, checkpoint.generator, checkpoint.pitch
    facts: dict[str, Any] = {"model": name, **_mel_facts(spec)}
    if generator is not None:
        facts["generator"] = generator_name(generator)
        facts["parameters"] = sum(p.numel() for p in generator.parameters())
        facts["config"] = generator.config.model_dump(mode="json")
        facts["f0"] = _f0_fact(generator.uses_f0, pitch is not None)
        facts |= _context_facts(generator.receptive_field, spec)
    if pitch is not None:
        facts["pitch_estimator_parameters"] = sum(p.numel() for p in pitch.parameters())
    return facts, checkpoint.training


def _onnx_facts(name: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same of an exported model."""
    from vocoders.onnx_vocoder import OnnxVocoder

    voc = OnnxVocoder(path)
    facts: dict[str, Any] = {"model": name, "opset": voc.opset, **_mel_facts(voc.mel_spec)}
    facts["generator"] = voc.generator["name"]
    facts["config"] = voc.generator["config"]
    facts["f0"] = _f0_fact(voc.uses_f0, voc.estimates_f0)
    return facts | _context_facts(voc.receptive_field, voc.mel_spec), voc.training


def _mel_facts(spec: MelSpec) -> dict[str, Any]:
    return {"mel_convention": spec.name, "mel_spec": spec.model_dump(mode="json")}


def _f0_fact(used: bool, estimated: bool) -> str:
    return ("estimated" if estimated else "to be given") if used else "not used"


def _context_facts(frames: int | None, spec: MelSpec) -> dict[str, int | None]:
    milliseconds = None if frames is None else round(frames * spec.hop_length / spec.sample_rate * 1000)
    return {"context_frames": frames, "context_ms": milliseconds}
