"""Recordings, F0 labels, training segments, predicted mels, and the preparation of datasets."""
