"""The energy distance tells a distribution from its mean, which a plain distance does not."""

import pytest
import torch

from losses import LOSSES, MelLoss, MultiResolutionSTFTLoss, energy_distance
from vocoders.dsp.mel import MEL_CONFIGS

MEL_CONFIG = MEL_CONFIGS["hifigan-22k"]


def noise(seed: int, batch: int = 4) -> torch.Tensor:
    return 0.1 * torch.randn(batch, 8192, generator=torch.Generator().manual_seed(seed))


def steady(batch: int = 4) -> torch.Tensor:
    """A signal without noise: a pulse every 16 samples."""
    audio = torch.zeros(batch, 8192)
    audio[:, ::16] = 0.4
    return audio


def test_by_hand() -> None:
    loss = MelLoss(MEL_CONFIG)
    a, b, y = noise(1), noise(2), noise(3)
    (result,) = energy_distance(loss, a, b, y)
    expected = (loss(a, y) + loss(b, y) - loss(a, b)) / 2
    assert float(result) == pytest.approx(float(expected), rel=1e-5)
    assert all(float(term) == 0 for term in energy_distance(MultiResolutionSTFTLoss(), y, y, y))


def test_estimates_without_noise_get_the_plain_distance() -> None:
    loss = MultiResolutionSTFTLoss()
    result = energy_distance(loss, steady(), steady(), noise(3))
    for term, plain in zip(result, loss(steady(), noise(3)), strict=True):
        assert float(term) == pytest.approx(float(plain), rel=1e-5)


def test_noise_of_the_same_level_is_closest_to_noise() -> None:
    """The plain log-magnitude distance prefers a smooth spectrum to noise; the energy distance prefers noise."""
    loss = MultiResolutionSTFTLoss()
    real = noise(3)
    scores = [float(energy_distance(loss, g * noise(1), g * noise(2), real)[1]) for g in (0.5, 1.0, 2.0)]
    assert scores[1] < min(scores[0], scores[2])

    magnitudes = [m.log() for m in loss.transform(real)]
    smooth = [m.mean().expand_as(m).exp() for m in magnitudes]  # what no noise at all would look like
    plain_smooth = float(loss.distance(smooth, loss.transform(real)).log_magnitude)
    plain_noise = float(loss(noise(1), real).log_magnitude)
    assert plain_smooth < plain_noise  # the plain distance prefers the buzz
    assert scores[1] < plain_smooth  # the energy distance, which equals the plain one for the buzz, does not


def test_gradients_reach_both_draws() -> None:
    first, second = noise(1).requires_grad_(), noise(2).requires_grad_()
    torch.stack(energy_distance(MultiResolutionSTFTLoss(), first, second, noise(3))).sum().backward()
    for draw in (first, second):
        assert draw.grad is not None
        assert torch.isfinite(draw.grad).all()
        assert (draw.grad != 0).any()


def test_every_term_is_an_energy_distance() -> None:
    """Bounded below, the same for either order of the draws, least for noise of the right level."""
    for term in (0, 1):
        loss = MultiResolutionSTFTLoss()
        first, second, real = noise(1, 16), noise(2, 16), noise(3, 16)
        for gain in (1.0, 0.1, 0.001):
            result = float(energy_distance(loss, first, gain * second, real)[term])
            assert result > 0
            assert result == pytest.approx(float(energy_distance(loss, gain * second, first, real)[term]), rel=1e-4)
        scores = {g: float(energy_distance(loss, g * first, g * second, real)[term]) for g in (0.7, 1.0, 1.4)}
        assert min(scores, key=lambda gain: scores[gain]) == 1.0


def test_every_loss_has_an_energy_distance() -> None:
    y = noise(3)
    for kind in LOSSES.values():
        loss = kind.for_mel_config(MEL_CONFIG)
        values = energy_distance(loss, noise(1), noise(2), y)
        assert len(values) == len(loss.terms)
        assert all(float(value) > 0 for value in values)
        assert all(float(value) == 0 for value in energy_distance(loss, y, y, y))


def test_the_repulsion_is_half_the_distance_of_the_draws() -> None:
    loss, (first, second, real) = MultiResolutionSTFTLoss(), (noise(1), 0.5 * noise(2), noise(3))
    distance = [loss.distance(loss.transform(x), y, y) for y in [loss.transform(real)] for x in (first, second)]
    without = energy_distance(loss, first, second, real, repulsion=0.0)
    for value, a, b in zip(without, *distance, strict=True):
        assert float(value) == pytest.approx(float(a + b) / 2)
    half = energy_distance(loss, first, second, real, repulsion=0.5)
    for value, none, all_ in zip(half, without, energy_distance(loss, first, second, real), strict=True):
        assert float(value) == pytest.approx(float(none + all_) / 2, rel=1e-5)
