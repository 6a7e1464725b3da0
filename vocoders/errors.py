"""Errors that a user can act on: each message is one sentence that says what is wrong and what to do."""


class VocoderError(ValueError):
    """Base of every error this package raises about its input."""


class MelMismatch(VocoderError):
    """A mel-spectrogram was made with another convention than the model expects."""


class CheckpointError(VocoderError):
    """A file is not a checkpoint of this package, or is damaged."""
