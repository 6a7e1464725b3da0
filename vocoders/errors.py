"""Errors that a user can act on: each message is one sentence that says what is wrong and what to do."""


class VocoderError(ValueError):
    """Base of every error this package raises about its input."""


class MelMismatch(VocoderError):
    """A mel-spectrogram was made with another mel config than the model expects."""


class CheckpointError(VocoderError):
    """A file is not a checkpoint of this package, or is damaged."""


class MelWarning(UserWarning):
    """The values of a mel hardly come from the mel config it is taken for."""
