"""Use the device "meta" as a GPU in tests: it computes nothing, and cannot return values to the CPU."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")


@contextlib.contextmanager
def nothing_copied() -> Iterator[None]:
    """Refuse copies from CPU memory to "meta", which a GPU would wait for."""
    with _NoCopies(), _NoNewTensors():
        yield


class _NoCopies(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(isinstance(tensor, Tensor) and tensor.is_meta for tensor in tree_leaves(out)):
            given = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
            assert all(tensor.is_meta for tensor in given), f"{func} copies to the device"
        return out


class _NoNewTensors(TorchFunctionMode):
    """Refuses tensors made of numbers, which no operation shows."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func in (torch.tensor, torch.as_tensor, torch.asarray) and "device" in kwargs
        assert not (made and torch.device(kwargs["device"]).type == "meta"), f"{func} copies to the device"
        return func(*args, **kwargs)
