"""Copy synthesis of recordings, measured: python -m recipes.evaluate [MODEL ...] --data DIR

Each recording is analysed, synthesised again from its mel alone, and compared with itself; Griffin-Lim (60
iterations) on the same mels stands beside the models.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from recipes.data import Clip, f0_at, frame_times, label_f0, list_clips, open_clip, read_clip
from recipes.griffin_lim import griffin_lim
from recipes.metrics import compare, pitch_metrics
from vocoders.errors import VocoderError
from vocoders.files import replacing
from vocoders.jobs import AUDIO_SUFFIXES
from vocoders.stft import STFT
from vocoders.vocoder import Vocoder, load

Metrics = dict[str, float]


def find_clips(folder: Path, list_file: str | None) -> list[Clip]:
    """The recordings to measure on: all sound files of a folder, or those of a list in it."""
    if list_file:
        return list_clips(folder, folder / list_file)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    if not paths:
        raise VocoderError(f"{folder} holds no recordings")
    return [open_clip(path) for path in paths]


def evaluate(voc: Vocoder, clips: list[Clip], baseline: bool) -> dict[str, list[Metrics]]:
    """Per-clip metrics of the model, of its pitch estimator and, with ``baseline``, of Griffin-Lim."""
    spec = voc.mel_spec
    systems: dict[str, Callable[[np.ndarray], np.ndarray]] = {voc.name: voc}
    if baseline:
        systems["griffin-lim"] = lambda mel: griffin_lim(torch.from_numpy(mel), spec).numpy()
    results: dict[str, list[Metrics]] = {name: [] for name in systems}
    # Generators place frame t in the middle of hop t: with a "center" convention they are half a hop late.
    late = spec.hop_length // 2 if spec.padding == "center" else 0
    for clip in tqdm(clips, desc=voc.name, unit="clip", disable=None):
        audio = read_clip(clip, spec)[0].numpy()
        mel = voc.analyze(audio)
        for name, system in systems.items():
            begin = 0 if name == "griffin-lim" else late
            results[name].append(compare(audio, system(mel)[begin : begin + len(audio)], spec))
        if voc.pitch is not None:
            found = voc.pitch.estimate(torch.from_numpy(mel)[None])[0, 0].numpy()
            wanted = f0_at(label_f0(audio, spec.sample_rate), frame_times(len(found), spec))
            results.setdefault(f"{voc.name}: F0 from the mel", []).append(pitch_metrics(wanted, found))
    return results


def picture(voc: Vocoder, clip: Clip, path: Path, seconds: float = 4.0) -> None:
    """Spectrograms (80 dB of range) of a recording, of the model and of Griffin-Lim, one below the other."""
    from matplotlib.figure import Figure

    spec = voc.mel_spec
    audio = read_clip(clip, spec)[0].numpy()[: int(seconds * spec.sample_rate) // spec.hop_length * spec.hop_length]
    mel = voc.analyze(audio)
    signals = {
        f"recording {clip.path.stem}": audio,
        voc.name: voc(mel),
        "Griffin-Lim, 60 iterations": griffin_lim(torch.from_numpy(mel), spec).numpy(),
    }
    figure = Figure(figsize=(10, 8), layout="constrained")
    for axes, (name, signal) in zip(figure.subplots(3, 1, sharex=True), signals.items(), strict=True):
        decibels = 20 * STFT(1024, 128)(torch.from_numpy(signal)).abs().clamp_min(1e-5).log10().numpy()
        extent = (0, len(signal) / spec.sample_rate, 0, spec.sample_rate / 2000)
        top = float(decibels.max())
        axes.imshow(decibels, origin="lower", aspect="auto", extent=extent, vmin=top - 80, vmax=top, cmap="magma")
        axes.set(title=name, ylabel="kHz")
    axes.set_xlabel("s")
    with replacing(path) as partial:
        figure.savefig(partial, dpi=80)


def mean(results: list[Metrics]) -> Metrics:
    """The mean over the clips, leaving out those on which a metric is not defined."""
    values = {key: [clip[key] for clip in results if not np.isnan(clip[key])] for key in results[0]}
    return {key: float(np.mean(column)) if column else float("nan") for key, column in values.items()}


def table(means: dict[str, Metrics]) -> str:
    """Systems down, metrics across, in Markdown."""
    columns = list(dict.fromkeys(key for values in means.values() for key in values))
    rows = [["system", *columns], ["---"] * (len(columns) + 1)]
    for name, values in means.items():
        rows.append([name, *(f"{values[key]:.3f}" if key in values else "" for key in columns)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m recipes.evaluate", description="Measure copy synthesis.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="as for vocode -m (default: the built-in voice)")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of recordings")
    parser.add_argument("--list", metavar="FILE", help="file in DIR that lists the recordings to take")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write means and per-clip figures here")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw spectrograms of the first recording (.png)")
    options = parser.parse_args(arguments)
    try:
        clips = find_clips(options.data, options.list)
        results: dict[str, list[Metrics]] = {}
        for index, model in enumerate(options.models or [None]):
            voc = load(model)
            if options.picture and index == 0:
                picture(voc, clips[0], options.picture)
            results |= evaluate(voc, clips, baseline=index == 0)
    except VocoderError as error:
        print(f"recipes.evaluate: {error}", file=sys.stderr)
        return 2
    means = {name: mean(values) for name, values in results.items()}
    print(table(means))
    if options.json:
        names = [str(clip.path.relative_to(options.data)) for clip in clips]
        options.json.write_text(json.dumps({"clips": names, "mean": means, "per_clip": results}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
