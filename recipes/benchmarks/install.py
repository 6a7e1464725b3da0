"""A new installation: python -m recipes.benchmarks.install [--runs N] [--extra NAME]

Makes a new virtual environment, installs this clone into it as the README's first command does, and measures the time
of the installation, its size on the disk, ``vocode`` on a 5 s mel from command to file, and its peak memory for 60 s.
The time of the installation includes what pip downloads, or finds in its cache. Medians of the runs.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import venv
from pathlib import Path

from recipes.benchmarks import common
from recipes.benchmarks.vocode import MEASURED, VOCODE, output_of, seconds_of, write_mel
from vocoders.pretrained import DEFAULT_MODEL

_CLONE = Path(__file__).parents[2]
_LONG = 60.0  # seconds of audio


def size(folder: Path) -> float:
    """Return the size of the files in a folder, in MB."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def measure(folder: Path, extra: str | None, runs: int) -> None:
    """Install into ``folder`` and print a table of the figures."""
    venv.create(folder / "env", with_pip=True)
    python = str(folder / "env" / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    before = size(folder / "env")
    target = f"{_CLONE}[{extra}]" if extra else str(_CLONE)
    seconds = seconds_of([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", target])
    installed = size(folder / "env")
    short, long = (str(write_mel(folder, DEFAULT_MODEL, length)) for length in (5, _LONG))
    out = str(folder / "out.wav")
    first = seconds_of([python, "-I", "-c", VOCODE, "-q", short, "-o", out])
    times = [seconds_of([python, "-I", "-c", VOCODE, "-q", short, "-o", out]) for _ in range(runs)]
    memory = float(output_of([python, "-I", "-c", MEASURED, "-q", long, "-o", out]))
    common.header("a new installation", "measured")
    common.row("installation", f"{seconds:.0f} s")
    common.row("size, with pip and Python's own files", f"{installed:.0f} MB, of them new {installed - before:.0f} MB")
    common.row("5 s mel, command to file", f"{statistics.median(times):.2f} s (the first time {first:.2f} s)")
    common.row(f"{_LONG:g} s mel, peak memory", f"{memory:.0f} MiB")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("install", "Time and size of a new installation.")
    common.add_runs(parser, 7)
    parser.add_argument("--extra", help="an extra to install as well, such as torch")
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        with tempfile.TemporaryDirectory() as name:
            measure(Path(name), options.extra, options.runs)

    return common.status("install", benchmark)


if __name__ == "__main__":
    sys.exit(main())
