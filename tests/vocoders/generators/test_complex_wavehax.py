"""Complex Wavehax: its layers and its norm; what it shares with all generators stands in test_contract.py."""

import numpy as np
import pytest
import torch

from tests.support import models
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators import build_generator
from vocoders.generators.complex_wavehax import (
    ComplexDepthwiseConv2d,
    ComplexLayerNorm2d,
    ComplexLinear,
    ComplexWavehax,
    combined,
)
from vocoders.nn import fast


def as_complex(x: torch.Tensor) -> torch.Tensor:
    """(..., 2 * channels), the real parts first, as complex numbers."""
    return torch.complex(*x.chunk(2, -1))


@pytest.mark.parametrize(("version", "parameters"), [("v1", 1_182_252), ("v2", 1_170_332)])
def test_published_sizes(version: str, parameters: int) -> None:
    with torch.device("meta"):
        model = build_generator("complex-wavehax", ComplexWavehax.configs[version], MEL_CONFIGS["wavehax-24k"])
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.context is None


def test_layers_multiply_complex_numbers() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 9, 7, 6)
    linear = ComplexLinear(3, 4)
    assert linear.bias is not None
    bias = torch.complex(*combined(linear.bias).chunk(2))
    torch.testing.assert_close(as_complex(linear(x)), as_complex(x) @ torch.complex(*linear.weight).T + bias)
    conv = ComplexDepthwiseConv2d(3, (3, 5))
    mirrored = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (1, 1, 2, 2), mode="reflect")
    signal = torch.complex(*mirrored.chunk(2, 1))
    expected = torch.nn.functional.conv2d(signal, torch.complex(*conv.weight), groups=3).permute(0, 2, 3, 1)
    torch.testing.assert_close(as_complex(conv(x)), expected)


@pytest.mark.parametrize("framewise", [True, False])
@pytest.mark.parametrize("frames", [1, 64, 150])
def test_tiles_give_what_the_layers_define(framewise: bool, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.generator("complex-wavehax", framewise_norm=framewise)
    mel, f0 = models.mel(frames, 2), models.f0(frames, 2)
    with torch.inference_mode():
        in_tiles = model(mel, f0=f0)
    monkeypatch.setattr(fast, "folds", lambda parameter: False)
    monkeypatch.setattr(fast, "in_tiles", lambda x: False)
    expected = model(mel, f0=f0).detach()
    torch.testing.assert_close(in_tiles, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("framewise", [True, False])
def test_the_norm_leaves_both_parts_with_unit_variance_where_they_are_uncorrelated(framewise: bool) -> None:
    """Of uncorrelated parts the covariance is diagonal, and each is divided by its own standard deviation."""
    torch.manual_seed(0)
    real, imaginary = 5 + 3 * torch.randn(2, 40, 50, 8), torch.randn(2, 40, 50, 8) - 2
    norm = ComplexLayerNorm2d(8, framewise)
    out = norm.standardize(torch.cat([real, imaginary], -1))
    for part, before in zip(out.chunk(2, -1), (real, imaginary), strict=True):
        over = (2, 3) if framewise else (1, 2, 3)
        expected = (before - before.mean(over, keepdim=True)) / before.std(over, keepdim=True)
        torch.testing.assert_close(part, expected, rtol=0, atol=0.5 if framewise else 0.1)
        assert float(part.mean(over).abs().max()) < 0.2
        assert float((part.std(over) - 1).abs().max()) < 0.1


def test_a_constant_signal_gives_no_infinite_values() -> None:
    norm = ComplexLayerNorm2d(3, framewise=True)
    assert torch.equal(norm(torch.full((1, 2, 5, 6), 2.0)), torch.zeros(1, 2, 5, 6))


def test_initial_weights_have_equal_singular_values() -> None:
    """Those of a pointwise layer of as many channels, as in the paper: unitary but for its scale."""
    torch.manual_seed(0)
    weight = torch.complex(*ComplexLinear(6, 6).weight)
    values = torch.linalg.svdvals(weight).detach().numpy()
    np.testing.assert_allclose(values, np.full(6, np.sqrt(2 / 12)), rtol=1e-5)
