"""The ConvNeXt blocks give in tiles what they give as a whole."""

import pytest
import torch
from torch import nn

from vocoders.nn.layers import ConvNeXtBlock2d, ConvNeXtBlocks2d, LayerNorm2d


def shaken(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return module.double().eval()


@pytest.mark.parametrize("framewise", [True, False])
@pytest.mark.parametrize("padding_mode", ["reflect", "zeros"])
@pytest.mark.parametrize(("frames", "bins"), [(1, 9), (3, 2), (64, 9), (65, 9), (150, 3)])
def test_blocks_in_tiles(framewise: bool, padding_mode: str, frames: int, bins: int) -> None:
    """One tile and several, the last one of a single frame; fewer frames and bins than the kernel reaches over."""
    blocks = shaken(
        ConvNeXtBlocks2d(*(ConvNeXtBlock2d(4, 2, (7, 5), 0.5, framewise, padding_mode=padding_mode) for _ in range(4)))
    )
    x = 2 + torch.randn(2, frames, bins, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    wanted = blocks(x).detach()  # with gradients: as a whole
    with torch.inference_mode():
        torch.testing.assert_close(blocks(x), wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(x, before, rtol=0, atol=0)


@pytest.mark.parametrize("framewise", [True, False])
@pytest.mark.parametrize("frames", [1, 64, 150])
def test_layer_norm_in_tiles(framewise: bool, frames: int) -> None:
    norm = shaken(LayerNorm2d(4, framewise))
    x = 3 + torch.randn(2, frames, 9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    wanted = norm(x).detach()
    with torch.inference_mode():
        torch.testing.assert_close(norm(x), wanted, rtol=1e-9, atol=1e-9)
