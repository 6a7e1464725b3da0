"""Smooth mels of recordings as acoustic models do.

A model trained with squared or absolute error predicts means, which lack detail. Few cepstral coefficients and a blur
over time imitate that.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from scipy.fft import dct, idct
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn import functional as F

from recipes.data.config import Augmentation
from vocoders.dsp.stft import full_precision

Number = TypeVar("Number", float, Tensor)


class Smoothing(NamedTuple):
    """Arguments of ``smooth_mel``: share of cepstral coefficients kept, (0, 1], and blur in frames."""

    coefficients: float
    blur: float


LEVELS = {"mild": Smoothing(0.5, 0.8), "strong": Smoothing(0.3125, 1.5)}


def smooth_mel(mel: np.ndarray, coefficients: float, blur: float) -> np.ndarray:
    """Smooth a log-mel (..., n_mels, frames) over bands and time.

    ``coefficients`` is the share of each frame's cepstral coefficients (cosine transform over bands) to keep, (0, 1],
    at least one; ``blur`` the standard deviation of a Gaussian over time in frames, 0 for none.
    """
    cepstrum = dct(mel, axis=-2, norm="ortho")
    cepstrum[..., max(1, round(coefficients * mel.shape[-2])) :, :] = 0
    smooth = idct(cepstrum, axis=-2, norm="ortho")
    return gaussian_filter1d(smooth, blur, axis=-1, mode="nearest") if blur else smooth


def smooth_share(mel: Tensor, shares: Augmentation, uniform: Tensor) -> Tensor:
    """Smooth the recipe's share of log-mels (batch, n_mels, frames) by ``uniform`` (batch, 3) in [0, 1)."""
    smoothed, coefficients, blur = uniform.unbind(1)
    smooth = smooth_batch(mel, between(shares.coefficients, coefficients), between(shares.blur, blur), shares.blur[1])
    return torch.where((smoothed < shares.smooth)[:, None, None], smooth, mel)


def between(limits: tuple[float, float], share: Number) -> Number:
    """Interpolate between two limits by ``share``, 0 to 1."""
    return limits[0] + (limits[1] - limits[0]) * share


def smooth_batch(mel: Tensor, coefficients: Tensor, blur: Tensor, widest: float) -> Tensor:
    """Smooth log-mels (batch, n_mels, frames) as ``smooth_mel``, with ``coefficients`` and ``blur`` (batch,).

    ``widest`` is the largest possible blur, so that the GPU is not read.
    """
    bands = mel.shape[1]
    basis = torch.from_numpy(dct(np.eye(bands), axis=0, norm="ortho")).to(mel)
    kept = torch.arange(bands, device=mel.device) < (coefficients * bands).round().clamp_min(1)[:, None]
    reach = math.ceil(4 * widest)
    offsets = torch.arange(-reach, reach + 1, device=mel.device)
    kernel = (-0.5 * (offsets / blur.clamp_min(0.1)[:, None]).square()).softmax(1)
    with full_precision(mel):
        smooth = (basis.T @ (kept[:, :, None] * basis)) @ mel
        windows = F.pad(smooth, (reach, reach), mode="replicate").unfold(2, 2 * reach + 1, 1)
        return torch.einsum("bmtk,bk->bmt", windows, kernel.to(mel))
