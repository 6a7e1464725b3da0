"""Evaluate on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from vocoders.cluster.connection import check_machines, connected
from vocoders.cluster.pool import Pool, Work
from vocoders.errors import VocoderError

Item = TypeVar("Item")
Result = TypeVar("Result")


def run_on_cluster(task: Callable[[Item], Result], items: Sequence[Item], address: str) -> Iterator[Result]:
    """Run the picklable ``task`` on each item on a Ray cluster; yield the results in order.

    All machines must see the working folder under the same path; ``address`` is as for ``connected``.
    """
    results: dict[int, Result] = {}
    first = 0
    with connected(address):
        check_machines([], [str(Path.cwd())])
        pool = Pool(partial(_make, task), folder=Path.cwd())
        with closing(pool.run([[numbered] for numbered in enumerate(items)])) as done:
            for _, [(number, result)] in done:
                results[number] = result
                while first in results:
                    yield results.pop(first)
                    first += 1
    if first < len(items):
        raise VocoderError(f"the workers of the cluster died over {items[first]}")


def _make(task: Callable[[Item], Result]) -> Work[tuple[int, Item], tuple[int, Result]]:
    """Make the function that each worker calls."""
    return partial(_run, task)


def _run(task: Callable[[Item], Result], numbered: list[tuple[int, Item]]) -> list[tuple[int, Result]]:
    return [(number, task(item)) for number, item in numbered]
