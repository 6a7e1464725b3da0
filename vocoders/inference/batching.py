"""Batching of utterances of different lengths in few passes of the network, with the audio that each gives alone.

A pass takes windows of one length. Nothing is padded, because padding would be audible at the ends. Let the utterances
have ``short`` to ``long`` frames. The first pass takes the first ``short`` frames of each; the second one takes the
last ``long - short + context + lookahead`` frames of those that are longer. So all audio is computed with its whole
context, except beside a cut, where the audio of the other pass is used:

    first pass    |=============|
    second pass           |=============|
    audio         |-----------|---------|
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# Frames of all windows of a pass, at most; they, not the number of utterances, set the memory that a list needs.
PASS_FRAMES = 8192


class Window(NamedTuple):
    """The frames ``first`` to ``end`` (exclusive) of the utterance with an index."""

    utterance: int
    first: int
    end: int


def group_by_length(lengths: Sequence[int], limit: int | None, reach: int | None) -> list[list[int]]:
    """Decide which utterances share their passes.

    Args:
        lengths: frames of each utterance.
        limit: frames of the longest utterance that may share a pass; None for any.
        reach: frames before and after a frame, together, that its audio depends on; None for the whole utterance.

    Returns:
        Groups of indices, the shortest utterance of each group first.
    """
    groups: list[list[int]] = []
    for index, length in sorted(enumerate(lengths), key=lambda pair: pair[1]):
        group = groups[-1] if groups else []
        short = lengths[group[0]] if group else 0
        near = length == short or (reach is not None and length - short + reach <= short)
        small = (limit is None or length <= limit) and (len(group) + 1) * short <= PASS_FRAMES
        if group and near and small:
            group.append(index)
        else:
            groups.append([index])
    return groups


def synthesize_group(
    lengths: Sequence[int],
    context: int,
    lookahead: int,
    samples_per_frame: int,
    run: Callable[[list[Window]], np.ndarray],
) -> list[np.ndarray]:
    """Synthesise the utterances of one group in one or two passes.

    Args:
        lengths: frames of each utterance, the shortest first.
        context: frames before a frame that its audio depends on.
        lookahead: frames after it.
        samples_per_frame: of the audio.
        run: function for one pass of the network, from windows of one length to their audio (windows, ..., samples).

    Returns:
        float32 (..., samples) each.
    """
    short, long = lengths[0], lengths[-1]
    length, cut = long - short + context + lookahead, short - lookahead
    audio = list(run([Window(index, 0, short) for index in range(len(lengths))]))
    longer = [index for index, frames in enumerate(lengths) if frames > short]
    if longer:
        tails = run([Window(index, lengths[index] - length, lengths[index]) for index in longer])
        for index, tail in zip(longer, tails, strict=True):
            rest = tail[..., (cut - lengths[index] + length) * samples_per_frame :]
            audio[index] = np.concatenate([audio[index][..., : cut * samples_per_frame], rest], -1)
    return audio
