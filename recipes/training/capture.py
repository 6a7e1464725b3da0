"""The training step as a CUDA graph, which a GPU repeats without the processor that starts its thousands of kernels.

A graph repeats the same kernels on the same memory. So batch, random numbers and learning rates are copied to where the
graph reads them, and each course that a step can take has a graph: with and without discriminators, with F0 of the
labels and estimated F0. What else a step decides on the processor would be repeated as it was decided once.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from recipes.training.distributed import Draws
from recipes.training.run import Run
from recipes.training.step import Losses, begin_step, end_step, train_step, update_weights
from recipes.training.tasks import Batch

WARM_UP = 3
"""Steps of a course before it is captured: in the first ones libraries choose kernels, and optimisers allocate."""

Update = Callable[[], Losses]


def make_step(run: Run) -> Callable[[list[Batch]], Losses]:
    """Return the function from the microbatches of a step to its losses: ``train_step``, captured on a single GPU."""
    if run.distributed.device.type == "cuda" and run.distributed.world_size == len(run.microbatches) == 1:
        return CapturedStep(run)
    return lambda batches: train_step(run, batches)


def capture(update: Update) -> Update:
    """Record what ``update`` starts on the current stream; it is done when the returned function is called."""
    graph = torch.cuda.CUDAGraph()
    # Only calls of this thread are watched: meanwhile that of the DataLoader allocates pinned memory.
    with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
        losses = update()

    def replay() -> Losses:
        graph.replay()
        return losses

    return replay


class CapturedStep:
    """``train_step`` for one microbatch, captured once it has warmed up. The losses hold until the next step.

    Where it cannot be captured, it is ``train_step`` as it stands, after a note.

    Args:
        run: the run.
        capture: what captures; another one for tests.
    """

    def __init__(self, run: Run, capture: Callable[[Update], Update] = capture) -> None:
        self._run, self._capture = run, capture
        self._draws = StaticDraws(run)
        self._batch: Batch = {}
        self._steps: Counter[Hashable] = Counter()
        self._captured: dict[Hashable, Update] = {}
        self._capturable = True
        if (device := run.distributed.device).type == "cuda":  # whose default stream cannot be captured
            torch.cuda.synchronize(device)
            torch.cuda.set_stream(torch.cuda.Stream(device))

    def __call__(self, batches: list[Batch]) -> Losses:
        """Take a step; see ``train_step``."""
        if self._capturable:
            try:
                return self._take_step(batches[0])
            except NotCapturableError as error:
                self._capturable = False
                self._captured.clear()
                print(f"note: training without CUDA graphs, because {error}", file=sys.stderr)
        return train_step(self._run, batches)

    def _take_step(self, batch: Batch) -> Losses:
        run = self._run
        for key, value in batch.items():
            if key not in self._batch:
                self._batch[key] = torch.empty_like(value, device=run.distributed.device)
            self._batch[key].copy_(value, non_blocking=True)
        course = (run.adversarial, *self._draws.start(run.step))
        begin_step(run)
        self._steps[course] += 1
        if course not in self._captured and self._steps[course] > WARM_UP:
            try:
                self._captured[course] = self._capture(self._update)
            except RuntimeError as error:
                reason = str(error).strip().split("\n")[0]
                raise NotCapturableError(f"a step cannot be captured: {reason}") from error
        losses = self._captured.get(course, self._update)()
        end_step(run)
        return losses

    def _update(self) -> Losses:
        self._draws.rewind()
        return update_weights(self._run, [self._batch], [self._draws])


class NotCapturableError(Exception):
    """A step cannot be captured; the weights are as before it."""


class StaticDraws(Draws):
    """Random numbers that are drawn before a step, each to the same place every time.

    What is drawn, and in what order, shows in the first step.
    """

    def __init__(self, run: Run) -> None:
        train, device = run.recipe.train, run.distributed.device
        super().__init__(train.seed, run.step, train.batch_size, run.microbatches[0], device)
        self._requests: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._values: list[Any] = []
        self._taken = 0

    def start(self, step: int) -> tuple[bool, ...]:
        """Draw the numbers of a step; returns the decisions among them."""
        self.seed_with(step)
        for index, (method, arguments) in enumerate(self._requests):
            drawn = method(self, *arguments)
            if isinstance(drawn, Tensor):
                self._values[index].copy_(drawn)
            else:
                self._values[index] = drawn
        return tuple(value for value in self._values if isinstance(value, bool))

    def rewind(self) -> None:
        """Hand out the numbers of this step again, from the first one."""
        self._taken = 0

    def randn(self, *shape: int) -> Tensor:
        return self._take(Draws.randn, shape)

    def rand(self, *shape: int) -> Tensor:
        return self._take(Draws.rand, shape)

    def chance(self, probability: float) -> bool:
        return self._take(Draws.chance, (probability,))

    def _take(self, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if self._taken == len(self._requests):
            self._requests.append((method, arguments))
            self._values.append(method(self, *arguments))
        if self._requests[self._taken] != (method, arguments):
            raise NotCapturableError("a step draws other random numbers than the first one")
        self._taken += 1
        return self._values[self._taken - 1]
