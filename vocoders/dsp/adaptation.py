"""Approximate log-mels of one mel config by log-mels of another. Does not import torch."""

from __future__ import annotations

import math

import numpy as np

from vocoders.dsp.mel import MelConfig, bin_frequencies, mel_filters, mel_frequencies

_BEYOND = 3.0  # nepers; what lies above fmax is taken for so much weaker than the last band
_PASSES = 2  # corrections of the envelope; more gain nothing
_LARGEST_CORRECTION = 1.0  # nepers
_SMALLEST = 1e-12  # magnitude


class MelApproximation:
    """Approximation of mels of ``source`` by mels of ``target``.

    A spectral envelope that has the given mel is found on the bins of the target, and gathered by the target's filters.
    Frames are placed in the middle of their hops and interpolated linearly in the logarithm.
    """

    def __init__(self, source: MelConfig, target: MelConfig) -> None:
        self.source, self.target = source, target
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
        # The magnitude of noise grows with the root of the window.
        self._gain = math.log(target.win_length / source.win_length) / 2 + np.where(bins > source.fmax, -_BEYOND, 0.0)

    def frames(self, columns: int) -> int:
        """Return the number of target frames for a mel of ``columns`` source frames."""
        return -(-columns * self._source_hop // self._target_hop)

    def final_frames(self, columns: int) -> int:
        """Return the number of target frames that depend on the first ``columns`` source frames only."""
        return max(0, ((2 * columns - 1) * self._source_hop - self._target_hop) // (2 * self._target_hop) + 1)

    def columns_before(self, frame: int) -> int:
        """Return the number of source frames that ``frame`` and later target frames do not depend on."""
        return max(0, self._position(np.array([frame]))[0] // (2 * self._source_hop))

    def __call__(self, mel: np.ndarray, begin: int = 0, end: int | None = None, first: int = 0) -> np.ndarray:
        """Approximate a mel.

        Args:
            mel: (..., n_mels, columns) in ``source``, from source frame ``first`` on.
            begin: first target frame to return.
            end: end of the target frames to return; all by default.
            first: number of source frames before the mel.

        Returns:
            float32 (..., n_mels, end - begin) in ``target``.
        """
        end = self.frames(first + mel.shape[-1]) if end is None else end
        left, right, share = self.neighbours(begin, end, first, mel.shape[-1])
        given = self.source.natural_log_magnitude(mel.astype(np.float64)).swapaxes(-1, -2)
        given = given[..., left, :] * (1 - share[:, None]) + given[..., right, :] * share[:, None]
        # In two dimensions: numpy multiplies stacks of matrices slowly.
        values = self._transform(given.reshape(-1, given.shape[-1]))
        return np.ascontiguousarray(values.reshape(*given.shape[:-1], -1).swapaxes(-1, -2))

    def neighbours(self, begin: int, end: int, first: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the two columns that each target frame lies between, and the share of the second."""
        position = self._position(np.arange(begin, end)) - 2 * self._source_hop * first
        position = position.clip(0, 2 * self._source_hop * (columns - 1))
        left = position // (2 * self._source_hop)
        right = -(-position // (2 * self._source_hop))
        return left, right, position / (2 * self._source_hop) - left

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


def envelope_interpolation(mel_config: MelConfig, bins: np.ndarray) -> np.ndarray:
    """Return the matrix (bins, n_mels) that interpolates levels of bands at the frequencies ``bins``, in Hz."""
    centres = mel_frequencies(mel_config)[1:-1]
    return np.stack([np.interp(bins, centres, unit) for unit in np.eye(mel_config.n_mels)], axis=1)
