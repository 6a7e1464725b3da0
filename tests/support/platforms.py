"""Imitate Windows and macOS on Linux: a prelude for processes that hides what those systems lack.

It hides what this package could use. Third-party libraries are imported first, as their choices are not under test.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.support import ROOT

PRELUDE = """
import asyncio.unix_events, builtins, concurrent.futures.process, ctypes, importlib, io, multiprocessing.heap
import multiprocessing.synchronize, os, pathlib, pkgutil, shutil, signal, sys, sysconfig, types, warnings

sysconfig.get_config_vars()  # read from a module that is named after the system
PLATFORM = {platform!r}
for name in {libraries!r}:
    importlib.import_module(name)

warnings.filterwarnings("error", category=EncodingWarning, module=r"(vocoders|recipes|losses)(\\.|$)")

def refuse(function, *conditions):
    def refusing(first, *rest, **options):
        for condition, error in conditions:
            if condition(first):
                raise error
        return function(first, *rest, **options)
    return refusing

def in_proc(path):
    return str(path).startswith("/proc")

import fcntl as _fcntl  # for what follows alone

def is_read_only(handle):
    return _fcntl.fcntl(handle, _fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY

_open, missing = io.open, FileNotFoundError(2, "hidden")
builtins.open = io.open = refuse(io.open, (in_proc, missing))
os.stat = refuse(os.stat, (in_proc, missing))
ctypes.CDLL = refuse(ctypes.CDLL, (lambda name: not name or "libc" in str(name), OSError("hidden")))
for name in ("sched_getaffinity", "sched_setaffinity", "posix_fadvise", "memfd_create", "sendfile"):
    delattr(os, name)

if PLATFORM == "darwin":
    import multiprocessing
    multiprocessing.set_start_method("spawn")
else:
    for name in ("resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog"):
        sys.modules[name] = None
    for name in ("fork", "forkpty", "getuid", "geteuid", "getgid", "getpgid", "setsid", "killpg", "mkfifo", "uname",
                 "chown", "nice", "getloadavg", "sysconf"):
        delattr(os, name)
    for name in ("SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGPIPE", "SIGCHLD", "alarm", "pause"):
        delattr(signal, name)

    def add_signal_handler(*arguments):
        raise NotImplementedError
    asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = add_signal_handler
    asyncio.ProactorEventLoop = asyncio.SelectorEventLoop  # what uvicorn takes on Windows

    denied = PermissionError(13, "Permission denied")

    def is_folder(path):  # for filelock, whose choice of a lock is that of Linux
        return os.path.isdir(path) and not sys._getframe(2).f_globals["__name__"].startswith("filelock")
    os.open = refuse(os.open, (is_folder, denied))
    os.fsync = refuse(os.fsync, (is_read_only, OSError(9, "Bad file descriptor")))

    def in_use(path):
        path = os.path.abspath(path)
        names = [os.readlink(link.path) for link in os.scandir("/proc/self/fd") if os.path.lexists(link.path)]
        with _open("/proc/self/maps", encoding="utf-8") as file:
            names += [line.split(None, 5)[-1].strip() for line in file]
        return any(name == path or name.startswith(path + "/") for name in names)

    def move(function, taken):
        def moving(source, target, **options):
            if in_use(source) or taken(target):
                raise denied
            return function(source, target, **options)
        return moving

    os.rename = move(os.rename, os.path.exists)
    os.replace = move(os.replace, lambda path: os.path.isdir(path) or in_use(path))
    os.unlink = os.remove = refuse(os.unlink, (in_use, denied))
    shutil._use_fd_functions = False  # which gives os.unlink whole paths
    shutil._rmtree_impl = shutil._rmtree_unsafe  # Python 3.14 has chosen it on import
if "soundfile" in sys.modules:  # it asks when it opens a file
    sys.modules["soundfile"]._sys = types.SimpleNamespace(**vars(sys))
sys.platform = PLATFORM
"""

LIBRARIES = ("numpy", "pydantic.main", "soundfile", "soxr", "onnxruntime", "tqdm")
TORCH = (*LIBRARIES, "torch", "safetensors.torch", "yaml")
SERVER = (*LIBRARIES, "fastapi", "uvicorn", "uvicorn.loops.asyncio", "websockets", "prometheus_client", "h11")
TRAIN = (
    *TORCH,
    "torch.utils.tensorboard",
    "filelock",
    "pyworld",
    *(["pesq"] if find_spec("pesq") else []),
    "pystoi",
    "scipy.stats",
    "matplotlib.figure",
    "torchaudio",
)
CLUSTER = ("ray", "ray.exceptions", "ray.serve", "ray.serve.exceptions", "ray.serve.handle")


def prelude(platform: str, libraries: tuple[str, ...]) -> str:
    """Return code that makes a process believe it runs on "win32" or "darwin"."""
    return PRELUDE.replace("{platform!r}", repr(platform)).replace("{libraries!r}", repr(libraries))


def environment() -> dict[str, str]:
    """Return an environment with ASCII text files and a Western European standard output."""
    changes = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "cp1252"}
    return {**os.environ, **changes, "PYTHONPATH": str(ROOT), "PYTHONWARNDEFAULTENCODING": "1"}


def run_on(platform: str, code: str, cwd: Path, libraries: tuple[str, ...] = LIBRARIES) -> str:
    """Run code as on "win32" or "darwin" and return its output."""
    command = [sys.executable, "-c", prelude(platform, libraries) + code]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, encoding="utf-8", errors="replace")
    assert done.returncode == 0, done.stderr
    return done.stdout
