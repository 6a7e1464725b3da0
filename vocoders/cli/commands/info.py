"""``vocoders info``: facts about a model and its training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocoders.errors import printable

if TYPE_CHECKING:
    from vocoders.dsp.mel import MelConfig


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers ``commands``."""
    parser = commands.add_parser(
        "info", help="facts about a model", description="Print facts about a model and its training."
    )
    parser.add_argument(
        "model",
        nargs="?",
        help="checkpoint or .onnx file, built-in model or hub repository (default: the built-in model)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    import json

    from vocoders.pretrained import find_pretrained

    name, path = find_pretrained(options.model, "onnx")
    facts, training = model_facts(name, path)
    if options.json:
        print(json.dumps(facts | {"training": training}, indent=2))
        return 0
    lines = facts | {key: value for key, value in training.items() if not isinstance(value, (dict, list))}
    for key, value in lines.items():
        if key.startswith("context") and value is None:
            value = "the whole utterance"
        if isinstance(value, dict):
            value = ", ".join(f"{field} {item}" for field, item in value.items())
        print(printable(f"{key.replace('_', ' '):<27} {value}"))
    return 0


def model_facts(name: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the facts about a model and its training.

    Args:
        name: name of the model, as it was given.
        path: its file, a checkpoint or an exported model.

    Returns:
        The facts about the model, and those about its training.

    Raises:
        CheckpointError: when the file is neither.
    """
    return (_onnx_facts if path.suffix.lower() == ".onnx" else _checkpoint_facts)(name, path)


def _checkpoint_facts(name: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
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
    from vocoders.onnx.vocoder import OnnxVocoder

    voc = OnnxVocoder(path)
    facts: dict[str, Any] = {"model": name, "opset": voc.opset, **_mel_facts(voc.mel_config)}
    facts["generator"], config = voc.architecture
    if "generator" in voc.parameters:
        facts["parameters"] = voc.parameters["generator"]
    facts["config"] = config
    facts["f0"] = _f0_fact(voc.uses_f0, voc.estimates_f0)
    facts |= _context_facts(voc.receptive_field, voc.mel_config)
    if "f0_estimator" in voc.parameters:
        facts["f0_estimator_parameters"] = voc.parameters["f0_estimator"]
    return facts, voc.training


def _mel_facts(mel_config: MelConfig) -> dict[str, Any]:
    return {"mel_config_name": mel_config.name, "mel_config": mel_config.model_dump(mode="json")}


def _f0_fact(used: bool, estimated: bool) -> str:
    return ("estimated" if estimated else "to be given") if used else "not used"


def _context_facts(frames: int | None, mel_config: MelConfig) -> dict[str, int | None]:
    milliseconds = None if frames is None else round(frames * mel_config.hop_length / mel_config.sample_rate * 1000)
    return {"context_frames": frames, "context_ms": milliseconds}
