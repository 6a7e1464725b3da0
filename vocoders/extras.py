"""Optional dependencies: what needs one says so, with the extra that installs it. Does not import torch."""

from __future__ import annotations

from importlib import import_module

from vocoders.errors import VocoderError


def require(purpose: str, extra: str, *modules: str) -> None:
    """Check that modules of an extra can be imported.

    Args:
        purpose: what needs them, the subject of the message.
        extra: the extra of this package that installs them.
        modules: their names.

    Raises:
        VocoderError: for the first one that cannot be imported.
    """
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == module
            reason = "is not installed" if missing else f"cannot be imported ({error})"
            raise VocoderError(
                f"{purpose} needs {module}, which {reason}: pip install '.[{extra}]' in the clone"
            ) from None
