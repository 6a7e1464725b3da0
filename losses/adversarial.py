"""Adversarial objectives and feature matching, summed over sub-discriminators, in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .discriminators.base import DiscriminatorOutput

Objective = Literal["lsgan", "hinge"]


def discriminator_loss(
    real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput], objective: Objective = "lsgan"
) -> Tensor:
    """Compute the loss that the discriminators minimise, a float32 scalar.

    lsgan: mean (1 - D(real))^2 + mean D(fake)^2 (Mao et al. 2017; HiFi-GAN, equation 1).
    hinge: mean max(0, 1 - D(real)) + mean max(0, 1 + D(fake)) (Lim and Ye 2017; Wavehax).

    Args:
        real: outputs for recordings.
        fake: outputs for generated audio.
        objective: "lsgan" or "hinge".
    """
    terms = []
    for y, x in zip(real, fake, strict=True):
        y_scores, x_scores = y.scores.float(), x.scores.float()
        if objective == "lsgan":
            terms.append((1 - y_scores).square().mean() + x_scores.square().mean())
        else:
            terms.append(F.relu(1 - y_scores).mean() + F.relu(1 + x_scores).mean())
    return torch.stack(terms).sum()


def generator_loss(fake: Sequence[DiscriminatorOutput], objective: Objective = "lsgan") -> Tensor:
    """Compute the adversarial loss that the generator minimises, a float32 scalar.

    lsgan: mean (1 - D(fake))^2 (HiFi-GAN, equation 2). hinge: mean -D(fake).

    Args:
        fake: outputs for generated audio.
        objective: "lsgan" or "hinge".
    """
    scores = [x.scores.float() for x in fake]
    return torch.stack([(1 - s).square().mean() if objective == "lsgan" else -s.mean() for s in scores]).sum()


def feature_matching(fake: Sequence[DiscriminatorOutput], real: Sequence[DiscriminatorOutput]) -> Tensor:
    """Sum the mean absolute differences of feature maps over layers: float32 scalar (HiFi-GAN, equation 4).

    Args:
        fake: outputs for generated audio.
        real: outputs for recordings, without gradient.
    """
    pairs = [
        (x, y.detach())
        for fakes, reals in zip(fake, real, strict=True)
        for x, y in zip(fakes.feature_maps, reals.feature_maps, strict=True)
    ]
    return torch.stack([F.l1_loss(x.float(), y.float()) for x, y in pairs]).sum()
