"""How long things take and what memory they need: python -m recipes.benchmarks.vocode [MODEL] [--generators]

Times ``vocode`` on a 5 s mel from command to file, each time in a process of its own, beside one that only imports
torch, and splits it into what precedes synthesis and synthesis itself; then the peak memory for a longer mel. With
--generators instead: parameters, work and speed of every published configuration, untrained. Medians; the machine
should be idle.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vocoders.checkpoint import Checkpoint
from vocoders.cli.bench import median_time
from vocoders.complexity import macs_per_second
from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.generators import build_generator
from vocoders.generators.hifigan import HiFiGAN
from vocoders.generators.istftnet import ISTFTNet
from vocoders.generators.parallel_wavegan import ParallelWaveGAN
from vocoders.generators.wavehax import Wavehax
from vocoders.inference.vocoder import Vocoder
from vocoders.pretrained import load

# Does what ``vocode in.npz -o out.wav`` does, with a clock between its parts.
_TIMED = """
import time; begin = time.perf_counter()
import sys, json
import vocoders.audio, vocoders.cli, vocoders.pretrained
from pathlib import Path
model = sys.argv[3] if len(sys.argv) > 3 else None
if str(model).endswith(".onnx"):
    import onnxruntime, vocoders.onnx.vocoder
else:
    import vocoders.vocoder
imported = time.perf_counter()
voc = vocoders.pretrained.load(model)
mel, _ = vocoders.io.mels.read_mel(vocoders.files.read_file(Path(sys.argv[1])), "mel")
loaded = time.perf_counter()
audio = voc(mel)
synthesised = time.perf_counter()
voc(mel)
again = time.perf_counter()
print(json.dumps([imported - begin, loaded - imported, synthesised - loaded, again - synthesised]))
"""

_MEASURED = """
import sys
from vocoders.cli import vocode
assert vocode() == 0
from recipes.benchmarks import peak_resident
print(peak_resident())
"""


def write_mel(folder: Path, model: str | None, seconds: float) -> Path:
    """A mel of noise-like values with the model's mel config."""
    from vocoders.io.mels import encode_mel

    mel_config = load(model).mel_config
    frames = round(seconds * mel_config.sample_rate / mel_config.hop_length)
    mel = np.random.default_rng(0).standard_normal((mel_config.n_mels, frames), np.float32) * 1.5 - 6
    path = folder / f"mel-{seconds:g}.npy"
    path.write_bytes(encode_mel(mel, mel_config, "npy"))
    return path


def published() -> dict[str, tuple[str, dict[str, Any], MelConfig]]:
    """Every published configuration: by its label, the generator's name, its configuration and its mel config."""
    sizes: dict[str, tuple[str, dict[str, Any], MelConfig]] = {}
    mel_config, wavehax, pwg = (MEL_CONFIGS[name] for name in ("hifigan-22k", "wavehax-24k", "espnet-24k"))
    full_band = wavehax.model_copy(update={"sample_rate": 48000, "hop_length": 480, "n_fft": 2048, "win_length": 2048})
    sizes |= {f"HiFi-GAN {key.upper()}": ("hifigan", c.model_dump(), mel_config) for key, c in HiFiGAN.configs.items()}
    sizes |= {
        f"iSTFTNet {key.upper()}": ("istftnet", c.model_dump(), mel_config) for key, c in ISTFTNet.configs.items()
    }
    sizes["Parallel WaveGAN v1, 24 kHz"] = ("parallel-wavegan", ParallelWaveGAN.configs["v1-24k"].model_dump(), pwg)
    for key, version in Wavehax.configs.items():
        sizes[f"Wavehax {key}"] = ("wavehax", version.model_dump(), full_band if key == "fullband" else wavehax)
    sizes["Wavehax multi-stream"] = ("multi-stream-wavehax", {}, wavehax)
    sizes["HNMask"] = ("hnmask", {}, mel_config)
    return sizes


def generators_table(seconds: float = 2.0, runs: int = 5) -> str:
    """Parameters, GMAC per second of audio and speed of every published configuration, in Markdown."""
    rows = ["| generator | parameters | GMAC/s | x real time |", "|---|---|---|---|"]
    for label, (name, config, mel_config) in published().items():
        model = build_generator(name, config, mel_config)
        vocoder = Vocoder(Checkpoint(mel_config, model))
        frames = round(seconds * mel_config.sample_rate / mel_config.hop_length)
        mel, f0 = np.full((mel_config.n_mels, frames), -5.0), np.full(frames, 150.0)
        speed = seconds / median_time(partial(vocoder, mel, f0), runs)
        count = sum(p.numel() for p in model.parameters()) / 1e6
        rows.append(f"| {label} | {count:.2f} M | {macs_per_second(model) / 1e9:.2f} | {speed:.1f} |")
    return "\n".join(rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes.benchmarks.vocode", description="Time and memory of vocode."
    )
    parser.add_argument("model", nargs="?", help="as for vocode -m (default: the built-in voice)")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--long", type=float, default=60.0, metavar="SECONDS", help="of the mel for peak memory (60)")
    parser.add_argument("--generators", action="store_true", help="a table of all published configurations")
    options = parser.parse_args(arguments)
    if options.generators:
        print(generators_table())
        return 0
    more = [options.model] if options.model else []
    vocode = [sys.executable, "-c", "import sys; from vocoders.cli import vocode; sys.exit(vocode())", "-q"]
    vocode += ["-m", options.model] if options.model else []
    totals, torch_alone, parts = [], [], []
    with tempfile.TemporaryDirectory() as name:
        short, long = (write_mel(Path(name), options.model, seconds) for seconds in (5, options.long))
        out = str(Path(name) / "out.wav")
        for _ in range(options.runs):
            begin = time.perf_counter()
            subprocess.run([*vocode, str(short), "-o", out], check=True)
            totals.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import torch"], check=True)
            torch_alone.append(time.perf_counter() - begin)
            timed = subprocess.run(
                [sys.executable, "-c", _TIMED, str(short), out, *more], check=True, capture_output=True, text=True
            )
            parts.append(json.loads(timed.stdout))
        measured = [sys.executable, "-c", _MEASURED, *vocode[3:], str(long), "-o", out]
        peak = float(subprocess.run(measured, check=True, capture_output=True, text=True).stdout)
    imports, loading, first, again = (statistics.median(column) for column in zip(*parts, strict=True))
    total, alone = statistics.median(totals), statistics.median(torch_alone)
    print(f"python -c 'import torch': {alone:.2f} s (median of {options.runs})")
    print(f"5 s mel, command to file: {total:.2f} s, {total / alone:.2f} times that, of which")
    print(f"  imports {imports:.2f} s, model and mel {loading:.2f} s, synthesis {first:.2f} s")
    print(f"  synthesis a second time {again:.2f} s: {5 / again:.0f} x real time")
    print(f"{options.long:g} s mel: peak memory {peak:.0f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
