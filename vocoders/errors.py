"""Errors and warnings for users: each message is one sentence that says what is wrong and what to do."""

from collections.abc import Iterable

_SHOWN = 5


class VocoderError(ValueError):
    """Base class of all errors that this package raises about its input."""


class MelMismatch(VocoderError):
    """A mel-spectrogram was made with another mel config than the model expects."""


class CheckpointError(VocoderError):
    """A file is not a checkpoint of this package, or is damaged."""


class MelWarning(UserWarning):
    """The values of a mel look like those of another mel config than it is taken for."""


def few(names: Iterable[str]) -> str:
    """Join names for a message: the first five in order, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more


def reason(error: BaseException) -> str:
    """Return the first line of an error of another library, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
