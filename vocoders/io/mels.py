"""Read and write mel files: .npy, .npz and headerless frames."""

from __future__ import annotations

import difflib
import io
import json
import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vocoders.config import bind
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError, shorten
from vocoders.files import Bytes, map_file
from vocoders.inputs import Input
from vocoders.io.foreign import refuse_foreign

MEL_SUFFIXES = (".npy", ".npz")

_LARGEST_ARRAY = 2**30  # bytes; the mel of ten hours of speech
_LARGEST_MEL_CONFIG = 2**16  # bytes, in UTF-32 as numpy writes text
_BLOCK = 1 << 16  # bytes read from a stream at once, at most
_LONGEST_HEADER = 1 << 16  # bytes; numpy refuses far shorter ones
_MOST_DIMENSIONS = 8


def read_array(data: Bytes, name: str) -> np.ndarray:
    """Decode a .npy file of real numbers, without unpickling or allocating more than the file holds.

    The array of a mapped file is a view of it; changes do not reach the file.

    Raises:
        VocoderError: when it is no whole .npy file of floats or integers of up to 64 bits.
    """
    shape, fortran, dtype, begin = _read_header(data, name)
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise VocoderError(f"{name} holds {shorten(dtype)}; expected an array of floats, as numpy.save writes a mel")
    array: np.ndarray = np.ndarray(shape, dtype, data, begin, order="F" if fortran else "C")
    return array if array.flags.writeable else array.copy()


def _read_text(data: Bytes, name: str) -> str:
    """Decode a .npy file of one string."""
    shape, _, dtype, begin = _read_header(data, name)
    if dtype.kind != "U" or shape != ():
        raise VocoderError(f"{name} holds {shorten(dtype)} of shape {shape}, not one string")
    try:
        return data[begin:].decode("utf-32-be" if dtype.byteorder == ">" else "utf-32-le").rstrip("\0")
    except UnicodeDecodeError:
        raise VocoderError(f"{name} holds no valid Unicode") from None


def _read_header(data: Bytes, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Read shape, order (True: Fortran), dtype and start of the numbers of a .npy file."""
    buffer = io.BytesIO(data[:_LONGEST_HEADER])
    try:
        version = np.lib.format.read_magic(buffer)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(buffer)
    except Exception as error:  # numpy raises all kinds for a hostile header
        if data[:1] == b"\x80":  # a pickle
            raise _pickled(name) from None
        raise VocoderError(f"{name} is not a readable .npy file ({shorten(error)})") from None
    if dtype.hasobject:
        raise _pickled(name)
    # numpy accepts negative numbers and booleans and fails later; beside a 0 it accepts any size.
    sizes_fit = all(type(size) is int and size >= 0 for size in shape) and math.prod(n or 1 for n in shape) < 2**60
    if len(shape) > _MOST_DIMENSIONS or not sizes_fit:
        raise VocoderError(f"{name} is not a readable .npy file (its header claims the shape {shorten(shape)})")
    claimed, held = math.prod(shape) * dtype.itemsize, len(data) - buffer.tell()
    if claimed != held:
        raise VocoderError(f"{name} is not whole: its header claims {claimed} bytes of data, it holds {held}")
    return shape, fortran, dtype, buffer.tell()


def read_mel(path: str | Path) -> tuple[np.ndarray, MelConfig | None]:
    """Read a mel file (.npy or .npz).

    Args:
        path: the file.

    Returns:
        The mel, (n_mels, frames), and its mel config, None for a .npy file.

    Raises:
        VocoderError: as for ``decode_mel``, and when the file holds several mels.
    """
    mel, mel_config = decode_mel(map_file(Path(path)), str(path))
    return single_mel(mel), mel_config


def single_mel(mel: np.ndarray) -> np.ndarray:
    """Drop the batch axis of one mel; VocoderError for several."""
    if mel.ndim == 3 and len(mel) == 1:
        return mel[0]
    if mel.ndim == 3:
        raise VocoderError(
            f"a file holds one mel, (n_mels, frames); this array is {mel.shape}: save its items one by one"
        )
    return mel


def decode_mel(data: Bytes, name: str, max_bytes: int = _LARGEST_ARRAY) -> tuple[np.ndarray, MelConfig | None]:
    """Decode a mel file: the stored array, and the mel config of an .npz that ``encode_mel`` wrote.

    Args:
        data: bytes of the file.
        name: name in error messages.
        max_bytes: most bytes of an unpacked array of an .npz.

    Raises:
        VocoderError: when it is no .npy or .npz with an array "mel", damaged, pickled or too large, or its mel config
            is invalid.
    """
    refuse_foreign(data, name)
    if data[:2] != b"PK":
        return read_array(data, name), None
    parts = _unpack(data, name, {"mel": max_bytes, "mel_config": _LARGEST_MEL_CONFIG})
    mel = read_array(parts["mel"], f"{name} (array 'mel')")
    if "mel_config" not in parts:
        return mel, None
    text = _read_text(parts["mel_config"], f"{name} (array 'mel_config')")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise VocoderError(f"the mel config stored in {name} is not JSON: {shorten(text)!r}") from None
    return mel, bind(MelConfig, values, f"the mel config stored in {name}")


def read_inputs(
    data: Bytes,
    name: str,
    inputs: Sequence[Input],
    max_bytes: int = _LARGEST_ARRAY,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, np.ndarray]:
    """Decode the arrays of an .npz file that are inputs of a model; none for a .npy file.

    Args:
        data: bytes of the file.
        name: name in error messages.
        inputs: the inputs that the model accepts.
        max_bytes: most bytes of an unpacked array.
        note: told of arrays that are not used.

    Raises:
        VocoderError: as for ``decode_mel``, and when the name of an array is almost that of an input.
    """
    if data[:2] != b"PK":
        return {}
    parts = _unpack(data, name, {item.name: max_bytes for item in inputs})
    known = [item.name for item in inputs]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unused = sorted(_members(archive).keys() - {*known, "mel", "mel_config"})
    for key in unused:
        if near := difflib.get_close_matches(key.lower(), known, n=1, cutoff=0.65):
            raise VocoderError(f"{name} holds the unknown array '{shorten(key)}' (did you mean '{near[0]}'?)")
    if unused:
        note(f"{name} holds arrays that are not used: {shorten(', '.join(unused))} (used: mel, {', '.join(known)})")
    return {key: read_array(part, f"{name} (array '{key}')") for key, part in parts.items()}


def unpacked_bytes(data: Bytes, inputs: Sequence[Input], max_bytes: int = _LARGEST_ARRAY) -> int:
    """Return the bytes that mel and inputs of an .npz claim, arrays above ``max_bytes`` left out; 0 when unreadable."""
    names = {"mel.npy", *(f"{item.name}.npy" for item in inputs)}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            sizes = [info.file_size for info in archive.infolist() if info.filename in names]
    except Exception:  # _unpack says what is wrong
        return 0
    return sum(size for size in sizes if size <= max_bytes)


def _unpack(data: Bytes, name: str, limits: dict[str, int]) -> dict[str, bytes]:
    """Read the arrays named in ``limits`` (name -> most bytes) from an .npz, each as a .npy file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = _members(archive)
            if "mel" not in members:
                found = shorten(", ".join(members)) or "nothing"
                raise VocoderError(f"{name} holds no array named 'mel', only: {found}")
            parts = {}
            for key in members.keys() & limits.keys():
                size, limit = members[key].file_size, limits[key]
                if size > limit:
                    raise VocoderError(f"{name} claims {size} bytes for '{key}'; more than {limit} are refused")
                if members[key].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise VocoderError(f"{name} is no .npz of numpy: '{key}' is neither stored nor deflated")
                parts[key] = archive.read(members[key])
            return parts
    except VocoderError:
        raise
    except Exception as error:  # zipfile raises all kinds for a damaged archive
        raise VocoderError(f"{name} is not a readable .npz file ({shorten(error)})") from None


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the arrays of an .npz by name."""
    return {info.filename.removesuffix(".npy"): info for info in archive.infolist()}


def encode_mel(mel: np.ndarray, mel_config: MelConfig, format: str) -> bytes:
    """Encode a mel, float32 (n_mels, frames), as "npz", with its mel config, or as "npy", without."""
    buffer = io.BytesIO()
    if format == "npy":
        np.save(buffer, mel)
    else:
        np.savez(buffer, mel=mel, mel_config=np.array(mel_config.model_dump_json()))
    return buffer.getvalue()


def read_frames(file: BinaryIO, n_mels: int, name: str) -> Iterator[np.ndarray]:
    """Read headerless frames as they arrive: little-endian float32, ``n_mels`` values a frame.

    Yields:
        float32 (n_mels, frames), frames >= 1.

    Raises:
        VocoderError: when the file ends within a frame.
    """
    size, rest = 4 * n_mels, b""
    while block := file.read1(_BLOCK):  # type: ignore[attr-defined]  # without waiting for more
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
