"""The alias-free activation: its filter, what it does to a sine, and its fast path."""

import math

import pytest
import torch

from vocoders.nn.alias_free import REACH, AliasFreeSnake, low_pass_filter
from vocoders.streaming.incremental import Incremental


def random_snake(channels: int) -> AliasFreeSnake:
    torch.manual_seed(0)
    layer = AliasFreeSnake(channels, own_beta=True, log_scale=True)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer.requires_grad_(False)


def test_the_filter_halves_the_band() -> None:
    taps = low_pass_filter().double()
    torch.testing.assert_close(taps, taps.flip(0))
    assert float(taps.sum()) == pytest.approx(1, abs=1e-7)
    frequencies = torch.arange(0, 0.5, 0.01, dtype=torch.float64)  # of the sample rate
    gain = (taps * torch.exp(-2j * math.pi * frequencies[:, None] * torch.arange(12))).sum(1).abs()
    assert (gain[:6] > 0.9).all()
    assert float(gain[25]) == pytest.approx(0.5, abs=0.02)
    assert (gain[45:] < 0.01).all()


def test_harmonics_above_the_band_do_not_fold_back() -> None:
    """sin(alpha x)^2 of a sine has its double frequency: 0.7 of the rate here, which would fold back to 0.3 of it."""
    samples = torch.arange(400, dtype=torch.float64)
    x = torch.sin(2 * math.pi * 0.35 * samples)[None, None]
    layer = AliasFreeSnake(1, own_beta=False, log_scale=False).double().requires_grad_(False)

    def folded(y: torch.Tensor) -> float:
        return float((y[0, 0, 100:300] * torch.exp(-2j * math.pi * 0.3 * samples[100:300])).mean().abs())

    assert folded(x + x.sin().square()) > 0.15
    assert folded(layer(x)) < 0.05  # 12 taps leave some


@pytest.mark.parametrize("length", [1, 2, 3, 5, 12, 700, 5000])
@pytest.mark.parametrize("together", [False, True])
def test_the_fast_path_is_the_definition(length: int, together: bool) -> None:
    layer = random_snake(24)
    x = 2 * torch.randn(2, length, 24).mT if together else 2 * torch.randn(2, 24, length)
    with torch.enable_grad():
        expected = layer(x)
    with torch.no_grad():
        result = layer(x)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_the_fast_path_with_extreme_parameters() -> None:
    layer = AliasFreeSnake(6, own_beta=True, log_scale=False).requires_grad_(False)
    layer.alpha.copy_(torch.tensor([0, 1e-4, 1, 30, -1, 0.5]))
    assert layer.beta is not None
    layer.beta.copy_(torch.tensor([0, 1e-4, 1e4, 1e-3, -0.1, 30]))
    x = torch.randn(1, 6, 300)
    with torch.enable_grad():
        expected = layer(x)
    with torch.no_grad():
        result = layer(x)
    scale = expected.abs().amax((0, 2), keepdim=True)
    torch.testing.assert_close(result / scale, expected / scale, atol=1e-5, rtol=0)


def test_bfloat16_is_rounded_at_the_end_only() -> None:
    layer = random_snake(24)
    x = torch.randn(2, 24, 300).bfloat16()
    expected = layer(x.float()).bfloat16()
    for grad in (False, True):
        with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
            torch.testing.assert_close(layer(x), expected, atol=0, rtol=0.01)


@pytest.mark.parametrize("lengths", [[1] * 30, [7, 1, 20, 3], [2, 2, 4, 9, 0, 1], [3], [REACH, 1], [40, 1, 1]])
def test_pieces_join_to_the_whole(lengths: list[int]) -> None:
    layer = random_snake(4)
    x = torch.randn(2, 4, sum(lengths))
    stream = Incremental(layer)
    pieces = [stream(piece, last=i == len(lengths) - 1) for i, piece in enumerate(x.split(lengths, -1))]
    torch.testing.assert_close(torch.cat(pieces, -1), layer(x), atol=1e-6, rtol=0)


def test_the_reach_is_what_a_perturbed_sample_shows() -> None:
    layer, x = random_snake(1).double(), torch.randn(1, 1, 41, dtype=torch.float64)
    other = x.clone()
    other[..., 20] += 1
    changed = torch.nonzero((layer(x) - layer(other))[0, 0]).flatten().tolist()
    assert changed == list(range(20 - REACH, 20 + REACH + 1))
