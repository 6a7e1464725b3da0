"""F0 and voicing from disturbed mels: python -m recipes.benchmarks.f0_robustness [MODEL] --data DIR [--list FILE]

The F0 estimator of a model on the mels of recordings: exact, smoothed as by an acoustic model, and of the recordings
with noise, in a room, with a second voice, quiet. The reference is WORLD's F0 of the undisturbed recording. MODEL may
hold an F0 estimator alone, as a run of its recipe writes it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from recipes.benchmarks import common
from recipes.data.augmentation import at_level, level, reverberate, shape
from recipes.data.clips import Clip, choose, find_clips, list_clips, read_clip
from recipes.data.f0_labels import f0_at, label_f0
from recipes.data.segments import centered_on_hops, frame_times
from recipes.data.smoothing import LEVELS, smooth_mel
from recipes.evaluation.metrics import f0_metrics
from vocoders.checkpoint import Checkpoint, load_checkpoint
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.errors import VocoderError
from vocoders.pretrained import find_pretrained

Disturbance = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def noisy(slope: float) -> Disturbance:
    """Make a disturbance: noise of a spectral slope, 10 dB below the recording."""

    def add(audio: np.ndarray, sample_rate: int, draw: np.random.Generator) -> np.ndarray:
        noise = shape(draw.standard_normal(len(audio)), slope, sample_rate)
        return audio + at_level(noise, level(audio) - 10)

    return add


DISTURBANCES: dict[str, Disturbance] = {
    "white noise, 10 dB below": noisy(0.0),
    "pink noise, 10 dB below": noisy(-0.5),
    "room of 0.5 s, 3 dB below": lambda audio, rate, draw: reverberate(audio, rate, 0.5, -3.0, draw),
    # The recording backwards is another voice that speaks at the same time.
    "second voice, 10 dB below": lambda audio, rate, draw: audio + at_level(audio[::-1], level(audio) - 10),
    "40 dB quieter": lambda audio, rate, draw: 0.01 * audio,
}


def disturbed_mels(audio: np.ndarray, log_mel: LogMelSpectrogram, draw: np.random.Generator) -> dict[str, np.ndarray]:
    """Make the mels (n_mels, frames) of a recording (samples,): the exact one, and with each disturbance."""
    rate = log_mel.mel_config.sample_rate
    exact = log_mel(torch.from_numpy(audio)).numpy()
    mels = {"exact": exact} | {f"{name} smoothing": smooth_mel(exact, *values) for name, values in LEVELS.items()}
    return mels | {
        name: log_mel(torch.from_numpy(disturb(audio, rate, draw))).numpy() for name, disturb in DISTURBANCES.items()
    }


def measure(checkpoint: Checkpoint, clips: list[Clip]) -> dict[str, dict[str, float]]:
    """Compare F0 from each kind of mel with WORLD's of the recordings: the metrics over the frames of all clips.

    Raises:
        VocoderError: when the checkpoint holds no F0 estimator, or a recording cannot be read.
    """
    if checkpoint.f0_estimator is None:
        raise VocoderError("the model holds no F0 estimator")
    estimator, mel_config = checkpoint.f0_estimator.double(), centered_on_hops(checkpoint.mel_config)
    log_mel, draw = LogMelSpectrogram(mel_config, torch.float64), np.random.default_rng(0)
    tracks: dict[str, list[np.ndarray]] = {}
    for clip in clips:
        audio = read_clip(clip, mel_config)[0].double().numpy()
        frames = len(audio) // mel_config.hop_length
        reference = f0_at(label_f0(audio, mel_config.sample_rate), frame_times(frames, mel_config))
        for name, mel in disturbed_mels(audio, log_mel, draw).items():
            estimate = estimator.estimate(torch.from_numpy(mel)[None])[0, 0].numpy()
            tracks.setdefault(name, []).append(np.stack([reference, estimate]))
    return {name: f0_metrics(*np.concatenate(parts, axis=1)) for name, parts in tracks.items()}


@torch.no_grad()
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("f0_robustness", "F0 and voicing from disturbed mels.")
    common.add_model(parser)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of recordings")
    parser.add_argument("--list", metavar="FILE", help="file in DIR that lists the recordings to measure")
    parser.add_argument("--clips", type=int, metavar="N", help="measure only N of the recordings, evenly spaced")
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        checkpoint = load_checkpoint(find_pretrained(options.model)[1])
        root = options.data
        clips = choose(list_clips(root, root / options.list) if options.list else find_clips(root), options.clips)
        rows = measure(checkpoint, clips)
        common.header("mel", "voicing error, %", "gross F0 error, %", "F0 RMSE, cents")
        for name, metrics in rows.items():
            percents = (f"{100 * metrics[key]:.1f}" for key in ("voicing_error", "gross_error"))
            common.row(name, *percents, f"{metrics['f0_rmse_cents']:.0f}")

    return common.status("f0_robustness", benchmark)


if __name__ == "__main__":
    sys.exit(main())
