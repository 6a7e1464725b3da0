"""The fast paths on a CPU give what the layers define, as a whole and in tiles."""

import os
import sys
from typing import Any, Literal, TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.nn import fast
from vocoders.nn.layers import (
    Conv1d,
    ConvNeXtBlock2d,
    ConvNeXtBlocks2d,
    ConvTranspose1d,
    LayerNorm2d,
    PaddedConv1d,
    Snake,
)

Module = TypeVar("Module", bound=nn.Module)


def shaken(module: Module) -> Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.double().eval()


def signal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("framewise", [True, False])
@pytest.mark.parametrize("padding_mode", ["reflect", "zeros"])
@pytest.mark.parametrize(("frames", "bins"), [(1, 9), (3, 2), (64, 9), (65, 9), (150, 3)])
def test_blocks_equal_their_definition(
    framewise: bool, padding_mode: Literal["reflect", "zeros"], frames: int, bins: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One tile and several, the last one of a single frame; fewer frames and bins than the kernel reaches over."""
    blocks = shaken(
        ConvNeXtBlocks2d(*(ConvNeXtBlock2d(4, 2, (7, 5), 0.5, framewise, padding_mode=padding_mode) for _ in range(4)))
    )
    x = 2 + signal(2, frames, bins, 4)
    before = x.clone()
    with torch.inference_mode():
        in_tiles, one_by_one = blocks(x), x
        for block in blocks:
            one_by_one = block(one_by_one)
    folded = blocks(x).detach()  # with gradients: as a whole
    with monkeypatch.context() as patch:
        patch.setattr(fast, "folds", lambda parameter: False)
        expected = blocks(x).detach()
    for result in (in_tiles, one_by_one, folded):
        torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(x, before, rtol=0, atol=0)


def test_a_block_is_what_the_paper_says() -> None:
    """Without any layer of ours: zero padding, layer norm over bins and channels, GELU."""
    block = shaken(ConvNeXtBlock2d(4, 2, (7, 5), 0.5, padding_mode="zeros"))
    x = signal(2, 20, 9, 4)
    y = F.conv2d(x.permute(0, 3, 1, 2), block.dwconv.weight, padding=(2, 3), groups=4).permute(0, 2, 3, 1)
    deviation = y - y.mean((2, 3), keepdim=True)
    y = deviation / (deviation.square().mean((2, 3), keepdim=True) + 1e-6).sqrt()
    y = F.gelu((y * block.norm.weight + block.norm.bias) @ block.pwconv1.weight.T + block.pwconv1.bias)
    expected = x + block.gamma * (y @ block.pwconv2.weight.T + block.pwconv2.bias)
    torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("framewise", [True, False])
@pytest.mark.parametrize("frames", [1, 64, 150])
def test_layer_norm_in_tiles(framewise: bool, frames: int) -> None:
    norm = shaken(LayerNorm2d(4, framewise))
    x = 3 + signal(2, frames, 9, 4)
    expected = norm(x).detach()
    with torch.inference_mode():
        torch.testing.assert_close(norm(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("time", [1, 9, 7000])  # small ones are left to PyTorch
@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        (Conv1d, nn.Conv1d, {"kernel_size": 5, "padding": 4, "dilation": 2}),
        (Conv1d, nn.Conv1d, {"kernel_size": 1, "bias": False}),
        (Conv1d, nn.Conv1d, {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2}),
        (ConvTranspose1d, nn.ConvTranspose1d, {"kernel_size": 8, "stride": 4, "padding": 2}),
        (ConvTranspose1d, nn.ConvTranspose1d, {"kernel_size": 7, "stride": 4, "padding": 2, "output_padding": 1}),
    ],
)
def test_convolutions_are_those_of_pytorch(
    ours: Any, theirs: Any, settings: dict[str, Any], batch: int, time: int
) -> None:
    ours, theirs = ours(4, 6, **settings).double(), theirs(4, 6, **settings).double()
    theirs.load_state_dict(ours.state_dict())
    x = signal(batch, 4, time)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)
    assert ours(x).shape == theirs(x).shape
    with torch.autocast("cpu", torch.bfloat16):
        assert ours.float()(x.float()).dtype == torch.bfloat16


@pytest.mark.parametrize("time", [9, 7000])
def test_reflected_convolutions_are_those_of_pytorch(time: int) -> None:
    settings: dict[str, Any] = {"kernel_size": 5, "padding": 4, "dilation": 2, "padding_mode": "reflect"}
    ours, theirs = Conv1d(4, 6, **settings).double(), nn.Conv1d(4, 6, **settings).double()
    theirs.load_state_dict(ours.state_dict())
    x = signal(2, 4, time)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)
    assert ours(x[..., :1]).shape == (2, 6, 1)  # which PyTorch refuses


def test_a_network_keeps_the_layout_of_its_convolutions() -> None:
    """Only the first input is copied."""
    x = Conv1d(4, 8, 3, padding=1)(torch.randn(1, 4, 6000))
    assert x.stride()[1] == 1
    assert F.leaky_relu(x + x).stride()[1] == 1
    assert ConvTranspose1d(8, 4, 4, 2, 1)(F.leaky_relu(x)).stride()[1] == 1


def test_memory_is_set_up_where_there_is_a_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", raising=False)
    fast.set_up_memory()
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "256"
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "9")
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(fast, "torch")
    fast.set_up_memory()  # nothing
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "9"


@pytest.mark.parametrize("reach", [1, 5])
def test_tiles_give_what_the_whole_gives(reach: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any length, in few different tiles."""
    monkeypatch.setattr(fast, "_LONG_TILE", 320)
    conv, tiles = nn.Conv1d(4, 4, 2 * reach + 1, padding=reach).double(), set()

    def block(x: Tensor) -> Tensor:
        tiles.add(x.shape[2])
        return conv(x)

    with torch.inference_mode():
        for length in (*range(1, 1000, 13), 320, 321, 640, 641):
            x = signal(2, 4, length)
            torch.testing.assert_close(fast.by_tiles(block, x, reach), conv(x), rtol=1e-12, atol=1e-12)
    assert max(tiles) <= fast._TILES_PER_REACH * reach + 2 * reach
    assert len(tiles - set(range(fast._TILES_PER_REACH * reach + 1))) <= 32


def test_reflect_pad_2d_takes_any_size() -> None:
    x = signal(1, 2, 9, 7)
    expected = F.pad(x, (3, 3, 2, 2), mode="reflect")
    torch.testing.assert_close(fast.reflect_pad_2d(x, 2, 3), expected)
    assert fast.reflect_pad_2d(x[:, :, :1, :2], 2, 3).shape == (1, 2, 5, 8)


def test_snake_is_the_same_without_gradients() -> None:
    module, x = shaken(Snake(4)), signal(2, 4, 9)
    before = x.clone()
    expected = module(x).detach()
    torch.testing.assert_close(expected, x + torch.sin(module.alpha[:, None] * x).square() / module.alpha[:, None])
    with torch.inference_mode():
        torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(x, before, rtol=0, atol=0)


def test_a_layer_says_what_it_depends_on() -> None:
    layers_of_one_channel = [
        Conv1d(1, 1, 5, stride=2, padding=4, dilation=2),
        PaddedConv1d(1, 1, 4, (3, 0)),
        ConvTranspose1d(1, 1, 7, 4, 2, output_padding=1),
    ]
    for layer in layers_of_one_channel:
        x = signal(1, 1, 40).requires_grad_()
        for n in (12, 13, 14):
            (gradient,) = torch.autograd.grad(layer.double()(x)[0, 0, n], x)
            where = gradient[0, 0].nonzero()[:, 0].tolist()
            assert layer.depends_on(n, n) == (where[0], where[-1])  # type: ignore[operator]
