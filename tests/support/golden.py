"""Results of public implementations, and the rule by which their weights were filled.

data/discriminators_golden.npz was made by running, outside this repository, jik876/hifi-gan, chomeyama/wavehax,
kan-bayashi/ParallelWaveGAN, facebookresearch/encodec, open-mmlab/Amphion (with nnAudio) and NVIDIA/BigVGAN.
For each score and feature map it holds the shape, the mean, the mean magnitude and 64 values spread over it.
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
    """Weight and bias of convolution ``number``, by a random stream that numpy never changes."""
    stream = np.random.RandomState(1000 + number)
    weight = stream.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    bias = stream.standard_normal(shape[0]) * 0.1
    if spectral:
        weight = weight / np.linalg.svd(weight.reshape(shape[0], -1), compute_uv=False)[0]
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()


def fill(module: nn.Module, first: int = 0, spectral: bool = False) -> None:
    """Give every convolution, in the order of ``modules()``, the weight it multiplies with."""
    convs = [layer for layer in module.modules() if isinstance(layer, (nn.Conv1d, nn.Conv2d))]
    for number, conv in enumerate(convs, first):
        weight, bias = filling(number, conv.weight.shape, spectral)
        if spectral:  # the norm is tested by itself; here the convolution takes the weight as it is
            nn.utils.parametrize.remove_parametrizations(conv, "weight", leave_parametrized=False)
            conv.weight.data = weight
        else:
            conv.weight = nn.Parameter(weight) if not nn.utils.parametrize.is_parametrized(conv) else weight
        assert conv.bias is not None
        conv.bias.data = bias


def matches(tensor: Tensor, key: str) -> None:
    """Compare with a stored digest, to 1e-4 of the spread of the values."""
    reference = GOLDEN[f"{key}/values"]
    flat = tensor.detach().double().reshape(-1)
    indices = np.linspace(0, len(flat) - 1, min(64, len(flat))).astype(int)
    tolerance = 1e-4 * max(float(np.abs(reference).max()), float(GOLDEN[f"{key}/meanabs"]))
    assert tuple(tensor.shape) == tuple(GOLDEN[f"{key}/shape"])
    assert np.abs(flat[indices].numpy() - reference).max() < tolerance
    assert abs(float(flat.mean()) - float(GOLDEN[f"{key}/mean"])) < tolerance
    assert abs(float(flat.abs().mean()) - float(GOLDEN[f"{key}/meanabs"])) < tolerance
