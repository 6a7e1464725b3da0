"""Options that the programs share; errors as one line and an exit status."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from vocoders.errors import VocoderError, printable


class Parser(argparse.ArgumentParser):
    """Parser that reports an error in one line, with where to find help."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # also for subparsers
        for argument in sys.argv[1:] if args is None else args:
            if re.fullmatch(r"(--[\w-]+=)?", argument):  # "" would be the current folder
                self.error(f"the argument '{argument}' is empty, as of a variable that is not set")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ").replace(": must be ", " must be ", 1)
        self.exit(2, f"{printable(f'{self.prog}: {message}; see {self.prog} --help')}\n")


def add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action=_Version, help="print the version and exit")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps")
    parser.add_argument(
        "--backend",
        choices=("onnx", "torch"),
        help="what runs a built-in model: ONNX Runtime or torch (default: onnx on the CPU, torch elsewhere)",
    )
    parser.add_argument(
        "--threads", type=count, metavar="N", help="CPU threads to compute with (default: one for each core)"
    )


def add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="bfloat16: faster on processors that multiply in bfloat16, and noisier (default: float32)",
    )


def seed(text: str) -> int:
    """Parse a seed, 0 to 2^63 - 1."""
    return _whole_number(text, 0, 2**63 - 1, "from 0 to 2^63 - 1")


def count(text: str) -> int:
    """Parse a whole number >= 1."""
    return _whole_number(text, 1, sys.maxsize, "of at least 1")


def port(text: str) -> int:
    """Parse a TCP port, 0 to 65535."""
    return _whole_number(text, 0, 65535, "from 0 to 65535")


def seconds(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of more than 0, got '{text}'")
    return value


def limit_threads(threads: int | None) -> None:
    """Set the CPU threads of models, before they are loaded; None for one for each core."""
    if threads is None:
        return
    # Read by ONNX sessions, and by torch when imported; exported models must not import torch.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def conversion(name: str, expression: str) -> tuple[str, str]:
    """Return a command that applies Python to the ``mel`` of a mel file, and the file that it writes."""
    array = f"np.load({name!r})" + ("['mel']" if name.endswith(".npz") else "")
    converted = str(Path(name).with_suffix(".converted.npy"))
    code = f"import numpy as np; mel = {array}; np.save({converted!r}, {expression})"
    return f'python -c "{code}"', converted


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Disable garbage collection during start-up, then freeze what survives. For programs only.

    Else the collector scans modules and model again and again, and once more at exit.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def say(text: str) -> None:
    """Print a line on standard error; ignore a closed or full one."""
    from tqdm import tqdm  # slow to import

    with contextlib.suppress(OSError):
        tqdm.write(printable(text), file=sys.stderr)  # above progress bars


def run(command: Callable[[], int], name: str) -> int:
    """Run a command of the program ``name``; print errors that a user can act on as one line.

    Returns:
        The exit status: the command's, 2 for bad input, 1 when the reader of the output has gone, 130 for Ctrl+C.
    """
    prepare_streams()
    try:
        status = command()
        if sys.stdout is not None:
            sys.stdout.flush()
        return status
    except VocoderError as error:
        say(f"{name}: {error}")
        return 2
    except BrokenPipeError:  # the reader has gone
        return 1
    except OSError as error:
        say(f"{name}: {explain(error)}")
        return 2
    except MemoryError:
        say(f"{name}: out of memory")
        return 2
    except KeyboardInterrupt:
        say(f"{name}: interrupted")
        return 130
    finally:
        for stream in (sys.stdout, sys.stderr):
            _drop_unwritable(stream)


def explain(error: OSError) -> str:
    """Say in a sentence what the system refused, and for which file."""
    return f"{error.filename or 'the system'}: {error.strerror or error}"


def prepare_streams() -> None:
    """Open closed standard streams on the null device, and escape what standard output cannot encode.

    Else the next opened file would become standard error, say. Windows encodes redirected output in a code page that
    lacks most letters.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_unwritable(stream: TextIO | None) -> None:
    """Drop unwritable output, over which Python would fail at exit."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        assert stream is not None
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _whole_number(text: str, low: int, high: int, range_text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"must be a whole number {range_text}, got '{text}'")
    return value


class _Version(argparse.Action):
    """Option that looks up and prints the version."""

    def __init__(self, option_strings: Sequence[str], dest: str, **rest: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **rest)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import vocoders

        print(f"{parser.prog} {vocoders.__version__}")
        parser.exit()
