"""Adversarial objectives: the published implementations' numbers, values by hand, precision."""

import numpy as np
import pytest
import torch

from losses import DiscriminatorOutput, discriminator_loss, feature_matching, generator_loss
from tests.support.golden import GOLDEN

SCORES = ((2, 50), (2, 70), (2, 30))
MAPS = (((2, 4, 10), (2, 8, 5)), ((2, 4, 12), (2, 8, 6)))


def drawn(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


def scores(seed: int) -> list[DiscriminatorOutput]:
    return [DiscriminatorOutput(drawn(seed + i, shape), []) for i, shape in enumerate(SCORES)]


def maps(seed: int) -> list[DiscriminatorOutput]:
    numbered = [(a, [2 * i + j for j in range(2)]) for i, a in enumerate(MAPS)]
    return [
        DiscriminatorOutput(torch.zeros(()), [drawn(seed + k, s) for k, s in zip(n, a, strict=True)])
        for a, n in numbered
    ]


def test_parity_with_hifigan() -> None:
    fake, real = scores(20), scores(30)
    assert float(generator_loss(fake)) == pytest.approx(float(GOLDEN["loss/hifigan/generator"]), rel=1e-5)
    assert float(discriminator_loss(real, fake)) == pytest.approx(float(GOLDEN["loss/hifigan/discriminator"]), rel=1e-5)
    # its feature loss carries the weight 2 of the paper
    found = 2 * float(feature_matching(maps(40), maps(50)))
    assert found == pytest.approx(float(GOLDEN["loss/hifigan/feature"]), rel=1e-5)


@pytest.mark.parametrize(("objective", "name"), [("hinge", "wavehax_hinge"), ("lsgan", "wavehax_mse")])
def test_parity_with_wavehax(objective: str, name: str) -> None:
    fake, real = scores(20), scores(30)
    stored = {part: float(GOLDEN[f"loss/{name}/{part}"]) for part in ("generator", "real", "fake")}
    assert float(generator_loss(fake, objective)) == pytest.approx(stored["generator"], rel=1e-5)
    found = float(discriminator_loss(real, fake, objective))
    assert found == pytest.approx(stored["real"] + stored["fake"], rel=1e-5)
    assert float(feature_matching(maps(40), maps(50))) == pytest.approx(float(GOLDEN["loss/wavehax/feature"]), rel=1e-5)


def test_by_hand() -> None:
    def outputs(value: float) -> list[DiscriminatorOutput]:
        return [DiscriminatorOutput(torch.full((2, 3), value), [torch.full((2, 4, 3), value)])] * 2

    assert float(discriminator_loss(outputs(1), outputs(0))) == 0
    assert float(discriminator_loss(outputs(3), outputs(-2), "hinge")) == 0
    assert float(discriminator_loss(outputs(0), outputs(0.5), "hinge")) == pytest.approx(2 * (1 + 1.5))
    assert float(generator_loss(outputs(1))) == 0
    assert float(generator_loss(outputs(0.25), "hinge")) == pytest.approx(-0.5)
    assert float(feature_matching(outputs(2), outputs(2))) == 0
    assert float(feature_matching(outputs(2), outputs(5))) == pytest.approx(6)


@pytest.mark.parametrize("objective", ["lsgan", "hinge"])
def test_float32_inside_autocast_with_finite_gradients(objective: str) -> None:
    """Scores of bfloat16 and huge ones as well."""
    with torch.autocast("cpu", torch.bfloat16):
        fake = torch.full((2, 5), 1e4, dtype=torch.bfloat16, requires_grad=True)
        features = torch.full((2, 3, 5), 300.0, dtype=torch.bfloat16, requires_grad=True)
        x = [DiscriminatorOutput(fake, [features])]
        y = [DiscriminatorOutput(torch.zeros(2, 5, dtype=torch.bfloat16), [torch.zeros(2, 3, 5)])]
        terms = [discriminator_loss(y, x, objective), generator_loss(x, objective), feature_matching(x, y)]
    for term in terms:
        assert term.dtype == torch.float32
        assert torch.isfinite(term)
    sum(terms).backward()
    assert torch.isfinite(fake.grad).all()
    assert torch.isfinite(features.grad).all()


def test_no_gradient_goes_to_the_recording() -> None:
    real = torch.ones(2, 4, 3, requires_grad=True)
    fake = torch.zeros(2, 4, 3, requires_grad=True)
    feature_matching([DiscriminatorOutput(fake, [fake])], [DiscriminatorOutput(real, [real])]).backward()
    assert real.grad is None
    assert fake.grad is not None
