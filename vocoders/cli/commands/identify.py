"""``vocoders identify``: find the mel config and scale of a mel."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocoders.cli.common import conversion, count
from vocoders.errors import printable

if TYPE_CHECKING:
    import numpy as np


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "identify",
        help="the mel config of a mel of unknown origin",
        description="Find the mel config and the scale of a mel: exactly with its recording, likely ones without.",
    )
    parser.add_argument("mel", type=Path, metavar="MEL", help=".npy or .npz")
    parser.add_argument("--audio", type=Path, metavar="FILE", help="the recording that the mel was computed from")
    parser.add_argument("--top", type=count, default=3, metavar="N", help="candidates to print (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    import json

    from vocoders.dsp.evidence import orient
    from vocoders.files import map_file
    from vocoders.io.mels import decode_mel

    name = str(options.mel)
    array, stored = decode_mel(map_file(options.mel), name)
    mel, transposed = orient(array)
    rows, notes = _by_recording(mel, options) if options.audio else _by_evidence(mel)
    rows = rows[: options.top]
    if stored:
        notes = [f"The file carries its own mel config, {stored.text}.", *notes]
    if transposed:
        notes = [f"The array is {array.shape}, (frames, bands): transpose it.", *notes]
    for row in rows:
        row["expression"] = _from_file(row["expression"], array, transposed)
    command = _command(name, rows[0])
    if options.json:
        size = {"bands": mel.shape[0], "frames": mel.shape[1], "transposed": transposed}
        print(json.dumps({"mel": name, **size, "candidates": rows, "notes": notes, "command": command}, indent=2))
        return 0
    print(printable(f"{name}: {mel.shape[0]} bands, {mel.shape[1]} frames, {mel.min():.2f} to {mel.max():.2f}"))
    measure = "error" if options.audio else "distance"
    print(f"  {measure:>8}  mel config")
    for row in rows:
        also = f", or {', '.join(row['alike'])}" if row.get("alike") else ""
        scale = f"; {row['scale']}" if row["scale"] else ""
        print(f"  {row[measure]:8.4f}  {row['mel_config']}{also}{scale}")
    for note in notes:
        print(note)
    print(printable(f"To do: {command}"))
    return 0


def _by_evidence(mel: np.ndarray) -> tuple[list[dict[str, Any]], list[str]]:
    """Return candidates by the mel alone, and what it does not tell."""
    from vocoders.dsp.evidence import LIKELY, rank_mel_configs

    candidates = rank_mel_configs(mel)
    rows = [
        {
            "mel_config": found.mel_config,
            "distance": round(found.score, 4),
            "alike": list(found.alike),
            "scale": found.scale,
            "expression": found.expression,
        }
        for found in candidates
    ]
    notes = [
        "A guess, by the number of bands, the floor, the range and the shape of the bands of typical speech. The file "
        "does not tell padding and window, and of hop and frame rate next to nothing: --audio recording.wav finds all."
    ]
    if candidates[0].score > LIKELY:
        notes.insert(0, f"No named mel config fits well (distance above {LIKELY:g}): it may be another, or no speech.")
    return rows, notes


def _by_recording(mel: np.ndarray, options: argparse.Namespace) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what explains the mel by its recording, and how well."""
    from vocoders.files import map_file
    from vocoders.inference.identification import EXPLAINED, fit_recording
    from vocoders.io.audio import read_audio

    sound = read_audio(map_file(options.audio), str(options.audio))
    fits = fit_recording(mel, sound.audio, sound.sample_rate)
    rows = [
        {
            "mel_config": fit.mel_config.text,
            "error": round(fit.error, 5),
            "lag": fit.lag,
            "scale": "its own scale in each band" if fit.scale.ndim else "another scale" if fit.expression else None,
            "expression": fit.expression,
        }
        for fit in fits
    ]
    best, notes = fits[0], []
    if best.error > EXPLAINED:
        notes.append(
            f"Nothing explains the mel to {EXPLAINED}: the best error is {best.error:.3f}. It may be of another "
            f"recording, predicted by a model, or computed in a way that no mel config states."
        )
    if best.lag:
        milliseconds = 1000 * abs(best.lag) * best.mel_config.hop_length / best.mel_config.sample_rate
        notes.append(
            f"The mel begins {abs(best.lag)} frames ({milliseconds:.0f} ms) {'after' if best.lag > 0 else 'before'} "
            f"the recording."
        )
    notes.append("Error: mean absolute difference of ln magnitude (nepers) of the values above the floor.")
    return rows, notes


def _from_file(expression: str | None, array: np.ndarray, transposed: bool) -> str | None:
    """Return Python that corrects the stored array ``mel``, transposed or not; None if it is right."""
    turned = "np.squeeze(mel)" if array.ndim == 3 else "mel"
    turned += ".T" if transposed else ""
    if expression is None:
        return turned if transposed else None
    return expression.replace("mel", turned)


def _command(name: str, row: dict[str, Any]) -> str:
    """Return the command that speaks the mel."""
    state = f"--mel-config {row['mel_config']} -o out.wav"
    if row["expression"] is None:
        return f"vocode {shlex.quote(name)} {state}"
    command, converted = conversion(name, row["expression"])
    return f"{command} && vocode {shlex.quote(converted)} {state}"
