"""Noise that generators start from: white, and at any place of an utterance the same whoever asks for it."""

from __future__ import annotations

import numpy as np

_BLOCK = 1 << 14


def white_noise(start: int, stop: int, seed: int) -> np.ndarray:
    """Samples ``start`` to ``stop`` of standard normal noise, float32 (stop - start,), which hang on the seed alone.

    Drawn in blocks that are seeded by their number: a chunk far into a stream costs no more than the first one, and
    holds what the whole utterance holds there, on every device and in every runtime.
    """
    first, last = start // _BLOCK, -(-stop // _BLOCK)
    draws = (np.random.default_rng([seed, block]).standard_normal(_BLOCK, np.float32) for block in range(first, last))
    return np.concatenate([np.empty(0, np.float32), *draws])[start - first * _BLOCK : stop - first * _BLOCK]
