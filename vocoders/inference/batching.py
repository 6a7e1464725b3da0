"""Synthesise utterances of different lengths in few passes, with the audio that each gives alone.

A pass takes windows of one length, without padding, which would be audible. For ``short`` to ``long`` frames, the first
pass takes the first ``short`` frames of each, the second the last ``long - short + context + lookahead`` of the longer
ones. Beside a cut, audio comes from the pass that has its whole context:

    first pass    |=============|
    second pass           |=============|
    audio         |-----------|---------|
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

# Most frames in a pass; they set the memory that a list needs.
PASS_FRAMES = 8192


class Window(NamedTuple):
    """Frames ``first`` to ``end`` (exclusive) of an utterance."""

    utterance: int
    first: int
    end: int


def group_by_length(lengths: Sequence[int], limit: int | None, reach: int | None) -> list[list[int]]:
    """Group utterances that share passes: indices, the shortest utterance of a group first.

    ``limit``: frames of the longest in a shared pass; ``reach``: context and lookahead. None: any length, the whole.
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
    """Synthesise a group, shortest first, in one or two passes; ``run`` maps windows to (windows, ..., samples)."""
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
