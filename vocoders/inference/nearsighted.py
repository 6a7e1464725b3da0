"""Synthesis with less lookahead than the model's own: sooner, and not quite the audio of the whole mel.

Frames are synthesised in blocks. Each block is synthesised as if the utterance ended ``lookahead`` frames later, with
all the context before it that the model needs. So any model can look less far ahead, without other weights; the price
is time, because the context is computed again for each block, and quality, because the model does not see what follows.

A block continues the one before exactly in F0, in the phase that follows from it, and in noise. What still differs,
because each block knows more of what follows than the one before, is cross-faded in the first frame of the block.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from vocoders.inference.synthesis import Backend
from vocoders.inference.windows import WindowedSynthesis
from vocoders.inputs import Values

_SHARE = 3  # a block has a third of the lookahead; larger ones take less time, and leave less to look ahead


class NearsightedSynthesis(WindowedSynthesis):
    """Synthesis of a batch of utterances with at most ``lookahead`` frames of lookahead."""

    def __init__(
        self, backend: Backend, seeds: Sequence[int], lookahead: int, given: Collection[str], constants: Values
    ) -> None:
        """Start a synthesis.

        Args:
            backend: the model; it can stream.
            seeds: seed of the noise for each utterance.
            lookahead: frames that must follow a frame, at most, before its audio is final; at least 1.
            given: as for ``Backend.start``.
            constants: as for ``Backend.start``.

        Raises:
            VocoderError: as for ``Backend.start``.
        """
        super().__init__(backend, seeds, given, constants)
        self._block = max(1, lookahead // _SHARE)
        self._seen = lookahead + 1  # frames in sight of a block, it included; one after it at least is cross-faded
        self._context = max(self.facts.context or 0, self.facts.estimator_context) + 1
        self._next = self.nothing()  # the frame after those done, as the last block has it

    def _advance(self, mel: np.ndarray, signals: Values, last: bool) -> np.ndarray:
        self._take(mel, signals)
        come = self.frames + mel.shape[2]
        audio = []
        while come - self._done >= self._seen:
            audio.append(self._synthesize(self._block, self._done + self._seen))
        if last and come > self._done:
            audio.append(self._synthesize(come - self._done, come))
        return np.concatenate(audio, 2) if audio else self.nothing()

    def _synthesize(self, block: int, end: int) -> np.ndarray:
        """Return the audio of the next ``block`` frames, synthesised as if the utterance ended at ``end``."""
        audio, used = self._run_window(end)
        size, start, stop = self.facts.samples_per_frame, self._done - self._first, self._done - self._first + block
        out = audio[..., start * size : stop * size].copy()
        if self._next.shape[2]:
            rising = (np.arange(size, dtype=np.float32) + 0.5) / size
            out[..., :size] = self._next * (1 - rising) + out[..., :size] * rising
        self._next = audio[..., stop * size : (stop + 1) * size].copy()
        self._keep_estimates(used, start, stop)
        self._done += block
        self._drop_before(self._done - self._context)
        return out
