"""White noise that generators start from: the same at a place of an utterance, however it is drawn. Without torch."""

from __future__ import annotations

import numpy as np

_BLOCK = 1 << 14


def white_noise(start: int, stop: int, seed: int) -> np.ndarray:
    """Draw samples ``start`` to ``stop`` of the standard normal noise that belongs to a seed.

    The noise is drawn in blocks that are seeded by their number: a chunk far into a stream costs no more than the first
    one, and holds what the whole utterance holds there, on every device and in every runtime.

    Args:
        start: first sample.
        stop: the sample behind the last one.
        seed: all that the noise depends on.

    Returns:
        float32 (stop - start,).
    """
    first, last = start // _BLOCK, -(-stop // _BLOCK)
    draws = (np.random.default_rng([seed, block]).standard_normal(_BLOCK, np.float32) for block in range(first, last))
    return np.concatenate([np.empty(0, np.float32), *draws])[start - first * _BLOCK : stop - first * _BLOCK]
