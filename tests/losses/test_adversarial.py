"""Adversarial objectives: values derived by hand, precision, gradients. Parity stands in test_parity.py."""

import pytest
import torch

from losses import DiscriminatorOutput, discriminator_loss, feature_matching, generator_loss
from losses.adversarial import Objective


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
def test_float32_inside_autocast_with_finite_gradients(objective: Objective) -> None:
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
    torch.stack(terms).sum().backward()
    for leaf in (fake, features):
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()


def test_no_gradient_goes_to_the_recording() -> None:
    real = torch.ones(2, 4, 3, requires_grad=True)
    fake = torch.zeros(2, 4, 3, requires_grad=True)
    feature_matching([DiscriminatorOutput(fake, [fake])], [DiscriminatorOutput(real, [real])]).backward()
    assert real.grad is None
    assert fake.grad is not None
