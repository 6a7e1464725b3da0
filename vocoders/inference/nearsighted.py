"""Stream with less lookahead than the model needs: audio comes sooner, and is not quite that of the whole mel.

Each block of frames is synthesised with its whole context, computed again, as if the utterance ended ``lookahead``
frames later. F0, phase and noise continue exactly; the rest is cross-faded in the first frame of a block.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from vocoders.inference.synthesis import Backend
from vocoders.inference.windows import WindowedSynthesis
from vocoders.inputs import Values

_SHARE = 3  # a block is a third of the lookahead; larger ones are faster and see less ahead


class NearsightedSynthesis(WindowedSynthesis):
    """Synthesise a batch of utterances with at most ``lookahead`` frames of lookahead."""

    def __init__(
        self, backend: Backend, seeds: Sequence[int], lookahead: int, given: Collection[str], constants: Values
    ) -> None:
        """Start a synthesis; ``lookahead`` >= 1."""
        super().__init__(backend, seeds, given, constants)
        self._block = max(1, lookahead // _SHARE)
        self._seen = lookahead + 1  # frames of a block and those it sees; at least one after it, to cross-fade
        self._context = max(self.facts.context or 0, self.facts.estimator_context) + 1
        self._next = self.nothing()  # the last block's audio of the frame after it

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
        """Synthesise the next ``block`` frames as if the utterance ended at ``end``."""
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
