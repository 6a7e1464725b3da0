"""Initial weights are distributed as in the public training code, layer by layer.

jik876/hifi-gan and those that follow it draw normal(0, 0.01) behind weight norm, where it has no effect: their layers
start uniform in +-1 / sqrt(fan_in), PyTorch's default. That was checked on their modules.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators import build_generator

LAYERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.Linear)
FOUR = {"channels": 128, "upsample_rates": (8, 8, 2, 2), "upsample_kernel_sizes": (16, 16, 4, 4)}
TWO = {"channels": 128, "upsample_rates": (8, 8), "upsample_kernel_sizes": (16, 16), "istft_hop": 4}
HIFT = TWO | {"source_resblock_kernel_sizes": (7, 11), "source_resblock_dilations": ((1, 3, 5), (1, 3, 5))}
UNIFORM: dict[str, tuple[str, dict[str, Any]]] = {
    "hifigan": ("hifigan", FOUR),
    "istftnet": ("istftnet", TWO),
    "bigvgan": ("bigvgan", FOUR),
    "nsf-hifigan": ("nsf-hifigan", FOUR),
    "hift": ("hift", HIFT),
    "hift, causal": ("hift", HIFT | {"causal": True}),
}


def layers(name: str, config: dict[str, Any]) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Name, weight and bias of each layer of a new generator."""
    torch.manual_seed(0)
    model = build_generator(name, config, MEL_CONFIGS["hifigan-22k"]).requires_grad_(False)
    for path, layer in model.named_modules():
        if isinstance(layer, LAYERS):
            yield path, layer.weight, layer.bias


def close_to(weight: Tensor, deviation: float) -> bool:
    """Whether the weights have this deviation, within five times its error in a sample of normal numbers."""
    return abs(float(weight.square().mean().sqrt()) / deviation - 1) < 5 / (2 * weight.numel()) ** 0.5


@pytest.mark.parametrize("family", UNIFORM)
def test_hifigan_and_its_kin_start_from_the_default_of_pytorch(family: str) -> None:
    for path, weight, bias in layers(*UNIFORM[family]):
        limit = weight[0].numel() ** -0.5 * 1.000001
        assert weight.abs().max() <= limit, path
        assert close_to(weight, limit / 3**0.5), path
        assert bias is None or 0 < bias.abs().max() <= limit, path


def test_the_sine_of_nsf_hifigan_starts_small() -> None:
    """Its convolution has no weight norm, so there normal(0, 0.01) has effect."""
    weights = {path: weight for path, weight, _ in layers("nsf-hifigan", FOUR | {"source": "fundamental"})}
    assert close_to(weights["trunk.source_convs.1"], 0.01)


def test_parallel_wavegan_starts_from_normal_numbers() -> None:
    for path, weight, bias in layers("parallel-wavegan", {}):
        if path.startswith("smooth"):
            assert torch.equal(weight, torch.full_like(weight, 1 / weight.numel())), path
            continue
        deviation = (2 / weight[0].numel()) ** 0.5
        assert close_to(weight, deviation), path
        assert weight.numel() < 10000 or weight.abs().max() > 3 * deviation, path  # uniform ones end at 1.73
        assert bias is None or not bias.any(), path


@pytest.mark.parametrize(
    ("name", "config"),
    [("vocos", {}), ("wavehax", {"n_fft": 512}), ("multi-stream-wavehax", {"n_fft": 128})],
    ids=["vocos", "wavehax", "multi-stream-wavehax"],
)
def test_vocos_and_wavehax_start_from_truncated_normal_numbers(name: str, config: dict[str, Any]) -> None:
    for path, weight, bias in layers(name, config):
        if path == "head.out":  # of Vocos, left as PyTorch makes it
            assert close_to(weight, (3 * weight.shape[1]) ** -0.5)
            continue
        assert close_to(weight, 0.02), path
        assert bias is None or not bias.any(), path
