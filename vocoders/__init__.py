"""Neural vocoders: mel-spectrograms in, waveforms out.

import vocoders
voc = vocoders.load()          # the built-in model
audio = voc(mel)               # (n_mels, frames) -> (frames * hop_length,)
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vocoders.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from vocoders.dsp.log_mel import LogMelSpectrogram
    from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
    from vocoders.errors import CheckpointError, MelMismatch, MelWarning, VocoderError
    from vocoders.f0_estimator import F0Estimator
    from vocoders.inference.base import BaseVocoder
    from vocoders.inference.stream import Stream
    from vocoders.inference.vocoder import Vocoder
    from vocoders.io.mels import read_mel
    from vocoders.onnx.vocoder import OnnxVocoder
    from vocoders.pretrained import list_models, load

_MODULES = {
    "BaseVocoder": "vocoders.inference.base",
    "Checkpoint": "vocoders.checkpoint",
    "CheckpointError": "vocoders.errors",
    "F0Estimator": "vocoders.f0_estimator",
    "LogMelSpectrogram": "vocoders.dsp.log_mel",
    "MEL_CONFIGS": "vocoders.dsp.mel",
    "MelConfig": "vocoders.dsp.mel",
    "MelMismatch": "vocoders.errors",
    "MelWarning": "vocoders.errors",
    "OnnxVocoder": "vocoders.onnx.vocoder",
    "Stream": "vocoders.inference.stream",
    "Vocoder": "vocoders.inference.vocoder",
    "VocoderError": "vocoders.errors",
    "list_models": "vocoders.pretrained",
    "load": "vocoders.pretrained",
    "load_checkpoint": "vocoders.checkpoint",
    "read_mel": "vocoders.io.mels",
    "save_checkpoint": "vocoders.checkpoint",
}

__all__ = [
    "MEL_CONFIGS",
    "BaseVocoder",
    "Checkpoint",
    "CheckpointError",
    "F0Estimator",
    "LogMelSpectrogram",
    "MelConfig",
    "MelMismatch",
    "MelWarning",
    "OnnxVocoder",
    "Stream",
    "Vocoder",
    "VocoderError",
    "__version__",
    "list_models",
    "load",
    "load_checkpoint",
    "read_mel",
    "save_checkpoint",
]

_NEED_TORCH = {
    name
    for name, module in _MODULES.items()
    if module in ("vocoders.checkpoint", "vocoders.dsp.log_mel", "vocoders.f0_estimator", "vocoders.inference.vocoder")
}
if find_spec("torch") is None or find_spec("safetensors") is None:  # list only what works
    __all__[:] = [name for name in __all__ if name not in _NEED_TORCH]


def __getattr__(name: str) -> Any:
    """Import a public name on first use: ``vocode --help`` need not wait for torch."""
    if name == "__version__":
        from importlib.metadata import version

        return version("vocoders")
    if name not in _MODULES:
        raise AttributeError(f"module 'vocoders' has no attribute '{name}'")
    try:
        return getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        from vocoders.errors import VocoderError
        from vocoders.extras import require

        try:
            require(f"vocoders.{name}", "torch", "torch", "safetensors")
        except VocoderError as message:
            # "from vocoders import NAME" would replace the message of an AttributeError.
            importing = sys._getframe(1).f_code.co_name == "_handle_fromlist"
            raise (ImportError if importing else AttributeError)(str(message), name=name) from None
        raise


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
