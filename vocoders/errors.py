"""Errors and warnings for users: each message is one sentence that says what is wrong and what to do."""


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
