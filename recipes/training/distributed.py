"""What training needs to know of torchrun: which rank this process is, and what it draws and reads of each batch."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

from recipes.training.recipe import Recipe
from vocoders.errors import VocoderError


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files."""
        return self.rank == 0

    def agree(self, decision: bool) -> bool:
        """What the first rank decided."""
        if self.world > 1:
            told = torch.tensor([float(decision)], device=self.device)
            dist.broadcast(told, 0)
            return bool(told)
        return decision

    def same(self, step: int) -> None:
        """Raise VocoderError unless all ranks are at ``step``."""
        if self.world > 1:
            steps = [torch.zeros(1, dtype=torch.long, device=self.device) for _ in range(self.world)]
            dist.all_gather(steps, torch.tensor([step], device=self.device))
            found = [int(value) for value in steps]
            if len(set(found)) > 1:
                raise VocoderError(
                    f"the ranks found the states of different steps, {found}; the folder of a run must lie on a disk "
                    f"that all machines share"
                )

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.world > 1:
            dist.barrier()


def join(device: str | None = None) -> Ranks:
    """Join the group that torchrun started this process in; a group of one otherwise. GPUs where there are any.

    Raises VocoderError for a device that is not there.
    """
    local = int(os.environ.get("LOCAL_RANK", 0))
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(f"cuda:{local}" if name == "cuda" else name)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise VocoderError(f"cannot train on device '{name}': {str(error).splitlines()[0]}") from None
    if "WORLD_SIZE" not in os.environ:
        return Ranks(device=chosen)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    # F0 labels of a large corpus take hours, in which all ranks but the first wait.
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=timedelta(days=2))
    return Ranks(dist.get_rank(), dist.get_world_size(), chosen)


class Draws:
    """The random numbers of one part of one batch.

    They follow from the seed and the step alone, drawn for the whole batch and cut: however a batch is divided among
    ranks and accumulated parts, each item meets the same numbers, and a run that resumes needs no state of them.
    """

    def __init__(self, seed: int, step: int, batch: int, part: slice, device: torch.device) -> None:
        self.source = torch.Generator().manual_seed(seed * 1_000_003 + step)
        self.batch, self.part, self.device = batch, part, device

    def randn(self, *shape: int) -> Tensor:
        """Standard normal (items of the part, *shape)."""
        return torch.randn(self.batch, *shape, generator=self.source)[self.part].to(self.device)

    def rand(self, *shape: int) -> Tensor:
        """Uniform in [0, 1), (items of the part, *shape)."""
        return torch.rand(self.batch, *shape, generator=self.source)[self.part].to(self.device)

    def chance(self, probability: float) -> bool:
        """One decision for the whole batch."""
        return float(torch.rand((), generator=self.source)) < probability


def parts(recipe: Recipe, ranks: Ranks) -> list[slice]:
    """The items of each batch that this rank computes, part after part."""
    size, rest = divmod(recipe.train.batch_size, ranks.world * recipe.train.accumulate)
    if rest or not size:
        raise VocoderError(
            f"train.batch_size = {recipe.train.batch_size} must be a multiple of the {ranks.world} ranks times "
            f"train.accumulate = {recipe.train.accumulate}"
        )
    starts = [(k * ranks.world + ranks.rank) * size for k in range(recipe.train.accumulate)]
    return [slice(start, start + size) for start in starts]
