"""Snake without aliasing, the activation of BigVGAN (Lee et al. 2023, arXiv 2206.04658, section 3).

A nonlinearity makes harmonics; those above half the sample rate fold back. So the signal is upsampled by 2, activated,
low-pass filtered and downsampled, as in StyleGAN3 (Karras et al. 2021, arXiv 2106.12423).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import wrap_torch_function

from vocoders.dsp.stft import full_precision
from vocoders.nn import fast

TAPS = 12
REACH = 5
"""Samples on each side that a result depends on: half of six taps up and six taps down."""

_TRANSITION = 1.2  # width of the transition band / cutoff
_EPS = 1e-9  # added to divisors


def low_pass_filter() -> Tensor:
    """Return a low-pass filter with a cutoff of a quarter of the sample rate, float32 (TAPS,), sum 1.

    A sinc with the window of Kaiser and Schafer (1980), whose formulas give its shape from the transition band.
    """
    attenuation = 2.285 * (TAPS // 2 - 1) * math.pi * _TRANSITION + 7.95  # 51 dB: beta is the formula for more than 50
    beta = 0.1102 * (attenuation - 8.7)
    with torch.device("cpu"):  # also for models on "meta"
        window = torch.kaiser_window(TAPS, periodic=False, beta=beta, dtype=torch.float64)
        taps = window * torch.sinc((torch.arange(TAPS) - (TAPS - 1) / 2) / 2)
    return (taps / taps.sum()).float()


class AliasFreeSnake(nn.Module):
    """x + sin(alpha x)^2 / beta at twice the sample rate, (batch, channels, time) -> the same shape.

    Snake (Ziyin et al. 2020, arXiv 2006.08195) has one parameter per channel, beta = alpha; SnakeBeta has two. The ends
    are padded with their last value.
    """

    low_pass: Tensor

    def __init__(self, channels: int, own_beta: bool, log_scale: bool) -> None:
        """Start with alpha and beta 1; ``own_beta``: beta is a parameter; ``log_scale``: parameters are logarithms."""
        super().__init__()
        self.log_scale = log_scale
        start = torch.zeros(channels) if log_scale else torch.ones(channels)
        self.alpha = nn.Parameter(start)
        self.beta = nn.Parameter(start.clone()) if own_beta else None
        self.register_buffer("low_pass", low_pass_filter(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, time) -> the same shape."""
        alpha, beta = self.alpha, self.alpha if self.beta is None else self.beta
        scales = torch.stack([alpha, beta])
        alpha, beta = scales.exp() if self.log_scale else scales
        return alias_free_snake(x, alpha, beta + _EPS, self.low_pass)


@wrap_torch_function(lambda x, *_: (x,))
def alias_free_snake(x: Tensor, alpha: Tensor, beta: Tensor, low_pass: Tensor) -> Tensor:
    """Compute ``AliasFreeSnake`` for x (batch, channels, time), alpha and beta (channels,), symmetric low_pass (TAPS,).

    Computes in the precision of ``low_pass``, also inside autocast.
    """
    with full_precision(x):
        if fast.in_tiles(x):
            return fast.alias_free_snake(x, alpha, beta, low_pass)
        channels = x.shape[1]
        filters = low_pass.expand(channels, 1, TAPS)
        # The factor makes up for the inserted zeros; what lies beyond the ends is cut off again.
        y = F.pad(x.to(low_pass.dtype), (REACH, REACH), mode="replicate")
        y = 2 * F.conv_transpose1d(y, filters, stride=2, padding=3 * REACH, groups=channels)
        y = y + (alpha[:, None] * y).sin().square() / beta[:, None]
        y = F.pad(y, (TAPS // 2 - 1, TAPS // 2), mode="replicate")
        return F.conv1d(y, filters, stride=2, groups=channels).to(x.dtype)
