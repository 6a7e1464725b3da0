"""How long a command takes and what memory it needs: python -m recipes.benchmark [MODEL]

Times ``vocode`` on a 5 s mel from command to file, each time in a process of its own, and splits it into what precedes
synthesis and synthesis itself; then the peak memory for a 60 s mel. Medians; the machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vocoders.vocoder import load

# Does what ``vocode in.npz -o out.wav`` does, with a clock between its parts.
_TIMED = """
import time; begin = time.perf_counter()
import sys, json
import vocoders.audio, vocoders.cli, vocoders.vocoder
imported = time.perf_counter()
voc = vocoders.vocoder.load(sys.argv[3] if len(sys.argv) > 3 else None)
from pathlib import Path
mel, _ = vocoders.audio.read_mel(vocoders.audio.read_file(Path(sys.argv[1])), "mel")
loaded = time.perf_counter()
audio = voc(mel)
synthesised = time.perf_counter()
voc(mel)
again = time.perf_counter()
print(json.dumps([imported - begin, loaded - imported, synthesised - loaded, again - synthesised]))
"""


def write_mel(folder: Path, model: str | None, seconds: float) -> Path:
    """A mel of noise-like values with the model's convention."""
    from vocoders.audio import encode_mel

    spec = load(model).mel_spec
    frames = round(seconds * spec.sample_rate / spec.hop_length)
    mel = np.random.default_rng(0).normal(-6, 1.5, (spec.n_mels, frames)).astype(np.float32)
    path = folder / f"mel-{seconds:g}.npz"
    path.write_bytes(encode_mel(mel, spec, "npz"))
    return path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.benchmark", description="Time and memory of vocode.")
    parser.add_argument("model", nargs="?", help="as for vocode -m (default: the built-in voice)")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args(arguments)
    more = [options.model] if options.model else []
    vocode = [sys.executable, "-c", "import sys; from vocoders.cli import vocode; sys.exit(vocode())", "-q"]
    vocode += ["-m", options.model] if options.model else []
    totals, parts = [], []
    with tempfile.TemporaryDirectory() as name:
        short, long = (write_mel(Path(name), options.model, seconds) for seconds in (5, 60))
        out = str(Path(name) / "out.wav")
        for _ in range(options.runs):
            begin = time.perf_counter()
            subprocess.run([*vocode, str(short), "-o", out], check=True)
            totals.append(time.perf_counter() - begin)
            timed = subprocess.run(
                [sys.executable, "-c", _TIMED, str(short), out, *more], check=True, capture_output=True, text=True
            )
            parts.append(json.loads(timed.stdout))
        subprocess.run([*vocode, str(long), "-o", out], check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    imports, loading, first, again = (statistics.median(column) for column in zip(*parts, strict=True))
    print(f"5 s mel, command to file: {statistics.median(totals):.2f} s (median of {options.runs}), of which")
    print(f"  imports {imports:.2f} s, model and mel {loading:.2f} s, synthesis {first:.2f} s")
    print(f"  synthesis a second time {again:.2f} s: {5 / again:.0f} x real time")
    print(f"60 s mel: peak memory {peak:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
