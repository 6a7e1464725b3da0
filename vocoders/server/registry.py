"""The models a server speaks with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.inference.stream import Stream
from vocoders.pretrained import DEFAULT_VOICE, load


@dataclass(frozen=True)
class Voice:
    """A model and what a client may know of it.

    vocoder: a Vocoder or an OnnxVocoder, or what behaves like one.
    lookahead: frames that must follow a frame before its audio is final; None for a model that cannot stream.
    """

    name: str
    vocoder: Any
    lookahead: int | None

    @property
    def mel_config(self) -> MelConfig:
        mel_config: MelConfig = self.vocoder.mel_config
        return mel_config

    @property
    def batches(self) -> bool:
        """Whether utterances can pass it together."""
        return True

    def seconds(self, frames: int) -> float:
        return frames * self.mel_config.hop_length / self.mel_config.sample_rate

    def stream(self, seed: int) -> Stream:
        """Raises VocoderError for a model that cannot stream."""
        return open_stream(self.vocoder, seed)


def open_stream(vocoder: Any, seed: int) -> Stream:
    stream: Stream = vocoder.open_stream(seed)
    return stream


def make_voice(name: str, vocoder: Any) -> Voice:
    """Raises VocoderError for a model that makes no audio from a mel alone."""
    mel_config = vocoder.mel_config
    # Quiet noise; the first synthesis is slow in every runtime, and here nobody waits for it.
    mel = np.random.default_rng(0).normal(mel_config.log_floor / 2, 0.5, (mel_config.n_mels, 64)).astype(np.float32)
    vocoder(mel)
    try:
        lookahead = open_stream(vocoder, 0).lookahead
    except VocoderError:
        lookahead = None
    return Voice(name, vocoder, lookahead)


def load_models(models: list[str], device: str) -> dict[str, Voice]:
    """Voices by name, the default one first; a model in a file is named by it, without folder and ending.

    Raises VocoderError for a model that cannot be loaded or served, and for two of one name.
    """
    voices: dict[str, Voice] = {}
    for model in models or [DEFAULT_VOICE]:
        vocoder = load(model, device)
        name = Path(vocoder.name).name.removesuffix(".safetensors").removesuffix(".onnx")
        if name in voices:
            raise VocoderError(f"two models have the name '{name}'; rename one of the files")
        voices[name] = make_voice(name, vocoder)
    return voices
