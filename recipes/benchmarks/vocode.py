"""Measure time and memory of vocode: python -m recipes.benchmarks.vocode [MODEL] [--generators] [--picture FILE]

Times ``vocode`` on a 5 s mel from command to file, each time in a new process, its parts (imports, loading, synthesis),
and the peak memory for a longer mel; a built-in model on both backends, in turns. --generators prints parameters, work
and speed of every published size, untrained; --picture draws speed against parameters. Medians; keep the machine idle.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from recipes.benchmarks import common
from vocoders.cli.bench import median_time
from vocoders.complexity import macs_per_second
from vocoders.errors import VocoderError
from vocoders.extras import require
from vocoders.files import atomic_write
from vocoders.inference.synthesis import BackendName
from vocoders.io.mels import encode_mel
from vocoders.pretrained import DEFAULT_MODEL, list_models, load

_VOCODE = "import sys; from vocoders.cli.vocode import vocode; sys.exit(vocode())"

# ``vocode in.npy -o out.wav``, with its parts timed
_TIMED = """
import time; begin = time.perf_counter()
import sys, json
import vocoders.cli.vocode, vocoders.files, vocoders.io.audio, vocoders.io.mels, vocoders.pretrained
from pathlib import Path
mel, model, backend = sys.argv[1:]
if backend == "onnx":
    import vocoders.onnx.session, vocoders.onnx.vocoder
    vocoders.onnx.session.runtime()
else:
    import vocoders.inference.vocoder
imported = time.perf_counter()
voc = vocoders.pretrained.load(model, backend=backend)
mel, _ = vocoders.io.mels.decode_mel(vocoders.files.read_file(Path(mel)), "mel")
loaded = time.perf_counter()
audio = voc(mel)
synthesised = time.perf_counter()
voc(mel)
again = time.perf_counter()
print(json.dumps([imported - begin, loaded - imported, synthesised - loaded, again - synthesised]))
"""

_MEASURED = """
from vocoders.cli.vocode import vocode
assert vocode() == 0
from vocoders.cli.bench import peak_memory
print(peak_memory("cpu"))
"""


def write_mel(folder: Path, model: str, seconds: float) -> Path:
    """Write a mel of noise in the model's mel config."""
    mel_config = load(model).mel_config
    path = folder / f"mel-{seconds:g}.npy"
    path.write_bytes(encode_mel(common.noise_mel(mel_config, seconds), mel_config, "npy"))
    return path


def seconds_of(command: list[str]) -> float:
    """Run a command; return its seconds."""
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - begin


def output_of(command: list[str]) -> str:
    """Run a command; return its output."""
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8", errors="replace").stdout


class Point(NamedTuple):
    """A published size in the picture; ``speed`` in x real time."""

    generator: str
    version: str
    parameters: int
    speed: float


def generators_table(seconds: float = 2.0, runs: int = 5) -> list[Point]:
    """Print parameters, work, speed on one and two threads and latency of every published size; return what is drawn.

    Work is in GMAC per second of audio, latency the lookahead of a stream in ms.
    """
    before = torch.get_num_threads()
    points = []
    common.header("generator", "kHz", "parameters", "GMAC/s", "x real time, 1 core", "2 cores", "latency, ms")
    for label, size in common.published().items():
        vocoder = common.make_vocoder(size.checkpoint())
        mel = common.noise_mel(size.mel_config, seconds)
        inputs = vocoder.plain_inputs(1, mel.shape[1])
        speeds = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            speeds.append(seconds / median_time(partial(vocoder, mel, **inputs), runs))
        count = sum(p.numel() for p in vocoder.generator.parameters())
        work = macs_per_second(vocoder.generator) / 1e9
        lookahead, mel_config = vocoder.facts.lookahead, size.mel_config
        latency = None if lookahead is None else 1000 * lookahead * mel_config.hop_length / mel_config.sample_rate
        common.row(
            label,
            f"{vocoder.sample_rate / 1000:g}",
            f"{count / 1e6:.2f} M",
            f"{work:.2f}",
            *(f"{speed:.1f}" for speed in speeds),
            "" if latency is None else f"{latency:.0f}",
        )
        points.append(Point(size.name, label.removeprefix(f"{size.name} "), count, speeds[-1]))
    torch.set_num_threads(before)
    return points


def draw(points: Sequence[Point], path: Path) -> None:
    """Draw speed against parameters, a colour per generator, into an .svg or .png."""
    require("a picture", "train", "matplotlib")
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    colours = (*matplotlib.color_sequences["tab10"], "black")
    for index, name in enumerate(dict.fromkeys(point.generator for point in points)):
        own = sorted((p for p in points if p.generator == name), key=lambda p: p.parameters)
        sizes, speeds = [p.parameters / 1e6 for p in own], [p.speed for p in own]
        colour = colours[index % len(colours)]
        axes.plot(sizes, speeds, "o-", color=colour, linewidth=0.5, markersize=5, label=name)
        for point, size, speed in zip(own, sizes, speeds, strict=True):
            axes.annotate(point.version, (size, speed), (4, 3), textcoords="offset points", fontsize=7, color=colour)
    axes.set(xscale="log", yscale="log", xlabel="parameters, millions", ylabel="x real time, two cores")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.margins(x=0.1)  # room for the names
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vocoders"}):  # small and reproducible
        figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)


def time_vocode(model: str, backends: Sequence[BackendName], runs: int, long: float) -> None:
    """Print each backend's time of ``vocode`` on 5 s, and its peak memory on ``long`` seconds."""
    options = {backend: ["-q", "-m", model, "--backend", backend] for backend in backends}
    totals: dict[BackendName, list[float]] = {backend: [] for backend in backends}
    parts: dict[BackendName, list[list[float]]] = {backend: [] for backend in backends}
    with tempfile.TemporaryDirectory() as name:
        short_mel, long_mel = (str(write_mel(Path(name), model, seconds)) for seconds in (5, long))
        out = str(Path(name) / "out.wav")
        for _ in range(runs):
            for backend in backends:
                command = [sys.executable, "-c", _VOCODE, *options[backend], short_mel, "-o", out]
                totals[backend].append(seconds_of(command))
                parts[backend].append(json.loads(output_of([sys.executable, "-c", _TIMED, short_mel, model, backend])))
        memory = {
            backend: float(output_of([sys.executable, "-c", _MEASURED, *options[backend], long_mel, "-o", out]))
            for backend in backends
        }
    common.header(f"{model}, 5 s", *backends)
    columns = [[statistics.median(part) for part in zip(*parts[backend], strict=True)] for backend in backends]
    common.row("command to file", *(f"{statistics.median(totals[backend]):.2f} s" for backend in backends))
    for index, label in enumerate(("imports", "model and mel", "first synthesis", "second synthesis")):
        common.row(f"- {label}", *(f"{column[index]:.2f} s" for column in columns))
    common.row("x real time, once loaded", *(f"{5 / column[3]:.0f}" for column in columns))
    common.row(f"peak memory, {long:g} s", *(f"{memory[backend]:.0f} MiB" for backend in backends))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = common.parser("vocode", "Time and memory of vocode.", runs=7, threads=None)
    parser.add_argument("model", nargs="?", help="as for vocode -m (default: the built-in model)")
    parser.add_argument("--long", type=float, default=60.0, metavar="SECONDS", help="mel for peak memory (default: 60)")
    parser.add_argument("--generators", action="store_true", help="print a table of all published sizes instead")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="with --generators: draw it (.svg or .png)")
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        if options.generators and options.picture:
            if options.picture.suffix not in (".svg", ".png"):
                raise VocoderError(f"a picture is .svg or .png, not {options.picture}")
            with atomic_write(options.picture) as path:
                draw(generators_table(runs=options.runs), path)
        elif options.generators:
            generators_table(runs=options.runs)
        else:
            model = options.model or DEFAULT_MODEL
            both: Sequence[BackendName] = ("onnx", "torch")
            backends = both if model in list_models() else (load(model).backend,)
            time_vocode(model, backends, options.runs, options.long)

    return common.status("vocode", benchmark)


if __name__ == "__main__":
    sys.exit(main())
