"""Results of public implementations, and the rule that filled their weights.

data/discriminators_golden.npz was made outside this repository by jik876/hifi-gan, chomeyama/wavehax,
kan-bayashi/ParallelWaveGAN, facebookresearch/encodec, open-mmlab/Amphion (with nnAudio) and NVIDIA/BigVGAN. It holds
shape, mean, mean magnitude and 64 spread values of each score and feature map.
"""

import numpy as np
import torch
from torch import Tensor, nn

from tests.support import DATA

GOLDEN = np.load(DATA / "discriminators_golden.npz")


def audio(seed: int = 7) -> Tensor:
    """(2, 1, 8192)"""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal((2, 1, 8192)).astype(np.float32) * 0.1)


def filling(number: int, shape: torch.Size, spectral: bool = False) -> tuple[Tensor, Tensor]:
    """Make weight and bias of convolution ``number`` from a random stream that numpy never changes."""
    stream = np.random.RandomState(1000 + number)
    weight = stream.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    bias = stream.standard_normal(shape[0]) * 0.1
    if spectral:
        weight = weight / np.linalg.svd(weight.reshape(shape[0], -1), compute_uv=False)[0]
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()


def fill(module: nn.Module, first: int = 0, spectral: bool = False) -> None:
    """Set every convolution's effective weight, in the order of ``modules()``."""
    convs = [layer for layer in module.modules() if isinstance(layer, (nn.Conv1d, nn.Conv2d))]
    for number, conv in enumerate(convs, first):
        weight, bias = filling(number, conv.weight.shape, spectral)
        if spectral:  # the norm has its own test; here the convolution takes the weight itself
            nn.utils.parametrize.remove_parametrizations(conv, "weight", leave_parametrized=False)
            conv.weight.data = weight
        else:
            conv.weight = nn.Parameter(weight) if not nn.utils.parametrize.is_parametrized(conv) else weight
        assert conv.bias is not None
        conv.bias.data = bias


def matches(tensor: Tensor, key: str) -> None:
    """Compare with a stored digest, to 1e-4 of the values' spread."""
    reference = GOLDEN[f"{key}/values"]
    flat = tensor.detach().double().reshape(-1)
    indices = np.linspace(0, len(flat) - 1, min(64, len(flat))).astype(int)
    tolerance = 1e-4 * max(float(np.abs(reference).max()), float(GOLDEN[f"{key}/meanabs"]))
    assert tuple(tensor.shape) == tuple(GOLDEN[f"{key}/shape"])
    assert np.abs(flat[indices].numpy() - reference).max() < tolerance
    assert abs(float(flat.mean()) - float(GOLDEN[f"{key}/mean"])) < tolerance
    assert abs(float(flat.abs().mean()) - float(GOLDEN[f"{key}/meanabs"])) < tolerance
