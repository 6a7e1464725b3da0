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

from vocoders.inference.synthesis import Backend, Synthesis

_SHARE = 3  # a block has a third of the lookahead; larger ones take less time, and leave less to look ahead


class NearsightedSynthesis(Synthesis):
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
        self._backend = backend
        self._block = max(1, lookahead // _SHARE)
        self._ahead = lookahead + 1 - self._block  # frames after a block; the first of them is cross-faded
        self._context = max(backend.receptive_field or 0, backend.f0_receptive_field)
        items = len(self.seeds)
        self._mel = np.empty((items, backend.mel_config.n_mels, 0), np.float32)  # of the frames that are still needed
        self._f0 = np.empty((items, 1, 0), np.float32)  # of these frames; negative where it is to be estimated
        self._phase = np.zeros((items, 1, 1))  # at the first of these frames, in cycles
        self._done = 0  # frames whose audio is out
        self._next = np.empty((items, 0), np.float32)  # the frame after these, as the last block has it

    def _advance(self, mel: np.ndarray, f0: np.ndarray | None, last: bool) -> np.ndarray:
        self._mel = np.concatenate([self._mel, mel], 2)
        self._f0 = np.concatenate([self._f0, np.full_like(mel[:, :1], -1) if f0 is None else f0], 2)
        come = self.frames + mel.shape[2]
        audio = []
        while come - self._done >= self._block + self._ahead:
            audio.append(self._synthesize(self._block, self._block + self._ahead, come))
        if last and come > self._done:
            audio.append(self._synthesize(come - self._done, come - self._done, come))
        return np.concatenate(audio, 1) if audio else np.empty((len(mel), 0), np.float32)

    def _synthesize(self, block: int, seen: int, come: int) -> np.ndarray:
        """Return the audio of the next ``block`` frames, synthesised with the next ``seen`` ones in sight."""
        first = come - self._mel.shape[2]
        start, end = self._done - first, self._done - first + seen
        noise = None
        if self._backend.uses_noise:
            drawn = self.noise(first, first + end)
            noise = np.array(np.broadcast_to(drawn, (len(self.seeds), 1, drawn.shape[2])))
        audio, used = self._backend.run(self._mel[..., :end], self._f0[..., :end], noise, self._phase)
        hop, stop = self.hop_length, start + block
        out = audio[:, 0, start * hop : stop * hop].copy()
        if self._next.shape[1]:
            rising = (np.arange(hop, dtype=np.float32) + 0.5) / hop
            out[:, :hop] = self._next * (1 - rising) + out[:, :hop] * rising
        self._next = audio[:, 0, stop * hop : (stop + 1) * hop].copy()
        self._f0[..., start:stop] = used[..., start:stop]
        self._done += block
        self._drop(max(0, stop - self._context - 1))
        return out

    def _drop(self, count: int) -> None:
        """Drop the first frames, on which no later audio depends, and keep the phase after them."""
        self._phase = self._backend.phase_after(self._f0, self._phase, count)
        self._mel, self._f0 = self._mel[..., count:], self._f0[..., count:]
