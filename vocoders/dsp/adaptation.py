"""Approximate log-mels of one mel config by log-mels of another. Does not import torch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np

from vocoders.dsp.mel import MelConfig, bin_frequencies, convert_mel, mel_filters, mel_frequencies

_BEYOND = 3.0  # nepers; what lies above fmax is taken for so much weaker than the last band
_PASSES = 2  # corrections of the envelope; more gain little
_LARGEST_CORRECTION = 1.0  # nepers
_SMALLEST = 1e-12  # magnitude
_BLOCK = 4096  # frames at once, to bound memory


class Adapter(ABC):
    """Turns log-mels of the mel config ``source`` into log-mels of ``target``, also while their frames arrive."""

    def __init__(self, source: MelConfig, target: MelConfig) -> None:
        self.source, self.target = source, target

    @abstractmethod
    def frames(self, columns: int) -> int:
        """Return the number of target frames for a mel of ``columns`` source frames."""

    @abstractmethod
    def final_frames(self, columns: int) -> int:
        """Return the number of target frames that depend on the first ``columns`` source frames only."""

    @abstractmethod
    def columns_before(self, frame: int) -> int:
        """Return the number of source frames that the target frames from ``frame`` on do not depend on."""

    @abstractmethod
    def __call__(self, mel: np.ndarray, begin: int = 0, end: int | None = None, first: int = 0) -> np.ndarray:
        """Adapt a mel.

        Args:
            mel: float32 (..., n_mels, columns) in ``source``, from source frame ``first`` on.
            begin: first target frame to return.
            end: end of the target frames to return; all by default.
            first: number of source frames before the mel.

        Returns:
            float32 (..., n_mels, end - begin) in ``target``.
        """

    @abstractmethod
    def adapt_signal(self, values: np.ndarray, begin: int, end: int, first: int = 0) -> np.ndarray:
        """Give target frames their values of a frame-rate input, (..., columns) -> (..., end - begin)."""


class MelConversion(Adapter):
    """Exact conversion, frame by frame; see ``convert_mel``."""

    def frames(self, columns: int) -> int:
        return columns

    def final_frames(self, columns: int) -> int:
        return columns

    def columns_before(self, frame: int) -> int:
        return frame

    def __call__(self, mel: np.ndarray, begin: int = 0, end: int | None = None, first: int = 0) -> np.ndarray:
        return convert_mel(mel[..., begin - first : None if end is None else end - first], self.source, self.target)

    def adapt_signal(self, values: np.ndarray, begin: int, end: int, first: int = 0) -> np.ndarray:
        return values[..., begin - first : end - first]


class MelApproximation(Adapter):
    """Approximation of mels of ``source`` by mels of ``target``.

    A spectral envelope that has the given mel is found on the bins of the target, and gathered by the target's filters.
    Frames are placed in the middle of their hops and interpolated linearly in the logarithm.
    """

    def __init__(self, source: MelConfig, target: MelConfig) -> None:
        super().__init__(source, target)
        # Hops in units that make both whole numbers.
        self._source_hop = source.hop_length * target.sample_rate
        self._target_hop = target.hop_length * source.sample_rate
        bins = bin_frequencies(target, target.n_fft)
        self._interpolation = envelope_interpolation(source, bins)
        # The source's filters on the target's bins. They gather from a flat spectrum what they gather from their own
        # bins, also where the target has few.
        gathered = mel_filters(source, bin_frequencies(source, source.n_fft)).sum(1, keepdims=True)
        filters = mel_filters(source, bins)
        filters = np.where(filters.sum(1, keepdims=True) > 0, filters, self._interpolation.T)
        self._source_filters = filters * (gathered.clip(1e-8) / filters.sum(1, keepdims=True).clip(_SMALLEST))
        self._flat = np.log(self._source_filters.sum(1).clip(_SMALLEST)) / source.power
        self._target_filters = mel_filters(target, bins)
        # The magnitude of noise grows with the root of the window in samples, and of the rate.
        longer = (target.win_length * target.sample_rate) / (source.win_length * source.sample_rate)
        self._gain = math.log(longer) / 2 + np.where(bins > source.fmax, -_BEYOND, 0.0)

    def frames(self, columns: int) -> int:
        return -(-columns * self._source_hop // self._target_hop)

    def final_frames(self, columns: int) -> int:
        return max(0, ((2 * columns - 1) * self._source_hop - self._target_hop) // (2 * self._target_hop) + 1)

    def columns_before(self, frame: int) -> int:
        return max(0, int(self._position(np.array([frame]))[0]) // (2 * self._source_hop))

    def __call__(self, mel: np.ndarray, begin: int = 0, end: int | None = None, first: int = 0) -> np.ndarray:
        end = self.frames(first + mel.shape[-1]) if end is None else end
        out = np.empty((*mel.shape[:-2], self.target.n_mels, end - begin), np.float32)
        for start in range(begin, end, _BLOCK):
            stop = min(start + _BLOCK, end)
            left, right, share = self._neighbours(start, stop, first, mel.shape[-1])
            given = (mel[..., left] * (1 - share) + mel[..., right] * share).swapaxes(-1, -2)
            # In two dimensions, because numpy multiplies stacks of matrices slowly.
            values = self._transform(self.source.natural_log_magnitude(given.reshape(-1, given.shape[-1])))
            out[..., start - begin : stop - begin] = values.reshape(*given.shape[:-1], -1).swapaxes(-1, -2)
        return out

    def adapt_signal(self, values: np.ndarray, begin: int, end: int, first: int = 0) -> np.ndarray:
        left, right, share = self._neighbours(begin, end, first, values.shape[-1])
        before, after = values[..., left], values[..., right]
        # F0 is 0 where there is none: it is interpolated between voiced frames alone.
        known = (before != 0) & (after != 0)
        nearest = np.where(share < 0.5, before, after)
        return np.where(known, before * (1 - share) + after * share, nearest).astype(np.float32)

    def _neighbours(self, begin: int, end: int, first: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the two columns that each target frame lies between, and the share of the second."""
        width = 2 * self._source_hop
        position = (self._position(np.arange(begin, end)) - width * first).clip(0, width * (columns - 1))
        left = position // width
        return left, -(-position // width), position / width - left

    def _position(self, frames: np.ndarray) -> np.ndarray:
        """Return the distance of target frames from source frame 0, in halves of the units of a hop."""
        return (2 * frames + 1) * self._target_hop - self._source_hop

    def _transform(self, given: np.ndarray) -> np.ndarray:
        """Transform natural log-magnitudes (frames, n_mels) of the source to a mel (frames, n_mels) of the target."""
        power = self.source.power
        log = (given - self._flat) @ self._interpolation.T
        for _ in range(_PASSES):
            own = np.log((np.exp(power * log) @ self._source_filters.T).clip(_SMALLEST)) / power
            log += (given - own).clip(-_LARGEST_CORRECTION, _LARGEST_CORRECTION) @ self._interpolation.T
        log += self._gain
        values = (np.exp(self.target.power * log) @ self._target_filters.T).clip(self.target.floor)
        return (np.log(values) if self.target.log == "ln" else np.log10(values)).astype(np.float32)


@lru_cache(16)
def adapter(source: MelConfig, target: MelConfig) -> Adapter:
    """Return the exact conversion between two mel configs where there is one, else the approximation."""
    return (MelConversion if source.converts_to(target) else MelApproximation)(source, target)


def envelope_interpolation(mel_config: MelConfig, bins: np.ndarray) -> np.ndarray:
    """Return the matrix (bins, n_mels) that interpolates levels of bands at the frequencies ``bins``, in Hz."""
    centres = mel_frequencies(mel_config)[1:-1]
    return np.stack([np.interp(bins, centres, unit) for unit in np.eye(mel_config.n_mels)], axis=1)
