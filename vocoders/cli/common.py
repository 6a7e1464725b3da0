"""Options that the programs share, and errors as one line and an exit status."""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TextIO

from vocoders.errors import VocoderError, printable


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments, and where to find help; so do its subparsers."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # parse_args and subparsers call it
        for argument in sys.argv[1:] if args is None else args:
            if re.fullmatch(r"(--[\w-]+=)?", argument):  # "" is the path of the current folder
                self.error(f"the argument '{argument}' is empty, as of a variable that is not set")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ").replace(": must be ", " must be ", 1)
        self.exit(2, f"{printable(f'{self.prog}: {message}; see {self.prog} --help')}\n")


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add ``--version``."""
    parser.add_argument("--version", action=_Version, help="print the version and exit")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``, ``--backend`` and ``--threads``."""
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
    """Add ``--precision``."""
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
    """Parse a whole number of at least 1."""
    return _whole_number(text, 1, sys.maxsize, "of at least 1")


def port(text: str) -> int:
    """Parse a port of TCP, 0 to 65535."""
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
    """Set the number of threads that models compute with, before they are loaded.

    Args:
        threads: their number; None for the default of torch and of ONNX Runtime, one for each core.
    """
    if threads is None:
        return
    # OnnxVocoder reads it for its session, and torch when it is imported: an exported model must not import torch.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Spare the garbage collector what is made in the block, such as modules and a model: it lasts until the end.

    The collector would go through all of it again and again while modules are imported, and once more at the end of the
    process. For programs only: what is garbage already is never collected.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def say(text: str) -> None:
    """Print a line on standard error; one that is closed or full changes nothing of what is done."""
    from tqdm import tqdm  # --help does not wait for it

    with contextlib.suppress(OSError):
        tqdm.write(printable(text), file=sys.stderr)  # above a progress bar


def run(command: Callable[[], int], name: str) -> int:
    """Run a command and turn what a user can act on into one line on standard error.

    Args:
        command: does the work and returns the exit status.
        name: name of the program, with which the line begins.

    Returns:
        The exit status: the command's, or 2 for bad input, 1 when the reader of the output has gone, 130 for Ctrl+C.
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
    except BrokenPipeError:  # the reader of our output has gone
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
    """Say in a sentence what the system refused, and of which file."""
    return f"{error.filename or 'the system'}: {error.strerror or error}"


def prepare_streams() -> None:
    """Lead closed standard streams nowhere, and have what standard output cannot encode printed as escapes.

    Else the next file that is opened would be standard error, say, and get what libraries print there. Windows encodes
    output to a file or a pipe in the code page of the country, which lacks most letters.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_unwritable(stream: TextIO | None) -> None:
    """Drop what a stream holds and cannot write, over which Python would fail at its end."""
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
    """Option that prints the version, which is looked up only when it is asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, **rest: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, **rest)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import vocoders

        print(f"{parser.prog} {vocoders.__version__}")
        parser.exit()
