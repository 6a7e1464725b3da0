"""The device "meta" stands for a GPU in tests: it computes nothing, and refuses to tell the processor a value."""

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
    """Refuse what copies from the memory of the processor to the device "meta": a GPU would wait for it."""
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
    """Refuses tensors that are made of numbers, which no operation shows."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = func in (torch.tensor, torch.as_tensor, torch.asarray) and "device" in kwargs
        assert not (made and torch.device(kwargs["device"]).type == "meta"), f"{func} copies to the device"
        return func(*args, **kwargs)
