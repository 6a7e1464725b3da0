"""Optional dependencies. Does not import torch."""

from __future__ import annotations

from importlib import import_module

from vocoders.errors import VocoderError


def require(purpose: str, extra: str, *modules: str) -> None:
    """Check that ``modules`` of an extra can be imported, for ``purpose``, the subject of the VocoderError."""
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == module
            reason = "is not installed" if missing else f"cannot be imported ({error})"
            raise VocoderError(
                f"{purpose} needs {module}, which {reason}: pip install '.[{extra}]' in the clone"
            ) from None
