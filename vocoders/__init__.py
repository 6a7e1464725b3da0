"""Neural vocoders: mel-spectrograms in, waveforms out.

import vocoders
voc = vocoders.load()          # the built-in voice
audio = voc(mel)               # (n_mels, frames) -> (frames * hop_length,)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vocoders.analysis import MelSpectrogram
    from vocoders.errors import MelMismatch, VocoderError
    from vocoders.mel import MelSpec
    from vocoders.models import load
    from vocoders.onnx_vocoder import OnnxVocoder
    from vocoders.stream import Stream
    from vocoders.vocoder import Vocoder

__all__ = ["MelMismatch", "MelSpec", "MelSpectrogram", "OnnxVocoder", "Stream", "Vocoder", "VocoderError", "load"]

_HOMES = {
    "MelMismatch": "vocoders.errors",
    "VocoderError": "vocoders.errors",
    "MelSpec": "vocoders.mel",
    "MelSpectrogram": "vocoders.analysis",
    "OnnxVocoder": "vocoders.onnx_vocoder",
    "Stream": "vocoders.stream",
    "Vocoder": "vocoders.vocoder",
    "load": "vocoders.models",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``vocode --help`` does not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vocoders' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
