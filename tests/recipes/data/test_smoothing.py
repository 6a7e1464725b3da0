"""Smoothed mels: what is kept, what is lost, and how far a frame spreads."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recipes.data.smoothing import LEVELS, smooth_batch, smooth_mel

RANDOM = np.random.default_rng(0).standard_normal((2, 80, 30)).astype(np.float32)


def cosine(order: int, n_mels: int = 80) -> np.ndarray:
    """Make a mel whose frames are the basis function number ``order`` of the cosine transform, (n_mels, 20)."""
    wave = np.cos(np.pi * order * (np.arange(n_mels) + 0.5) / n_mels)
    return np.repeat(wave[:, None], 20, axis=1).astype(np.float32)


@pytest.mark.parametrize(("level", "first_lost"), [("mild", 40), ("strong", 25)])
def test_of_80_coefficients_a_level_keeps_those_of_its_definition(level: str, first_lost: int) -> None:
    kept, lost = cosine(first_lost - 1), cosine(first_lost)
    np.testing.assert_allclose(smooth_mel(kept, *LEVELS[level]), kept, atol=1e-5)
    np.testing.assert_allclose(smooth_mel(lost, *LEVELS[level]), 0, atol=1e-5)


def test_other_numbers_of_bands_keep_the_same_share() -> None:
    np.testing.assert_allclose(smooth_mel(cosine(49, 100), 0.5, 0), cosine(49, 100), atol=1e-5)
    np.testing.assert_allclose(smooth_mel(cosine(50, 100), 0.5, 0), 0, atol=1e-5)


def test_the_blur_spreads_one_frame_as_a_gaussian() -> None:
    mel = np.zeros((80, 41), np.float32)
    mel[:, 20] = 1
    blurred = smooth_mel(mel, 1.0, 1.5)
    offsets = np.arange(-20, 21)
    np.testing.assert_allclose(blurred.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose((blurred * offsets**2).sum(1), 1.5**2, rtol=0.02)


def test_shape_and_type_stay_and_the_given_mel_is_not_changed() -> None:
    before = RANDOM.copy()
    smooth = smooth_mel(RANDOM, *LEVELS["strong"])
    assert (smooth.shape, smooth.dtype) == (RANDOM.shape, RANDOM.dtype)
    np.testing.assert_array_equal(RANDOM, before)
    np.testing.assert_allclose(smooth[1], smooth_mel(RANDOM[1], *LEVELS["strong"]), atol=1e-6)  # any leading axes
    np.testing.assert_allclose(smooth_mel(RANDOM, 1.0, 0), RANDOM, atol=1e-5)


def test_a_batch_is_smoothed_as_each_of_its_mels() -> None:
    mel = np.concatenate([RANDOM, RANDOM[:1]])
    values = [(0.5, 0.8), (0.3125, 1.5), (1.0, 0.0)]
    coefficients, blur = torch.tensor(values).unbind(1)
    smooth = smooth_batch(torch.from_numpy(mel), coefficients, blur, 2.0)
    for one, expected, arguments in zip(smooth.numpy(), mel, values, strict=True):
        np.testing.assert_allclose(one, smooth_mel(expected, *arguments), atol=1e-4)
    still = smooth_batch(torch.from_numpy(mel), torch.ones(3), torch.zeros(3), 0.0)
    np.testing.assert_allclose(still, mel, atol=1e-5)
