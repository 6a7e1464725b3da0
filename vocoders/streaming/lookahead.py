"""Measure a stream's lookahead by pushing frames without values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vocoders.errors import VocoderError
from vocoders.streaming.incremental import Incremental

_PUSH = 64  # frames
_MOST_PUSHES = 64


class _Untried(Incremental):
    """Skips the trial, which compares values that "meta" lacks."""

    def _verify(self, pieces: Sequence[Tensor | None]) -> None:
        pass


@torch.no_grad()
def measure_lookahead(
    function: Callable[..., Tensor], rates: Sequence[tuple[int, int]], columns_per_frame: int = 1
) -> int | None:
    """Measure how many frames must follow a frame before its result is final.

    Args:
        function: from signals (1, channels, time) to a signal, on "meta".
        rates: channels and columns per frame of each signal.
        columns_per_frame: of the result.

    Returns:
        Frames; None when the function cannot stream, or only returns its result at the end.
    """
    network = _Untried(function)
    pieces = [torch.empty(1, channels, columns * _PUSH, device="meta") for channels, columns in rates]
    for push in range(1, _MOST_PUSHES + 1):
        try:
            final = network(*pieces).shape[-1]
        except VocoderError:
            return None
        if final:
            return push * _PUSH - final // columns_per_frame
    return None
