"""Audio while the frames of a mel arrive: python examples/stream.py tests/data/hello.npz out.wav"""

import sys
from collections.abc import Iterator

import numpy as np
import soundfile

import vocoders

CHUNK = 20  # frames


def arriving(mel: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a mel some frames at a time, in place of an acoustic model."""
    for begin in range(0, mel.shape[1], CHUNK):
        yield mel[:, begin : begin + CHUNK]


def main(mel_file: str, sound_file: str) -> None:
    voc = vocoders.load()
    with np.load(mel_file) as file:
        mel = file["mel"]  # (80, frames)

    with soundfile.SoundFile(sound_file, "w", voc.sample_rate, 1) as output:
        for piece in voc.stream(arriving(mel)):
            output.write(np.clip(piece, -1, 1))  # or play it

    # The same with pushes, for frames that come from a callback.
    stream = voc.open_stream()
    ahead = stream.lookahead * voc.mel_config.hop_length / voc.sample_rate
    print(f"audio is final {stream.lookahead} frames later, {1000 * ahead:.0f} ms")
    pieces = [stream.push(chunk) for chunk in arriving(mel)]
    pieces.append(stream.finish())

    difference = np.abs(np.concatenate(pieces) - voc(mel)).max()
    print(f"joined, they differ from the whole by at most {difference:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
