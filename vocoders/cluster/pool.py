"""A pool of workers on a Ray cluster, by Ray Data."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from vocoders.cluster.connection import machines, sentence_of
from vocoders.errors import VocoderError

Item = TypeVar("Item")
Result = TypeVar("Result")

Work = Callable[[list[Item]], list[Result]]

_ATTEMPTS = 4  # per group; a file may kill every worker


@dataclass(frozen=True)
class Pool(Generic[Item, Result]):
    """Workers of ``threads`` CPU cores and ``gpus`` GPUs.

    Attributes:
        make: called once per worker; makes the function that processes groups.
        folder: working folder of the workers; None for Ray's.
    """

    make: Callable[[], Work[Item, Result]]
    threads: int = 1
    gpus: int = 0
    folder: Path | None = None

    def size(self) -> int:
        """Return how many workers fit the cluster; raise VocoderError if none."""
        nodes = [node["Resources"] for node in machines()]
        rooms = [
            min(int(node["CPU"]) // self.threads, int(node.get("GPU", 0)) // self.gpus if self.gpus else 10**9)
            for node in nodes
        ]
        if not sum(rooms):
            most = max((int(node["CPU"]) for node in nodes), default=0)
            gpus = sum(int(node.get("GPU", 0)) for node in nodes)
            raise VocoderError(
                f"a worker of {self.threads} CPU cores and {self.gpus} GPUs fits no machine of the cluster: "
                f"the largest has {most} cores, and all have {gpus} GPUs"
            )
        return sum(rooms)

    def waits(self) -> bool:
        """Whether other work occupies the cluster."""
        import ray

        free = ray.available_resources()
        return free.get("CPU", 0) < self.threads or free.get("GPU", 0) < self.gpus

    def run(self, groups: Sequence[list[Item]]) -> Generator[tuple[list[Item], list[Result]], None, None]:
        """Process groups in order and yield each with its results.

        A group whose worker is lost is retried, and left out after some attempts. Pass paths instead of large data.
        Close the iterator before the connection ends.
        """
        import ray
        from ray.data import ActorPoolStrategy, DataContext
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        context = DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        context.max_errored_blocks = -1
        rows = [{"number": number, "group": pickle.dumps(group)} for number, group in enumerate(groups)]
        size = min(self.size(), len(groups))
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        attempts = ray.remote(num_cpus=0)(_Attempts).options(scheduling_strategy=here).remote()
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Actor,  # type: ignore[arg-type]  # a class: Ray Data makes one in each worker
            fn_constructor_args=(pickle.dumps(self.make), self.folder, attempts),
            # min_size=1: an idle worker whose machine is lost would otherwise wait to the end.
            compute=ActorPoolStrategy(min_size=1, max_size=size, initial_size=size, max_tasks_in_flight_per_actor=2),
            num_cpus=self.threads,
            num_gpus=self.gpus,
        )
        blocks = iter(results.iter_batches(batch_size=None, prefetch_batches=0))
        try:
            for block in blocks:
                for number, done in zip(block["number"], block["results"], strict=True):
                    if done:
                        yield groups[number], pickle.loads(done)
        except ray.exceptions.RayError as error:
            sentence = sentence_of(error)
            if sentence is None:
                raise
            raise VocoderError(sentence) from None
        finally:
            blocks.close()  # type: ignore[attr-defined]  # else Ray Data works on while the connection ends


class _Attempts:
    """Count the attempts at each group; Ray's count includes tries to reach a lost machine."""

    def __init__(self) -> None:
        self.begun: Counter[int] = Counter()

    def begin(self, number: int) -> bool:
        """Count an attempt at a group; return whether it may begin."""
        self.begun[number] += 1
        return self.begun[number] <= _ATTEMPTS


class _Actor:
    """A worker of Ray Data."""

    def __init__(self, make: bytes, folder: Path | None, attempts: Any) -> None:
        if folder is not None:
            os.chdir(folder)
            sys.path.insert(0, str(folder))
        self.work: Work[Any, Any] = pickle.loads(make)()
        self.attempts = attempts

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import ray

        results = b""
        if ray.get(self.attempts.begin.remote(row["number"])):
            results = pickle.dumps(self.work(pickle.loads(row["group"])))
        return {"number": row["number"], "results": results}
