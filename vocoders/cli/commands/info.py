"""``vocoders info``: print facts about a model and its training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocoders.errors import printable

if TYPE_CHECKING:
    from vocoders.facts import Facts


def add_parser(commands: Any) -> None:
    """Add the command."""
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
    for key, value in (_for_people(facts) | training).items():
        if key in training and isinstance(value, (dict, list)):  # such as a recipe
            continue
        print(printable(f"{key.replace('_', ' '):<27} {_text(value)}"))
    return 0


def _for_people(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts to print, in lines of their own where JSON nests them."""
    lines = {key: value for key, value in facts.items() if value is not None or key in ("context", "lookahead")}
    lines |= {key: "the whole utterance" for key in ("context", "lookahead") if lines.get(key, 0) is None}
    if "generator" in lines:
        lines["inputs"] = [f"{item['name']}, one value per {item['rate']}" for item in facts["inputs"]]
        lines |= {"generator": facts["generator"]["name"], "generator_config": facts["generator"]["config"]}
    return lines


def _text(value: Any) -> Any:
    """Format a value for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    return "; ".join(str(_text(item)) for item in value) or "-" if isinstance(value, list) else value


def model_facts(name: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the facts about a checkpoint or exported model, and about its training."""
    return (_onnx_facts if path.suffix.lower() == ".onnx" else _checkpoint_facts)(name, path)


def _checkpoint_facts(name: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from vocoders.checkpoint import describe, load_checkpoint

    checkpoint = load_checkpoint(path)
    if checkpoint.generator is not None:
        return _facts(name, describe(checkpoint)), checkpoint.training
    assert checkpoint.f0_estimator is not None
    count = sum(p.numel() for p in checkpoint.f0_estimator.parameters())
    mel_config = checkpoint.mel_config.model_dump(mode="json")
    return {"model": name, "mel_config": mel_config, "parameters": {"f0_estimator": count}}, checkpoint.training


def _onnx_facts(name: str, path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from vocoders.onnx.vocoder import OnnxVocoder

    voc = OnnxVocoder(path)
    return _facts(name, voc.facts) | {"opset": voc.opset}, voc.training


def _facts(name: str, facts: Facts) -> dict[str, Any]:
    """Return the record of a model without its training, with derived values."""
    milliseconds = 1000 * facts.mel_config.hop_length / facts.mel_config.sample_rate
    lookahead = facts.lookahead_with(())
    return {
        "model": name,
        "mel_config_name": facts.mel_config.name,
        **facts.model_dump(mode="json", exclude={"training"}),
        "lookahead_ms": None if lookahead is None else round(lookahead * milliseconds),
    }
