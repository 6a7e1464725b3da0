"""What less lookahead costs: python -m recipes.benchmarks.lookahead [MODEL] --data DIR [--list FILE]

Recordings are streamed from their mels, a frame a push, with the model's own lookahead and with less.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from recipes.benchmarks import common
from recipes.data.clips import Clip, choose, find_clips, list_clips, read_clip
from recipes.evaluation.metrics import Signal, compare
from vocoders import load
from vocoders.inference.base import BaseVocoder

LOOKAHEADS = (None, 40, 25, 15, 8)
METRICS = ("pesq", "log_mel_l1", "voicing_error")


def measure(voc: BaseVocoder, clips: list[Clip], lookahead: int | None) -> list[float]:
    """Return the means of METRICS over the clips, and seconds of audio synthesised in a second."""
    values, audio_seconds, seconds = [], 0.0, 0.0
    for clip in clips:
        reference = Signal(read_clip(clip, voc.mel_config)[0].numpy(), voc.sample_rate)
        mel = voc.analyze(reference.audio, voc.sample_rate)
        begin = time.process_time()
        pieces = list(voc.stream(np.split(mel, mel.shape[1], axis=1), lookahead=lookahead))
        seconds += time.process_time() - begin
        audio_seconds += len(reference.audio) / voc.sample_rate
        metrics = compare(reference, Signal(np.concatenate(pieces), voc.sample_rate), voc.mel_config)
        values.append([metrics[name] for name in METRICS])
    return [*np.nanmean(values, 0), audio_seconds / seconds]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("lookahead", "What less lookahead costs.")
    common.add_model(parser)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of recordings")
    parser.add_argument("--list", metavar="FILE", help="file in DIR that lists the recordings to measure")
    parser.add_argument("--clips", type=int, default=6, metavar="N", help="recordings, evenly spaced (default: 6)")
    options = parser.parse_args(arguments)

    def benchmark() -> None:
        root, voc = options.data, load(options.model)
        clips = choose(list_clips(root, root / options.list) if options.list else find_clips(root), options.clips)
        common.header("lookahead", "ms", "PESQ", "log-mel L1", "voicing error, %", "x real time")
        for lookahead in LOOKAHEADS:
            frames = voc.open_stream(lookahead=lookahead).lookahead
            pesq, mel, voicing, speed = measure(voc, clips, lookahead)
            ms = f"{frames * voc.mel_config.hop_length / voc.sample_rate * 1000:.0f}"
            common.row(str(frames), ms, f"{pesq:.2f}", f"{mel:.3f}", f"{100 * voicing:.1f}", f"{speed:.1f}")

    return common.status("lookahead", benchmark)


if __name__ == "__main__":
    sys.exit(main())
