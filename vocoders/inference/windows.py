"""Synthesis in windows: each run of the networks gets new frames, and the context before them once more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vocoders.inference.synthesis import Backend, Synthesis


class WindowedSynthesis(Synthesis):
    """What syntheses in windows share: the frames that are still needed, their F0, and the phase that they start with.

    So windows join: F0 that is known stays as it is, the phase follows from it, and noise belongs to its sample.
    """

    def __init__(self, backend: Backend, seeds: Sequence[int], given_f0: bool) -> None:
        super().__init__(backend, seeds, given_f0)
        self._backend = backend
        items = len(self.seeds)
        self._first = 0  # the first frame that is still needed
        self._done = 0  # frames whose audio is final
        self._mel = np.empty((items, backend.mel_config.n_mels, 0), np.float32)  # from ``_first`` on
        self._f0 = np.empty((items, 1, 0), np.float32)  # of these frames; negative where it is not known yet
        self._phase = np.zeros((items, 1, 1))  # at the first of these frames, in cycles

    def _take(self, mel: np.ndarray, f0: np.ndarray | None) -> None:
        """Take the next frames, whose F0 is to be estimated where it is None."""
        self._mel = np.concatenate([self._mel, mel], 2)
        self._f0 = np.concatenate([self._f0, np.full_like(mel[:, :1], -1) if f0 is None else f0], 2)

    def _run_window(self, end: int) -> tuple[np.ndarray, np.ndarray]:
        """Run the networks for the frames from ``_first`` to ``end``: audio (batch, samples), F0 (batch, 1, frames)."""
        frames = slice(0, end - self._first)
        noise = self.noise_of_items(self._first, end) if self._backend.uses_noise else None
        audio, used = self._backend.run(self._mel[..., frames], self._f0[..., frames], noise, self._phase)
        return audio[:, 0], used

    def _drop_before(self, frame: int) -> None:
        """Drop the frames before ``frame``, on which no later audio depends, and keep the phase after them."""
        count = max(0, frame - self._first)
        self._phase = self._backend.phase_after(self._f0, self._phase, count)
        self._mel, self._f0 = self._mel[..., count:], self._f0[..., count:]
        self._first += count
