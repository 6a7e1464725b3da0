"""Parity of discriminators and losses with their public implementations: the same weights, the same numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchaudio.functional import resample

from losses import (
    DiscriminatorOutput,
    MultiResolutionSTFTLoss,
    MultiScaleMelLoss,
    discriminator_loss,
    feature_matching,
    generator_loss,
)
from losses.adversarial import Objective
from losses.discriminators import build_discriminator
from losses.discriminators.multi_period import PeriodDiscriminator
from losses.discriminators.multi_resolution import SpectrogramDiscriminator
from losses.discriminators.multi_scale import ScaleDiscriminator
from losses.discriminators.multi_scale_stft import STFTDiscriminator
from tests.support.golden import GOLDEN, audio, fill, filling, matches

RATE = 24000
SCORES = ((2, 50), (2, 70), (2, 30))
MAPS = (((2, 4, 10), (2, 8, 5)), ((2, 4, 12), (2, 8, 6)))


def compare(output: DiscriminatorOutput, key: str) -> None:
    matches(output.scores, f"{key}/scores")
    for i, feature_map in enumerate(output.feature_maps):
        matches(feature_map.flatten(1) if feature_map.dim() == 1 else feature_map, f"{key}/fmap{i}")
    assert f"{key}/fmap{len(output.feature_maps)}/shape" not in GOLDEN.files


@pytest.mark.parametrize("period", [2, 11])
def test_multi_period_equals_hifigan(period: int) -> None:
    discriminator = PeriodDiscriminator(period, (32, 128, 512, 1024, 1024)).eval()
    fill(discriminator)
    compare(discriminator(audio()), f"mpd.{period}")


@pytest.mark.parametrize("scale", [0, 1])
def test_multi_scale_equals_hifigan(scale: int) -> None:
    discriminator = ScaleDiscriminator((128, 256, 512, 1024), use_spectral_norm=scale == 0).eval()
    fill(discriminator, spectral=scale == 0)
    signal = nn.functional.avg_pool1d(audio(), 4, 2, padding=2) if scale else audio()
    compare(discriminator(signal), f"msd.{scale}")


def test_multi_resolution_equals_wavehax() -> None:
    discriminator = SpectrogramDiscriminator(512, 128, 32).eval()
    fill(discriminator)
    compare(discriminator(audio()), "mrd.512")


def test_parallel_wavegan_equals_the_original() -> None:
    discriminator = build_discriminator("parallel-wavegan", {}, RATE).eval()
    fill(discriminator)
    (output,) = discriminator(audio())
    matches(output.scores, "pwg/scores")


def test_multi_scale_stft_equals_encodec() -> None:
    discriminator = STFTDiscriminator(512, 128, 32, (1, 2, 4)).eval()
    fill(discriminator)
    compare(discriminator(audio()), "msstft.512")


PUBLISHED_CQT: dict[str, Any] = {
    "oversampling": 2,
    "hop_lengths": [256],
    "bins_per_octave": [12],
    "fmin": 32.7,
    "n_octaves": 9,
    "max_kernel": None,
    "partial_kernels": True,
}


def filled_cqt(**options: Any) -> Any:
    discriminator: Any = build_discriminator("multi-scale-subband-cqt", PUBLISHED_CQT | options, RATE).eval()
    part = discriminator.discriminators[0]
    octaves = [filling(number, torch.Size([2, 2, 3, 9])) for number in range(9)]
    part.conv_octaves.weight.data = torch.cat([weight for weight, _ in octaves])
    part.conv_octaves.bias.data = torch.cat([bias for _, bias in octaves])
    fill(part.trunk, first=9)
    return discriminator


def test_multi_scale_subband_cqt_equals_amphion_on_the_same_transform() -> None:
    """nnAudio's CQT takes the place of ours."""
    discriminator = filled_cqt()
    part = discriminator.discriminators[0]
    ours = part.cqt(torch.zeros(2, 16384))
    stored = torch.view_as_complex(torch.from_numpy(GOLDEN["cqt.12/z"]))
    assert ours.shape == stored.shape

    seen: list[Tensor] = []

    def published_cqt(x: Tensor) -> Tensor:
        seen.append(x)
        return stored

    part.cqt.forward = published_cqt
    compare(discriminator(audio())[0], "cqt.12")
    assert seen[0].shape == (2, 16384)  # twice the rate


@torch.no_grad()
def test_multi_scale_subband_cqt_sees_what_amphion_sees() -> None:
    """With the published settings the phase is nnAudio's. What is left: nnAudio rounds the lengths of its kernels."""
    stored = torch.view_as_complex(torch.from_numpy(GOLDEN["cqt.12/z"]))

    def seen(**options: Any) -> tuple[float, float]:
        """How far the transform, and the feature maps that it makes, are from nnAudio's, of their norm."""
        part = filled_cqt(**options).discriminators[0]
        signal = resample(audio().squeeze(1), RATE, 2 * RATE)
        transform = part.cqt(signal)
        maps = part(signal[:, None]).feature_maps
        part.cqt.forward = lambda x: stored
        pairs = [(transform, stored), *zip(maps, part(signal[:, None]).feature_maps, strict=True)]
        errors = [float(((a - b).abs().square().sum() / b.abs().square().sum()).sqrt()) for a, b in pairs]
        return errors[0], max(errors[1:])

    assert max(seen()) < 0.05
    assert max(seen(nnaudio_phase=True)) < 0.05
    transform, maps = seen(nnaudio_phase=False)
    assert transform > 0.5
    assert maps > 0.4


def drawn(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


def scores(seed: int) -> list[DiscriminatorOutput]:
    return [DiscriminatorOutput(drawn(seed + i, shape), []) for i, shape in enumerate(SCORES)]


def maps(seed: int) -> list[DiscriminatorOutput]:
    numbered = [(a, [2 * i + j for j in range(2)]) for i, a in enumerate(MAPS)]
    return [
        DiscriminatorOutput(torch.zeros(()), [drawn(seed + k, s) for k, s in zip(n, a, strict=True)])
        for a, n in numbered
    ]


def test_adversarial_losses_equal_hifigan() -> None:
    fake, real = scores(20), scores(30)
    assert float(generator_loss(fake)) == pytest.approx(float(GOLDEN["loss/hifigan/generator"]), rel=1e-5)
    assert float(discriminator_loss(real, fake)) == pytest.approx(float(GOLDEN["loss/hifigan/discriminator"]), rel=1e-5)
    # its feature loss carries the weight 2 of the paper
    result = 2 * float(feature_matching(maps(40), maps(50)))
    assert result == pytest.approx(float(GOLDEN["loss/hifigan/feature"]), rel=1e-5)


@pytest.mark.parametrize(("objective", "name"), [("hinge", "wavehax_hinge"), ("lsgan", "wavehax_mse")])
def test_adversarial_losses_equal_wavehax(objective: Objective, name: str) -> None:
    fake, real = scores(20), scores(30)
    stored = {part: float(GOLDEN[f"loss/{name}/{part}"]) for part in ("generator", "real", "fake")}
    assert float(generator_loss(fake, objective)) == pytest.approx(stored["generator"], rel=1e-5)
    result = float(discriminator_loss(real, fake, objective))
    assert result == pytest.approx(stored["real"] + stored["fake"], rel=1e-5)
    assert float(feature_matching(maps(40), maps(50))) == pytest.approx(float(GOLDEN["loss/wavehax/feature"]), rel=1e-5)


def test_spectral_losses_equal_parallel_wavegan_and_bigvgan() -> None:
    """BigVGAN's multi-scale mel loss equals the Descript codec's."""
    fake, real = audio(7).squeeze(1), audio(8).squeeze(1)
    result = MultiResolutionSTFTLoss()(fake, real)
    assert float(result.spectral_convergence) == pytest.approx(float(GOLDEN["loss/pwg_stft/sc"]), rel=1e-5)
    assert float(result.log_magnitude) == pytest.approx(float(GOLDEN["loss/pwg_stft/mag"]), rel=1e-5)
    result = MultiScaleMelLoss(24000)(fake, real)
    assert float(result) == pytest.approx(float(GOLDEN["loss/bigvgan/multiscale_mel"]), rel=1e-5)
