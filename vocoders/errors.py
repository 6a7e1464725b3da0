"""Errors and warnings for users: each message is one sentence that says what is wrong and what to do."""

from collections.abc import Iterable

_SHOWN = 5


def printable(text: str) -> str:
    """Escape what is no visible character: names of files and of models may hold codes that control a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class VocoderError(ValueError):
    """Base class of all errors that this package raises about its input; its message can be printed as it is."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class MelMismatch(VocoderError):
    """A mel-spectrogram was made with another mel config than the model expects."""


class CheckpointError(VocoderError):
    """A file is not a checkpoint of this package, or is damaged."""


class MelWarning(UserWarning):
    """The values of a mel look like those of another mel config than it is taken for."""


def shorten(value: object, length: int = 80) -> str:
    """Return a value that a message quotes as one line of at most ``length`` characters."""
    line = " ".join(str(value)[: 2 * length].split())
    return line if len(line) <= length else line[: length - 3] + "..."


def few(names: Iterable[str]) -> str:
    """Join names for a message: the first five in order, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more


def reason(error: BaseException) -> str:
    """Return the first line of an error of another library, or its kind where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
