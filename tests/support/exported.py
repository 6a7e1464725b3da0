"""Export each model of the tests once, as exporting takes seconds."""

from collections.abc import Callable
from pathlib import Path

from vocoders.onnx.vocoder import OnnxVocoder

Exported = Callable[[str], OnnxVocoder]
MadeOnce = Callable[[str, Callable[[Path], None]], Path]
"""From a name and the function that makes the file, to its path."""
