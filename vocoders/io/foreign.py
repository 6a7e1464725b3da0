"""Refuse files that are neither mels nor sounds, with the command that converts them."""

from __future__ import annotations

from pathlib import Path

from vocoders.errors import VocoderError
from vocoders.files import Bytes, refuse_pointer

_TORCH = (
    "is a file of torch",
    "import numpy, torch; x = torch.load({source}, 'cpu', weights_only=True); "
    "numpy.save({target}, (x['mel'] if isinstance(x, dict) else x).detach().float().numpy())",
)
_PICKLE = (
    "holds pickled Python objects, which could run code and are never loaded",
    "import numpy, pickle; numpy.save({target}, numpy.array(pickle.load(open({source}, 'rb')), 'float32'))",
)
_HDF5 = ("is an HDF5 file", "import h5py, numpy; f = h5py.File({source}); numpy.save({target}, f[min(f)][()])")
_MATLAB_73 = (
    "is a MATLAB 7.3 file",
    "import h5py, numpy; f = h5py.File({source}); numpy.save({target}, f[max(f)][()].T)",
)
_MATLAB = (
    "is a MATLAB file",
    "import numpy, scipy.io; f = scipy.io.loadmat({source}); numpy.save({target}, f[max(f)].astype('float32'))",
)
_JSON = (
    "is JSON",
    "import json, numpy; x = json.load(open({source})); "
    "numpy.save({target}, numpy.array(x['mel'] if isinstance(x, dict) else x, 'float32'))",
)
_TEXT = ("is text", "import numpy; numpy.save({target}, numpy.loadtxt({source}, 'float32'))")
_CSV = ("is text", "import numpy; numpy.save({target}, numpy.loadtxt({source}, 'float32', delimiter=','))")
_FFMPEG = "ffmpeg"  # converts sounds that libsndfile cannot read

_BY_ENDING = {
    ".pt": _TORCH,
    ".pth": _TORCH,
    ".ckpt": _TORCH,
    ".pkl": _PICKLE,
    ".pickle": _PICKLE,
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".mat": _MATLAB,
    ".json": _JSON,
    ".txt": _TEXT,
    ".csv": _CSV,
    ".m4a": ("is AAC or ALAC audio", _FFMPEG),
    ".aac": ("is AAC audio", _FFMPEG),
    ".webm": ("is WebM audio", _FFMPEG),
    ".wma": ("is Windows Media audio", _FFMPEG),
}


def refuse_foreign(data: Bytes, name: str) -> None:
    """Raise VocoderError for a file of a known foreign kind, with the command that converts it."""
    refuse_pointer(data, name)
    if bytes(data[:256]).lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise VocoderError(f"{name} is a web page, not the file that it should be; download the file itself again")
    kind = _kind(data, name)
    if kind is None:
        return
    description, converter = kind
    source = name if Path(name).suffix else "FILE"
    ending = ".wav" if converter == _FFMPEG else ".npy"
    target = str(Path(source).with_suffix(f".plain{ending}" if Path(source).suffix == ending else ending))
    command = f'python -c "{converter.format(source=repr(source), target=repr(target))}"'
    if converter == _FFMPEG:
        command = f'ffmpeg -i "{source}" "{target}"'
    raise VocoderError(f"{name} {description}; to convert it: {command}")


def _kind(data: Bytes, name: str) -> tuple[str, str] | None:
    """Return description and converter of a foreign file, by its first bytes, else its ending."""
    head = bytes(data[:512])
    if head.startswith((b"\x93NUMPY", b"RIFF", b"fLaC", b"OggS", b"FORM")):
        return None
    if head.startswith(b"\x80") and head[1:2] <= b"\x05":
        legacy_torch = b"l\xfc\x9cF\xf9 j\xa8P\x19." in head  # the magic number of torch before 1.6
        return _TORCH if legacy_torch else _PICKLE
    if head.startswith(b"PK"):
        return _TORCH if b"/data.pkl" in head else None
    if head.startswith(b"\x89HDF"):
        return _HDF5
    if head.startswith(b"MATLAB"):
        return _MATLAB_73 if head.startswith(b"MATLAB 7.3") else _MATLAB
    if head[4:8] == b"ftyp":
        return _BY_ENDING[".m4a"]
    if head[:2] in (b"\xff\xf1", b"\xff\xf9"):
        return _BY_ENDING[".aac"]
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return _BY_ENDING[".webm"]
    if head.startswith(b"\x30\x26\xb2\x75"):
        return _BY_ENDING[".wma"]
    if head.lstrip().startswith((b"{", b"[")):
        return _JSON
    return _BY_ENDING.get(Path(name).suffix.lower())
