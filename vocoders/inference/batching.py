"""Several utterances in one pass of the network, each to sound as it does alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocoders.dsp.harmonics import frame_phase
from vocoders.dsp.noise import white_noise
from vocoders.errors import VocoderError
from vocoders.inference.vocoder import Vocoder


def synthesize_batch(vocoder: Vocoder, mels: Sequence[np.ndarray], seeds: Sequence[int]) -> list[np.ndarray]:
    """``[vocoder(mel, seed=seed) ...]``, to rounding, in as few passes as their lengths allow.

    A pass takes pieces of one length. Nothing is padded, because the network would hear that at the ends. Of utterances
    of ``short`` to ``long`` frames the first pass takes the first ``short`` frames of each, the second one the last
    ``long - short + 2 * context`` of those that are longer, so that all audio but that beside a cut, which is left to
    the other pass, has its whole context:

        first pass    |=============|
        second pass           |=============|
        audio         |-----------|---------|

    It pays on a device that one utterance leaves idle.
    """
    audio: dict[int, np.ndarray] = {}
    most = 2 * (vocoder.chunk_frames or math.inf)  # longer ones are synthesised in chunks
    for group in _groups([mel.shape[1] for mel in mels], most, vocoder.generator.receptive_field):
        if len(group) == 1:
            audio[group[0]] = vocoder(mels[group[0]], seed=seeds[group[0]])
        else:
            items = [_Item(vocoder, mels[index], seeds[index]) for index in group]
            audio |= dict(zip(group, _synthesize(vocoder, items), strict=True))
    return [audio[index] for index in range(len(mels))]


def _groups(lengths: Sequence[int], most: float, context: int | None) -> list[list[int]]:
    """Which utterances may pass together, by index, the shortest of each group first."""
    groups: list[list[int]] = []
    for index, length in sorted(enumerate(lengths), key=lambda pair: pair[1]):
        short = lengths[groups[-1][0]] if groups else 0
        near = context is not None and length - short + 2 * context <= short
        if groups and length <= most and (length == short or near):
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


class _Item:
    """One utterance, as the generator takes it."""

    @torch.inference_mode()
    def __init__(self, vocoder: Vocoder, mel: np.ndarray, seed: int) -> None:
        generator, mel_config = vocoder.generator, vocoder.mel_config
        self.mel = vocoder.check_mel(mel)[None].to(vocoder.device)
        self.frames = self.mel.shape[-1]
        self.hop = mel_config.hop_length
        self.f0 = self.phase = self.noise = None
        if generator.uses_f0:
            self.f0 = vocoder.estimator.estimate(self.mel)
            self.phase = frame_phase(self.f0, mel_config)
        if generator.uses_noise:
            noise = white_noise(0, self.frames * self.hop, seed)
            self.noise = torch.from_numpy(noise).to(vocoder.device)[None, None]

    def window(self, first: int, last: int) -> dict[str, Tensor]:
        """Arguments of the generator for the frames ``first`` to ``last``."""
        parts: dict[str, Tensor | None] = {
            "mel": self.mel[..., first:last],
            "f0": None if self.f0 is None else self.f0[..., first:last],
            "phase": None if self.phase is None else self.phase[..., first : first + 1],
            "noise": None if self.noise is None else self.noise[..., first * self.hop : last * self.hop],
        }
        return {name: part for name, part in parts.items() if part is not None}


@torch.inference_mode()
def _synthesize(vocoder: Vocoder, items: list[_Item]) -> list[np.ndarray]:
    """The audio of each of a group, (samples,)."""
    hop, context = vocoder.mel_config.hop_length, vocoder.generator.receptive_field or 0
    short, long = items[0].frames, items[-1].frames
    length, cut = long - short + 2 * context, short - context
    longer = [item for item in items if item.frames > short]
    audio = list(_run(vocoder, [item.window(0, short) for item in items]))
    if longer:
        tails = _run(vocoder, [item.window(item.frames - length, item.frames) for item in longer])
        for place, (item, tail) in enumerate(zip(longer, tails, strict=True), len(items) - len(longer)):
            audio[place] = np.concatenate([audio[place][: cut * hop], tail[(cut - item.frames + length) * hop :]])
    return audio


def _run(vocoder: Vocoder, windows: list[dict[str, Tensor]]) -> np.ndarray:
    """The generator's audio for windows of one length, (windows, samples)."""
    stacked: dict[str, Any] = {name: torch.cat([window[name] for window in windows]) for name in windows[0]}
    audio = vocoder.generator(**stacked)[:, 0]
    if not torch.isfinite(audio).all():
        raise VocoderError("the model's output is not finite: a mel's values are out of all range")
    return audio.numpy(force=True)
