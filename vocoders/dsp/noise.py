"""White noise that generators start from, the same whether drawn whole or in chunks. Does not import torch."""

from __future__ import annotations

import numpy as np

_BLOCK = 1 << 14


def white_noise(start: int, stop: int, seed: int) -> np.ndarray:
    """Draw samples ``start`` to ``stop`` of the standard normal noise that belongs to a seed.

    The noise is drawn in blocks, each seeded by the seed and its number: a chunk far into a stream takes no longer than
    the first one, and equals that part of the whole utterance's noise, on every device and in every runtime.

    Args:
        start: first sample.
        stop: the sample after the last one.
        seed: the seed, on which alone the noise depends.

    Returns:
        float32 (stop - start,).
    """
    first, last = start // _BLOCK, -(-stop // _BLOCK)
    draws = (np.random.default_rng([seed, block]).standard_normal(_BLOCK, np.float32) for block in range(first, last))
    return np.concatenate([np.empty(0, np.float32), *draws])[start - first * _BLOCK : stop - first * _BLOCK]
