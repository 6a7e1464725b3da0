"""White noise of a seed, equal whether drawn whole or in chunks. Does not import torch."""

from __future__ import annotations

import numpy as np

_BLOCK = 1 << 14


def white_noise(start: int, stop: int, seed: int) -> np.ndarray:
    """Draw samples ``start`` to ``stop`` of the standard normal noise of a seed: float32 (stop - start,).

    Blocks are seeded by seed and number, so late chunks are as fast as the first and the same on every device and
    runtime.
    """
    first, last = start // _BLOCK, -(-stop // _BLOCK)
    draws = (np.random.default_rng([seed, block]).standard_normal(_BLOCK, np.float32) for block in range(first, last))
    return np.concatenate([np.empty(0, np.float32), *draws])[start - first * _BLOCK : stop - first * _BLOCK]
