"""Train in forks of a process that has imported training once."""

import contextlib
import multiprocessing
import os
import socket
from multiprocessing.process import BaseProcess
from pathlib import Path

from recipes.train import main


def start(arguments: list[str], log: Path | None = None, **environment: str) -> BaseProcess:
    """Start ``recipes.train``, with standard error to the file ``log``."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recipes.training.loop"])
    process = context.Process(target=_train, args=(arguments, log, environment))
    process.start()
    return process


def train_on_two(first: list[str], second: list[str], logs: Path) -> tuple[list[int | None], str]:
    """Train on two ranks, as under torchrun; return their exit statuses and output."""
    files = [logs / "rank0.log", logs / "rank1.log"]
    with socket.socket() as reserved:  # bound, not listening: only rank 0 can listen on this port
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = str(reserved.getsockname()[1])
        environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks = [
            start(arguments, files[rank], RANK=str(rank), LOCAL_RANK=str(rank), **environment)
            for rank, arguments in enumerate((first, second))
        ]
        for rank in ranks:
            rank.join()
    return [rank.exitcode for rank in ranks], "".join(file.read_text() for file in files)


def _train(arguments: list[str], log: Path | None, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    with contextlib.ExitStack() as stack:
        if log is not None:
            file = stack.enter_context(log.open("w"))
            stack.enter_context(contextlib.redirect_stderr(file))
            stack.enter_context(contextlib.redirect_stdout(file))
        status = main(arguments)
    raise SystemExit(status)
