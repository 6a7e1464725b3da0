"""Several utterances of different lengths in few passes of the network, each as it sounds alone. Without torch.

A pass takes windows of one length. Nothing is padded, because padding would be audible at the ends. Of utterances of
``short`` to ``long`` frames the first pass takes the first ``short`` frames of each, the second one the last
``long - short + 2 * context`` of those that are longer, so that all audio has its whole context but that beside a cut,
which is left to the other pass:

    first pass    |=============|
    second pass           |=============|
    audio         |-----------|---------|
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# Frames of all windows of a pass, at most: this, not the number of utterances, decides what a list takes in memory.
PASS_FRAMES = 8192


class Window(NamedTuple):
    """The frames ``first`` to ``end`` of the utterance of an index."""

    utterance: int
    first: int
    end: int


def group_by_length(lengths: Sequence[int], limit: int | None, context: int | None) -> list[list[int]]:
    """Decide which utterances share their passes.

    Args:
        lengths: frames of each.
        limit: frames of the longest that may share; None for any.
        context: frames on each side that a frame of audio depends on; None for the whole utterance.

    Returns:
        Groups of indices, the shortest utterance of each group first.
    """
    groups: list[list[int]] = []
    for index, length in sorted(enumerate(lengths), key=lambda pair: pair[1]):
        group = groups[-1] if groups else []
        short = lengths[group[0]] if group else 0
        near = length == short or (context is not None and length - short + 2 * context <= short)
        small = (limit is None or length <= limit) and (len(group) + 1) * short <= PASS_FRAMES
        if group and near and small:
            group.append(index)
        else:
            groups.append([index])
    return groups


def synthesize_group(
    lengths: Sequence[int], context: int, hop_length: int, run: Callable[[list[Window]], np.ndarray]
) -> list[np.ndarray]:
    """Synthesise the utterances of one group in one or two passes.

    Args:
        lengths: frames of each, the shortest first.
        context: frames on each side that a frame of audio depends on.
        hop_length: samples per frame.
        run: one pass of the network, from windows of one length to their audio (windows, samples).

    Returns:
        float32 (samples,) each.
    """
    short, long = lengths[0], lengths[-1]
    length, cut = long - short + 2 * context, short - context
    audio = list(run([Window(index, 0, short) for index in range(len(lengths))]))
    longer = [index for index, frames in enumerate(lengths) if frames > short]
    if longer:
        tails = run([Window(index, lengths[index] - length, lengths[index]) for index in longer])
        for index, tail in zip(longer, tails, strict=True):
            rest = tail[(cut - lengths[index] + length) * hop_length :]
            audio[index] = np.concatenate([audio[index][: cut * hop_length], rest])
    return audio
