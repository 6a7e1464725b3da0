"""From mel to audio a GPU needs no processor: it reads no value, and nothing is copied to the device on the way."""

import contextlib
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support import models
from tests.support.device import META, nothing_copied
from vocoders.inference.vocoder import Vocoder
from vocoders.streaming.incremental import Incremental

READS = {"aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::masked_select", "aten::is_nonzero"}


@pytest.mark.parametrize("name", models.NAMES)
@pytest.mark.parametrize("f0", ["given", "estimated"])
def test_a_synthesis_reads_no_value_and_copies_nothing_to_the_device(
    name: str, f0: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # there is none on "meta"
    voc = Vocoder(models.checkpoint(name))
    voc.generator.to(META)
    models.f0_estimator_of(voc).to(META)
    mel, noise = torch.empty(2, 20, 30, device=META), torch.empty(2, 1, 30 * 32, device=META)
    given = torch.empty(2, 1, 30, device=META) if f0 == "given" else None
    with torch.inference_mode(), nothing_copied():
        audio = voc.generate(mel, f0=given, noise=noise, phase=torch.empty(2, 1, 1, device=META))
        assert audio.shape == (2, 1, 30 * 32)


@pytest.mark.parametrize("name", models.STREAMING)
def test_nor_do_the_pieces_of_a_stream(name: str) -> None:
    """Once the network has been verified, for the first stream."""

    class Refuses(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert func.name().split(".")[0] not in READS, f"{func} reads a value"
            return func(*args, **(kwargs or {}))

    voc = Vocoder(models.checkpoint(name))

    def generate(mel: torch.Tensor, f0: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return voc.generate(mel, f0=f0, noise=noise)

    mel, f0, noise = models.mel(60), models.f0(60), torch.randn(1, 1, 60 * 32)
    with torch.inference_mode():
        for mode in (contextlib.nullcontext(), Refuses()):
            network = Incremental(generate, owner=voc.generator)
            with mode:
                pieces = [
                    network(mel[..., i : i + 20], f0[..., i : i + 20], noise[..., 32 * i : 32 * (i + 20)], last=i == 40)
                    for i in (0, 20, 40)
                ]
    assert torch.cat(pieces, -1).shape == (1, 1, 60 * 32)
