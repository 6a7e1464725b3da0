"""Recordings, F0 labels, training segments and predicted mels."""
