"""The work of a synthesis beside what a GPU can do: arithmetic against its matrix units, bytes against its memory."""

from __future__ import annotations

import contextlib
import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from vocoders.generators.base import Generator


class Peak(NamedTuple):
    """What a GPU can do at most, of its data sheet, without sparsity.

    Attributes:
        bandwidth: of its memory, bytes a second.
        tf32: of its matrix units in TF32, in which PyTorch convolves float32 by default, operations a second.
        bfloat16: in bfloat16.
    """

    bandwidth: float
    tf32: float
    bfloat16: float


PEAKS = {
    "H200": Peak(4.8e12, 494e12, 989e12),
    "H100": Peak(3.35e12, 494e12, 989e12),
    "A100": Peak(2.0e12, 156e12, 312e12),
}
"""By a word in the name that torch gives the device."""


_LENGTHS = (64, 128)  # frames that the work is counted on


class Work(NamedTuple):
    """Floating-point operations of convolutions and matrix products, and bytes that all operations read and write.

    Each operation reads its arguments from memory and writes its result there; fused ones move less.
    """

    operations: float
    bytes: float


def count_work(generator: Generator, items: int, frames: int) -> Work:
    """Count the work of a generator in float32 from shapes alone, for ``items`` mels of ``frames`` frames."""
    model = copy.deepcopy(generator).to("meta")
    short, long = (_count(model, length) for length in _LENGTHS)
    share = (items * frames - _LENGTHS[0]) / (_LENGTHS[1] - _LENGTHS[0])  # it grows in proportion
    return Work(*(a + share * (b - a) for a, b in zip(short, long, strict=True)))


def _count(model: Generator, frames: int) -> Work:
    mel = torch.empty(1, model.mel_config.n_mels, frames, device="meta")
    f0 = torch.empty(1, 1, frames, device="meta")
    noise = torch.empty(1, 1, frames * model.mel_config.hop_length, device="meta")
    with FlopCounterMode(display=False) as counter, Traffic() as traffic, torch.no_grad():
        model(mel, f0=f0, noise=noise)
    return Work(counter.get_total_flops(), traffic.bytes)


def peak_of(device: str) -> Peak | None:
    """Return the peak of a device; None for one that is not in ``PEAKS``."""
    if not device.startswith("cuda"):
        return None
    with contextlib.suppress(RuntimeError, AssertionError):
        name = torch.cuda.get_device_name(device)
        return next((peak for word, peak in PEAKS.items() if word in name), None)
    return None


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write. A view moves none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.itemsize for tensor in tensors)
        return out
