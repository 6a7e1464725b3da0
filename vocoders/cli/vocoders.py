"""The commands ``vocode`` (mel and audio files in, audio and mel files out) and ``vocoders`` (about models).

Files speak for themselves: what is done follows from the endings of input and output.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocoders.cli.common import count, run, seconds
from vocoders.errors import VocoderError

if TYPE_CHECKING:  # imported where used, so that --help answers at once
    from vocoders.dsp.mel import MelConfig


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
    importing.add_argument("--mel-config", metavar="NAME", help="where the configuration does not say it")
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
    serving.add_argument("--queue", type=count, default=64, metavar="N", help="requests at a time (default: 64)")
    serving.add_argument(
        "--batch",
        type=count,
        metavar="N",
        help="waiting requests in one pass (default: 1 on a CPU, else 8)",
    )
    serving.add_argument("--max-body", type=count, default=64, metavar="MIB", help="of a request (default: 64)")
    serving.add_argument("--max-seconds", type=seconds, default=600.0, metavar="S", help="of audio (default: 600)")
    serving.add_argument(
        "--timeout",
        type=seconds,
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
    benching.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    benching.add_argument("--json", action="store_true", help="for machines")
    benching.set_defaults(run=_bench)
    listing = commands.add_parser("list", help="generators, mel configs, built-in voices")
    listing.set_defaults(run=_list)
    options = parser.parse_args(arguments)
    return run(lambda: options.run(options), "vocoders")


def _import(options: argparse.Namespace) -> int:
    from vocoders.checkpoint import save_checkpoint
    from vocoders.generators import generator_name
    from vocoders.importers import import_checkpoint

    checkpoint = import_checkpoint(
        options.family, options.checkpoint, options.config, options.stats, options.mel_config
    )
    assert checkpoint.generator is not None
    save_checkpoint(checkpoint, options.output)
    print(f"wrote {options.output}: {generator_name(checkpoint.generator)}, mel config {checkpoint.mel_config.name}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from vocoders.checkpoint import load_checkpoint
    from vocoders.onnx.export import OPSET, export_onnx
    from vocoders.pretrained import find_pretrained

    if options.output.suffix.lower() != ".onnx":
        raise VocoderError(f"'{options.output}' must end in .onnx")
    difference = export_onnx(load_checkpoint(find_pretrained(options.model)[1]), options.output)
    print(
        f"wrote {options.output}: {options.output.stat().st_size / 1e6:.1f} MB, opset {OPSET}, "
        f"audio within {difference:.0e} of torch's, of the peak"
    )
    return 0


def _design(options: argparse.Namespace) -> int:
    import json

    from vocoders.complexity import build_on_meta, macs_per_second, mel_config_for
    from vocoders.generators import generator_class

    kind = generator_class(options.generator)
    mel_config = mel_config_for(options.sample_rate, options.hop, options.mels)
    config = kind.config_for(mel_config)
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


def _serve(options: argparse.Namespace) -> int:
    try:
        from vocoders.server.process import serve
    except ModuleNotFoundError as error:
        raise VocoderError(f"serving needs {error.name}: pip install '.[serve]' in the clone") from None
    return serve(options)


def _bench(options: argparse.Namespace) -> int:
    import json

    import torch

    from vocoders.cli.bench import bench
    from vocoders.pretrained import DEFAULT_VOICE, load

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
    from vocoders.dsp.mel import MEL_CONFIGS
    from vocoders.generators import GENERATORS
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
    return 0


def _info(options: argparse.Namespace) -> int:
    import json

    from vocoders.pretrained import find_pretrained

    name, path = find_pretrained(options.model)
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
    mel_config, generator, f0_estimator = checkpoint.mel_config, checkpoint.generator, checkpoint.f0_estimator
    facts: dict[str, Any] = {"model": name, **_mel_facts(mel_config)}
    if generator is not None:
        facts["generator"] = generator_name(generator)
        facts["parameters"] = sum(p.numel() for p in generator.parameters())
        facts["config"] = generator.config.model_dump(mode="json")
        facts["f0"] = _f0_fact(generator.uses_f0, f0_estimator is not None)
        facts |= _context_facts(generator.receptive_field, mel_config)
    if f0_estimator is not None:
        facts["f0_estimator_parameters"] = sum(p.numel() for p in f0_estimator.parameters())
    return facts, checkpoint.training


def _onnx_facts(name: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same of an exported model."""
    from vocoders.onnx.vocoder import OnnxVocoder

    voc = OnnxVocoder(path)
    facts: dict[str, Any] = {"model": name, "opset": voc.opset, **_mel_facts(voc.mel_config)}
    facts["generator"] = voc.generator["name"]
    facts["config"] = voc.generator["config"]
    facts["f0"] = _f0_fact(voc.uses_f0, voc.estimates_f0)
    return facts | _context_facts(voc.receptive_field, voc.mel_config), voc.training


def _mel_facts(mel_config: MelConfig) -> dict[str, Any]:
    return {"mel_config_name": mel_config.name, "mel_config": mel_config.model_dump(mode="json")}


def _f0_fact(used: bool, estimated: bool) -> str:
    return ("estimated" if estimated else "to be given") if used else "not used"


def _context_facts(frames: int | None, mel_config: MelConfig) -> dict[str, int | None]:
    milliseconds = None if frames is None else round(frames * mel_config.hop_length / mel_config.sample_rate * 1000)
    return {"context_frames": frames, "context_ms": milliseconds}
