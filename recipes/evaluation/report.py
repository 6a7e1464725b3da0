"""Write the listening page: sounds, spectrograms and figures in a self-contained folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from recipes.evaluation.metrics import Signal
from recipes.evaluation.spectrograms import RANGE, brightest, draw
from recipes.evaluation.summary import RECORDING, Outcome, measured_columns, shown, summarize
from vocoders.io.audio import encode_audio


def write_sounds(folder: Path, number: int, signals: dict[str, Signal], sound_format: str = "flac") -> None:
    """Write sound files and spectrograms of clip ``number``; the recording comes first in ``signals``."""
    top = brightest(signals)
    for index, (name, signal) in enumerate(signals.items()):
        stem = file_stem(number, index, name)
        (folder / f"{stem}.{sound_format}").write_bytes(encode_audio(signal.audio, signal.sample_rate, sound_format))
        draw({"": signal}, folder / f"{stem}.webp", top)


def file_stem(number: int, index: int, system: str) -> str:
    """Return the file stem of the ``index``-th system on clip ``number``."""
    return f"{number:04d}-{index}-{re.sub(r'[^A-Za-z0-9]+', '-', system).strip('-')[-40:]}"


def write_page(
    folder: Path,
    source: str,
    outcomes: Sequence[Outcome],
    sound_format: str = "flac",
    credits: str = "",
    others: Sequence[str] = (),
) -> None:
    """Write index.html over the files of ``write_sounds``; ``others`` were synthesised elsewhere."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=here, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.globals.update(shown=shown, file_stem=file_stem, recording=RECORDING, range=RANGE)
    summary = summarize(outcomes)
    content = {
        "source": source,
        "outcomes": outcomes,
        "summary": summary,
        "columns": measured_columns(summary),
        "sound_format": sound_format,
        "credits": credits,
        "others": others,
    }
    text = page.get_template("report.html").render(content)
    (folder / "index.html").write_text(text, encoding="utf-8")
