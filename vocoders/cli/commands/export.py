"""``vocoders export``: export a model to ONNX."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vocoders.errors import VocoderError, printable
from vocoders.extras import require
from vocoders.files import check_not_input


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export",
        help="write a model as ONNX, which runs without torch",
        description="Write a model as one ONNX graph from mel to audio. 'vocode -m model.onnx' runs it without torch.",
    )
    parser.add_argument("model", nargs="?", help="as for info (default: the built-in model)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="model.onnx")
    parser.add_argument(
        "--target",
        choices=("vocoders", "sherpa-onnx"),
        default="vocoders",
        help="what runs it: this package and programs that give F0 and noise, or sherpa-onnx, which gives the mel "
        "alone (default: vocoders)",
    )
    parser.add_argument(
        "--weights",
        choices=("float32", "float16"),
        default="float32",
        help="type in which weights are stored; float16 rounds them and takes half the bytes (default: float32)",
    )
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    require("export", "export", "torch", "safetensors")
    from vocoders.checkpoint import load_checkpoint
    from vocoders.onnx.export import OPSET, export_onnx
    from vocoders.pretrained import find_pretrained

    if options.output.suffix.lower() != ".onnx":
        raise VocoderError(f"'{options.output}' must end in .onnx")
    path = find_pretrained(options.model)[1]
    check_not_input(options.output, path)
    checkpoint = load_checkpoint(path)
    difference = export_onnx(checkpoint, options.output, options.target, options.weights)
    made = f"{options.output.stat().st_size / 1e6:.1f} MB, opset {OPSET}"
    print(printable(f"wrote {options.output}: {made}, audio within {difference:.0e} of torch's, of the peak"))
    return 0
