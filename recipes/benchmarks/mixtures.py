"""Two voices at once, and voices with instruments: python -m recipes.benchmarks.mixtures OUT --data DIR [--list FILE]

Writes recordings that have no single F0, for ``python -m recipes.evaluate MODEL --data OUT/KIND``:

- two-voices: each recording with the next one, both at the level of the first;
- chords: three tones at a time, as of instruments, as long as the recording;
- voice-and-chord: the recording over such chords, which are 6 dB softer.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from recipes.benchmarks import common
from recipes.data.augmentation import at_level, level, tone
from recipes.data.clips import choose, find_clips, list_clips, read_clip
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.errors import VocoderError
from vocoders.files import write_file
from vocoders.io.audio import encode_audio

KINDS = ("two-voices", "chords", "voice-and-chord")
_MEL_CONFIG = MEL_CONFIGS["bigvgan-24k"]  # the rate of what is written
_PITCHES = ((80.0, 200.0), (150.0, 400.0), (300.0, 900.0))  # Hz, the tones of a chord


def chord(samples: int, draw: np.random.Generator) -> np.ndarray:
    """Make three tones at once, each of its own loudness and colour: (samples,), at a level of -20 dB."""
    frames = -(-samples // _MEL_CONFIG.hop_length)
    tones = [tone(frames, _MEL_CONFIG, hz, draw)[0][:samples] for hz in _PITCHES]
    return at_level(np.sum(tones, axis=0), -20)


def mix(audio: np.ndarray, other: np.ndarray, draw: np.random.Generator) -> list[np.ndarray]:
    """Make a mixture of each of KINDS from two recordings, all (samples,), in [-1, 1]."""
    two_voices = audio + at_level(np.resize(other, len(audio)), level(audio))
    chords = chord(len(audio), draw)
    mixtures = [two_voices, chords, audio + at_level(chords, level(audio) - 6)]
    return [mixed / max(1.0, np.abs(mixed).max()) for mixed in mixtures]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = common.parser("mixtures", "Two voices at once, and voices with instruments.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of recordings")
    parser.add_argument("--list", metavar="FILE", help="file in DIR that lists the recordings to mix")
    parser.add_argument("--clips", type=int, metavar="N", help="mix only N of the recordings, evenly spaced")
    options = parser.parse_args(arguments)

    def write() -> None:
        root = options.data
        clips = choose(list_clips(root, root / options.list) if options.list else find_clips(root), options.clips)
        recordings = [read_clip(clip, _MEL_CONFIG)[0].double().numpy() for clip in clips]
        for kind in KINDS:
            try:
                (options.out / kind).mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise VocoderError(f"cannot make the folder {options.out / kind}: {error.strerror}") from None
        draw = np.random.default_rng(0)
        for i, (clip, audio) in enumerate(zip(clips, recordings, strict=True)):
            mixtures = mix(audio, recordings[(i + 1) % len(recordings)], draw)
            for kind, mixed in zip(KINDS, mixtures, strict=True):
                data = encode_audio(mixed.astype(np.float32), _MEL_CONFIG.sample_rate, "flac")
                write_file(options.out / kind / f"{i:03d}-{clip.path.stem}.flac", data)

    return common.status("mixtures", write)


if __name__ == "__main__":
    sys.exit(main())
