"""White noise of a seed, the same whether drawn whole or in chunks. Does not import torch."""

from __future__ import annotations

import numpy as np

_BLOCK = 1 << 14


def white_noise(start: int, stop: int, seed: int) -> np.ndarray:
    """Draw samples ``start`` to ``stop`` of the standard normal noise of a seed: float32 (stop - start,).

    It is drawn in blocks, each seeded by the seed and its number, so a late chunk takes no longer than the first one,
    and equals that part of the whole, on every device and in every runtime.
    """
    first, last = start // _BLOCK, -(-stop // _BLOCK)
    draws = (np.random.default_rng([seed, block]).standard_normal(_BLOCK, np.float32) for block in range(first, last))
    return np.concatenate([np.empty(0, np.float32), *draws])[start - first * _BLOCK : stop - first * _BLOCK]
