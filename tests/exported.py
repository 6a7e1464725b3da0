"""Exported models for the tests, each made once: exporting takes seconds."""

from collections.abc import Callable

from vocoders.onnx_vocoder import OnnxVocoder

Exported = Callable[[str], OnnxVocoder]
