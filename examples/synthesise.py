"""Synthesis of a mel file to a sound file: python examples/synthesise.py tests/data/hello.npz out.wav"""

import sys

import numpy as np
import soundfile

import vocoders


def main(mel_file: str, sound_file: str) -> None:
    voc = vocoders.load()  # the built-in model; or a file, or "org/name" on the Hugging Face hub

    mel, mel_config = vocoders.read_mel(mel_file)  # None for an .npy, which does not state it
    if mel_config is not None:
        mel = voc.convert(mel, mel_config)  # exact, or MelMismatch with the fields that differ

    audio = voc(mel, seed=1)  # float32 (frames * hop_length,), not clipped
    soundfile.write(sound_file, np.clip(audio, -1, 1), voc.sample_rate)
    print(f"{sound_file}: {len(audio) / voc.sample_rate:.2f} s from {mel.shape[1]} frames")

    # Copy synthesis: back to a mel, and to audio again.
    again = voc(voc.analyze(audio, voc.sample_rate), seed=2)
    print(f"copied: {len(again) / voc.sample_rate:.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:3])
