"""Distributed training with torchrun: ranks, microbatches and random numbers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

from vocoders.cli.common import say
from vocoders.errors import VocoderError


@dataclass(frozen=True)
class DistributedContext:
    """Rank, world size and device of this process."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this rank logs and writes files."""
        return self.rank == 0

    def note(self, text: str) -> None:
        """Print a sentence on standard error, on the main rank only."""
        if self.is_main:
            say(text)

    def any_rank(self, decision: bool) -> bool:
        """Return whether any rank decided so; all ranks must call this."""
        if self.world_size > 1:
            decided = torch.tensor([float(decision)], device=self.device)
            dist.all_reduce(decided, dist.ReduceOp.MAX)
            return bool(decided)
        return decision

    def check_same_step(self, step: int) -> None:
        """Check that all ranks are at ``step``."""
        if self.world_size > 1:
            gathered = [torch.zeros(1, dtype=torch.long, device=self.device) for _ in range(self.world_size)]
            dist.all_gather(gathered, torch.tensor([step], device=self.device))
            steps = [int(value) for value in gathered]
            if len(set(steps)) > 1:
                raise VocoderError(
                    f"the ranks found the states of different steps, {steps}; the folder of a run must lie on a disk "
                    f"that all machines share"
                )

    def barrier(self) -> None:
        """Wait until all ranks have called this."""
        if self.world_size > 1:
            dist.barrier()


def init_distributed(device: str | None = None) -> DistributedContext:
    """Join torchrun's process group, if there is one; ``device`` defaults to a GPU where there is one."""
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(f"cuda:{local_rank}" if name == "cuda" else name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise VocoderError(f"cannot train on device '{name}': {str(error).splitlines()[0]}") from None
    if "WORLD_SIZE" not in os.environ:
        return DistributedContext(device=chosen)
    if chosen.type == "cuda":
        if not dist.is_nccl_available():
            raise VocoderError("training on several GPUs needs NCCL, which this torch lacks; start without torchrun")
        torch.cuda.set_device(chosen)
    # The main rank may label the F0 of a large corpus for hours while the others wait.
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(days=2))
    return DistributedContext(dist.get_rank(), dist.get_world_size(), chosen)


def microbatches(batch_size: int, accumulate: int, distributed: DistributedContext) -> list[slice]:
    """Return this rank's slices of a batch: ``accumulate`` microbatches whose gradients are accumulated."""
    size, rest = divmod(batch_size, distributed.world_size * accumulate)
    if rest or not size:
        raise VocoderError(
            f"train.batch_size = {batch_size} must be a multiple of the {distributed.world_size} ranks times "
            f"train.accumulate = {accumulate}"
        )
    starts = [(k * distributed.world_size + distributed.rank) * size for k in range(accumulate)]
    return [slice(start, start + size) for start in starts]


class Draws:
    """Random numbers of one microbatch, ``items`` of a batch.

    They depend only on seed and step and are drawn for the whole batch, then cut. So an item gets the same numbers for
    any number of ranks and microbatches, and resuming needs no random state.
    """

    def __init__(self, seed: int, step: int, batch_size: int, items: slice, device: torch.device) -> None:
        self.source = torch.Generator().manual_seed(seed * 1_000_003 + step)
        self.batch_size, self.items, self.device = batch_size, items, device

    def randn(self, *shape: int) -> Tensor:
        """Draw from a standard normal distribution: (items, *shape)."""
        return self._move(torch.randn(self.batch_size, *shape, generator=self.source))

    def rand(self, *shape: int) -> Tensor:
        """Draw uniformly from [0, 1): (items, *shape)."""
        return self._move(torch.rand(self.batch_size, *shape, generator=self.source))

    def uniform(self, count: int) -> Tensor:
        """Draw uniformly from [0, 1), the same for the whole batch: (count,), on the CPU."""
        return torch.rand(count, generator=self.source)

    def chance(self, probability: float) -> bool:
        """Return True with ``probability``, the same for the whole batch."""
        return float(torch.rand((), generator=self.source)) < probability

    def _move(self, drawn: Tensor) -> Tensor:
        part = drawn[self.items]
        if self.device.type == "cuda":  # Copying from unpinned memory would block the CPU.
            return part.pin_memory().to(self.device, non_blocking=True)
        return part.to(self.device)
