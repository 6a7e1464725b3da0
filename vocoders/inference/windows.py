"""Synthesise in windows: each run of the networks gets new frames and the context before them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from vocoders.inference.synthesis import Backend, Synthesis
from vocoders.inputs import Values, constants_after, fill_constants


class WindowedSynthesis(Synthesis):
    """Base of syntheses in windows: keeps the frames that are still needed and their inputs.

    Windows join exactly because F0, phase and noise carry over.
    """

    def __init__(
        self, backend: Backend, seeds: Sequence[int], given: Collection[str] = (), constants: Values | None = None
    ) -> None:
        super().__init__(backend, seeds, given, constants)
        self.constants = fill_constants(self.facts.inputs, self.constants, len(self.seeds))
        self._first = 0  # first frame that is still needed
        self._done = 0  # frames whose audio is final
        self._mel = np.empty((len(self.seeds), self.facts.mel_config.n_mels, 0), np.float32)  # from ``_first`` on
        self._signals: Values = {}  # of these frames; UNKNOWN where not estimated yet

    def _take(self, mel: np.ndarray, signals: Values) -> None:
        """Append frames."""
        self._mel = np.concatenate([self._mel, mel], 2)
        for name, value in (signals | self.unknown(mel.shape[2])).items():
            before = self._signals.get(name, value[..., :0])
            self._signals[name] = np.concatenate([before, value], 2)

    def _run_window(self, end: int) -> tuple[np.ndarray, Values]:
        """Run the networks for the frames ``_first`` to ``end``; return audio and estimated inputs."""
        count = end - self._first
        signals = self.backend.cut(self._signals, 0, count) | self.drawn_for_items(self._first, end)
        return self.backend.run(self._mel[..., :count], signals | self.constants)

    def _keep_estimates(self, used: Values, first: int, end: int) -> None:
        """Keep the estimates of the frames ``first`` to ``end``, counted from ``_first``."""
        for name, values in used.items():
            self._signals[name][..., first:end] = values[..., first:end]

    def _drop_before(self, frame: int) -> None:
        """Drop the frames before ``frame``."""
        count, facts = max(0, frame - self._first), self.facts
        values = self._signals | self.constants
        self.constants = constants_after(facts.inputs, values, count, facts.mel_config, facts.next_f0_share)
        self._signals = self.backend.cut(self._signals, count, self._mel.shape[2])
        self._mel = self._mel[..., count:]
        self._first += count
