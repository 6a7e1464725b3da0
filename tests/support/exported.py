"""Exported models for the tests, each made once: exporting takes seconds."""

from collections.abc import Callable

from vocoders.onnx.vocoder import OnnxVocoder

Exported = Callable[[str], OnnxVocoder]
