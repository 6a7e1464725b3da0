"""Errors and warnings for users; each message is one sentence with the problem and the remedy."""

from collections.abc import Iterable

_SHOWN = 5


def printable(text: str) -> str:
    """Escape invisible characters: names may hold terminal control codes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class VocoderError(ValueError):
    """Base of all errors about input; its message can be printed as it is."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


class MelMismatch(VocoderError):
    """A mel was made with another mel config than the model's."""


class CheckpointError(VocoderError):
    """A file is not a checkpoint of this package, or is damaged."""


class MelWarning(UserWarning):
    """The values of a mel look like those of another mel config."""


def shorten(value: object, length: int = 80) -> str:
    """Quote a value in a message, one line of at most ``length`` characters."""
    line = " ".join(str(value)[: 2 * length].split())
    return line if len(line) <= length else line[: length - 3] + "..."


def few(names: Iterable[str], separator: str = ", ") -> str:
    """Join the first five names, and count the others."""
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else ""
    return separator.join(ordered[:_SHOWN]) + more


def reason(error: BaseException) -> str:
    """Return another library's error as one line, or its class name."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
