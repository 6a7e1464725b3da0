"""Mel files: .npy, .npz and headerless frames."""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.files import Bytes
from vocoders.io.foreign import refuse_foreign

MEL_SUFFIXES = (".npy", ".npz")

_LARGEST_ARRAY = 2**30  # bytes; the mel of ten hours of speech
_BLOCK = 1 << 16  # bytes, the most that is read from a stream at once
_LONGEST_HEADER = 1 << 16  # bytes; numpy itself refuses far shorter headers of a .npy file


def read_array(data: Bytes, name: str) -> np.ndarray:
    """Decode a .npy file without unpickling.

    No memory is allocated for a size that the header claims and the file does not hold.

    Args:
        data: the bytes of the file. A mapped file is not copied: the array is a view of it, and changes to the array do
            not reach the file.
        name: name of the file in error messages.

    Raises:
        VocoderError: when it is no .npy file, is cut off, or holds Python objects.
    """
    buffer = io.BytesIO(data[:_LONGEST_HEADER])
    try:
        version = np.lib.format.read_magic(buffer)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(buffer)
    except Exception as error:  # numpy's parser raises all kinds for a hostile header
        if data[:1] == b"\x80":  # a pickle
            raise _pickled(name) from None
        raise VocoderError(f"{name} is not a readable .npy file ({' '.join(str(error).split())})") from None
    if dtype.hasobject:
        raise _pickled(name)
    claimed, held = math.prod(shape) * dtype.itemsize, len(data) - buffer.tell()
    if claimed != held:
        raise VocoderError(f"{name} is not whole: its header claims {claimed} bytes of data, it holds {held}")
    array: np.ndarray = np.ndarray(shape, dtype, data, buffer.tell(), order="F" if fortran else "C")
    return array if array.flags.writeable else array.copy()


def read_mel(data: Bytes, name: str, max_bytes: int = _LARGEST_ARRAY) -> tuple[np.ndarray, MelConfig | None]:
    """Decode a mel file: the array as it is stored, and its mel config.

    A .npy file carries no mel config, an .npz file does if ``encode_mel`` wrote it. Nothing is unpickled.

    Args:
        data: the bytes of the file.
        name: name of the file in error messages.
        max_bytes: most bytes that an array of an .npz file may take once it is unpacked.

    Raises:
        VocoderError: when it is neither .npy nor .npz, is damaged or too large, holds no array named "mel", or its mel
            config is invalid.
    """
    refuse_foreign(data, name)
    if data[:2] != b"PK":
        return read_array(data, name), None
    parts = _unpack(data, name, {"mel", "mel_spec"}, max_bytes)
    mel = read_array(parts["mel"], f"{name} (array 'mel')")
    if "mel_spec" not in parts:
        return mel, None
    text = str(read_array(parts["mel_spec"], f"{name} (array 'mel_spec')"))
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise VocoderError(f"the mel config stored in {name} is not JSON: {text[:40]!r}") from None
    return mel, bind(MelConfig, values, f"the mel config stored in {name}")


def read_f0(data: Bytes, name: str, max_bytes: int = _LARGEST_ARRAY) -> np.ndarray | None:
    """Decode the array "f0" of an .npz file.

    Args:
        data: as for ``read_mel``.
        name: as for ``read_mel``.
        max_bytes: as for ``read_mel``.

    Returns:
        The array as it is stored; None where the file holds none, and for a .npy file.

    Raises:
        VocoderError: when the file is damaged, as for ``read_mel``.
    """
    if data[:2] != b"PK":
        return None
    parts = _unpack(data, name, {"f0"}, max_bytes)
    return read_array(parts["f0"], f"{name} (array 'f0')") if "f0" in parts else None


def _unpack(data: Bytes, name: str, keys: set[str], max_bytes: int) -> dict[str, bytes]:
    """Read the arrays named in ``keys`` from an .npz file, where it holds them, each as the bytes of a .npy file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if "mel" not in members:
                raise VocoderError(f"{name} holds no array named 'mel', only: {', '.join(members) or 'nothing'}")
            parts = {}
            for key in members.keys() & keys:
                if members[key].file_size > max_bytes:
                    raise VocoderError(
                        f"{name} claims {members[key].file_size} bytes for '{key}'; more than "
                        f"{max_bytes / 2**30:.3g} GiB is refused"
                    )
                if members[key].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise VocoderError(f"{name} is no .npz of numpy: '{key}' is neither stored nor deflated")
                parts[key] = archive.read(members[key])
            return parts
    except VocoderError:
        raise
    except Exception as error:  # zipfile raises all kinds for a damaged archive
        raise VocoderError(f"{name} is not a readable .npz file ({' '.join(str(error).split())})") from None


def encode_mel(mel: np.ndarray, mel_config: MelConfig, format: str) -> bytes:
    """Encode a mel as the bytes of a file.

    Args:
        mel: float32 (n_mels, frames).
        mel_config: its mel config, which an .npz file carries and a .npy file cannot.
        format: "npz" or "npy".
    """
    buffer = io.BytesIO()
    if format == "npy":
        np.save(buffer, mel)
    else:
        np.savez(buffer, mel=mel, mel_spec=np.array(mel_config.model_dump_json()))
    return buffer.getvalue()


def read_frames(file: BinaryIO, n_mels: int, name: str) -> Iterator[np.ndarray]:
    """Read headerless frames as they arrive: little-endian float32, the ``n_mels`` values of a frame together.

    Yields:
        float32 (n_mels, frames) with frames >= 1: the frames that have arrived since the last yield.

    Raises:
        VocoderError: when the file ends within a frame.
    """
    size, rest = 4 * n_mels, b""
    while block := file.read1(_BLOCK):  # type: ignore[attr-defined]  # what is there, without waiting for more
        rest += block
        whole = len(rest) // size * size
        if whole:
            yield np.frombuffer(rest[:whole], "<f4").reshape(-1, n_mels).T
        rest = rest[whole:]
    if rest:
        raise VocoderError(
            f"{name} ends within a frame: a frame is {n_mels} float32, {size} bytes, the last {len(rest)} are too few"
        )


def _pickled(name: str) -> VocoderError:
    return VocoderError(
        f"{name} holds pickled Python objects, which could run code and are never loaded; save a plain float32 array "
        f"with numpy.save"
    )
