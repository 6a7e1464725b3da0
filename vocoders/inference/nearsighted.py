"""Synthesis with less lookahead than the model's own: sooner, and not quite the audio of the whole mel.

Frames are synthesised in blocks. Each block is synthesised as if the utterance ended ``lookahead`` frames later, with
all the context before it that the model needs. So any model can look less far ahead, without other weights; the price
is time, because the context is computed again for each block, and quality, because the model does not see what follows.

A block continues the one before exactly in F0, in the phase that follows from it, and in noise. What still differs,
because each block knows more of what follows than the one before, is cross-faded in the first frame of the block.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vocoders.inference.synthesis import Backend
from vocoders.inference.windows import WindowedSynthesis

_SHARE = 3  # a block has a third of the lookahead; larger ones take less time, and leave less to look ahead


class NearsightedSynthesis(WindowedSynthesis):
    """Synthesis of a batch of utterances with at most ``lookahead`` frames of lookahead."""

    def __init__(self, backend: Backend, seeds: Sequence[int], given_f0: bool, lookahead: int) -> None:
        """Start a synthesis.

        Args:
            backend: the model; it can stream.
            seeds: seed of the noise for each utterance.
            given_f0: whether F0 will be given.
            lookahead: frames that must follow a frame, at most, before its audio is final; at least 1.

        Raises:
            VocoderError: when the model needs F0 and it is neither given nor estimated.
        """
        super().__init__(backend, seeds, given_f0)
        self._block = max(1, lookahead // _SHARE)
        self._seen = lookahead + 1  # frames in sight of a block, it included; one after it at least is cross-faded
        self._context = max(backend.receptive_field or 0, backend.f0_receptive_field) + 1
        self._next = np.empty((len(self.seeds), 0), np.float32)  # the frame after those done, as the last block has it

    def _advance(self, mel: np.ndarray, f0: np.ndarray | None, last: bool) -> np.ndarray:
        self._take(mel, f0)
        come = self.frames + mel.shape[2]
        audio = []
        while come - self._done >= self._seen:
            audio.append(self._synthesize(self._block, self._done + self._seen))
        if last and come > self._done:
            audio.append(self._synthesize(come - self._done, come))
        return np.concatenate(audio, 1) if audio else np.empty((len(mel), 0), np.float32)

    def _synthesize(self, block: int, end: int) -> np.ndarray:
        """Return the audio of the next ``block`` frames, synthesised as if the utterance ended at ``end``."""
        audio, used = self._run_window(end)
        hop, start, stop = self.hop_length, self._done - self._first, self._done - self._first + block
        out = audio[:, start * hop : stop * hop].copy()
        if self._next.shape[1]:
            rising = (np.arange(hop, dtype=np.float32) + 0.5) / hop
            out[:, :hop] = self._next * (1 - rising) + out[:, :hop] * rising
        self._next = audio[:, stop * hop : (stop + 1) * hop].copy()
        self._f0[..., start:stop] = used[..., start:stop]
        self._done += block
        self._drop_before(self._done - self._context)
        return out
