"""Sound files and mel files, in and out."""

from __future__ import annotations

import io
import json
import math
import mmap
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from vocoders.config import bind
from vocoders.errors import VocoderError
from vocoders.files import replacing
from vocoders.mel import MelSpec

_LARGEST_ARRAY = 2**30  # bytes; the mel of ten hours of speech
_LONGEST_HEADER = 1 << 16  # bytes, of a .npy; numpy itself refuses far shorter ones
_BLOCK = 1 << 16  # samples handed to libsndfile at once: it keeps a whole block of Ogg on its stack


Bytes = bytes | mmap.mmap


class Sound(NamedTuple):
    """audio: float32 (samples,), nominally in [-1, 1]; channels: how many were mixed down."""

    audio: np.ndarray
    sample_rate: int
    channels: int


def read_audio(data: Bytes, name: str, most_seconds: float = math.inf) -> Sound:
    """Decode a sound file; channels are averaged. Raises VocoderError, which names ``name``, also for a longer one."""
    import soundfile

    blocks, samples = [], 0
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels = file.samplerate, file.channels
            # Block by block until there is no more: the length a damaged header claims is not believed.
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                blocks.append(block.mean(1))
                samples += len(block)
                if samples > most_seconds * rate:
                    raise VocoderError(f"{name} is longer than {most_seconds:g} s")
    except VocoderError:
        raise
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).split(": ")[-1].rstrip(".")
        raise VocoderError(f"{name} is not a readable sound file ({reason})") from None
    if not blocks:
        raise VocoderError(f"{name} holds no audio: 0 samples")
    audio = np.concatenate(blocks)
    if not np.isfinite(audio).all():
        raise VocoderError(f"{name} holds NaN or infinite samples")
    return Sound(audio, rate, channels)


def resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    """Band-limited resampling of float32 (samples,) from one rate in Hz to another.

    Raises VocoderError when torchaudio does not fit torch, and for rates without a common divisor of any size, whose
    filters would take gigabytes.
    """
    if source == target:
        return audio
    divisor = math.gcd(source, target)
    if (source // divisor) * (target // divisor) > 10**7:
        raise VocoderError(
            f"resampling from {source} to {target} Hz is not supported, the rates have too little in common"
        )
    try:
        import torch
        from torchaudio.functional import resample as torchaudio_resample
    except (ImportError, OSError) as error:
        raise VocoderError(
            f"resampling from {source} to {target} Hz needs a torchaudio that fits the installed torch ({error}); "
            f"install matching versions, or resample the file beforehand"
        ) from None
    return torchaudio_resample(torch.from_numpy(audio), source, target).numpy()


def to_pcm(audio: np.ndarray) -> np.ndarray:
    """float32 (samples,) -> little-endian 16-bit samples; those beyond [-1, 1] are clipped."""
    return np.clip(np.round(audio * 32768.0), -32768, 32767).astype("<i2")


class AudioWriter:
    """Writes 16-bit mono sound piece by piece; samples beyond [-1, 1] are clipped. To be used in a ``with`` block.

    samples: how many were written; peak: the largest magnitude among them, before clipping.
    """

    def __init__(self, target: Path | BinaryIO, sample_rate: int, format: str) -> None:
        """
        Args:
            target: the file to make; or an open one, which gets raw PCM as it comes and all else at the end, because
                the lengths in most headers are known only then.
            format: a file ending without its dot, or "raw" for little-endian PCM without a header.
        Raises: VocoderError for a rate or format that libsndfile cannot write.
        """
        self.samples = 0
        self.peak = 0.0
        self._target = target
        self._what = f"audio at {sample_rate} Hz as {format}"
        self._sound: Any = None
        if format == "raw":
            self._file: Any = target.open("wb") if isinstance(target, Path) else target
            return
        import soundfile

        self._file = str(target) if isinstance(target, Path) else io.BytesIO()
        container = {"aif": "AIFF"}.get(format, format.upper())
        try:
            self._sound = soundfile.SoundFile(self._file, "w", sample_rate, 1, format=container)
        except (soundfile.LibsndfileError, ValueError, TypeError) as error:
            raise VocoderError(f"cannot write {self._what}: {error}") from None

    def write(self, audio: np.ndarray) -> None:
        """float32 (samples,). Raises VocoderError when the disk is full, and the like."""
        self.samples += len(audio)
        self.peak = max(self.peak, float(abs(audio).max(initial=0)))
        pcm = to_pcm(audio)
        if self._sound is None:
            self._file.write(pcm.tobytes())
            self._file.flush()
            return
        try:
            for begin in range(0, len(pcm), _BLOCK):
                self._sound.write(pcm[begin : begin + _BLOCK])
        except (RuntimeError, AssertionError) as error:  # a LibsndfileError, or less written than given
            raise VocoderError(f"cannot write {self._what}: {error}") from None

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._sound is not None:
            self._sound.close()
            if kind is None and not isinstance(self._target, Path):
                self._target.write(self._file.getvalue())
        elif isinstance(self._target, Path):
            self._file.close()


def encode_audio(audio: np.ndarray, sample_rate: int, format: str) -> bytes:
    """float32 (samples,) -> the bytes of a sound file, as ``AudioWriter`` writes it."""
    buffer = io.BytesIO()
    with AudioWriter(buffer, sample_rate, format) as writer:
        writer.write(audio)
    return buffer.getvalue()


def read_array(data: Bytes, name: str) -> np.ndarray:
    """Decode a .npy. Never unpickles, and takes no memory for a size that only its header claims.

    The array of a mapped file lies in that file; changes to it stay in memory.
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


def read_mel(data: Bytes, name: str, largest: int = _LARGEST_ARRAY) -> tuple[np.ndarray, MelSpec | None]:
    """Decode a .npy, which carries no convention, or an .npz as ``encode_mel`` writes it.

    Never unpickles, nor unpacks more than ``largest`` bytes. The array is returned as it stands; what a model needs of
    it is checked by the Vocoder.
    """
    if data[:2] != b"PK":
        return read_array(data, name), None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if "mel" not in members:
                raise VocoderError(f"{name} holds no array named 'mel', only: {', '.join(members) or 'nothing'}")
            parts = {}
            for key in members.keys() & {"mel", "mel_spec"}:
                if members[key].file_size > largest:
                    raise VocoderError(
                        f"{name} claims {members[key].file_size} bytes for '{key}'; more than "
                        f"{largest / 2**30:.3g} GiB is refused"
                    )
                if members[key].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise VocoderError(f"{name} is no .npz of numpy: '{key}' is neither stored nor deflated")
                parts[key] = archive.read(members[key])
    except VocoderError:
        raise
    except Exception as error:  # zipfile raises all kinds for a damaged archive
        raise VocoderError(f"{name} is not a readable .npz file ({' '.join(str(error).split())})") from None
    mel = read_array(parts["mel"], f"{name} (array 'mel')")
    if "mel_spec" not in parts:
        return mel, None
    text = str(read_array(parts["mel_spec"], f"{name} (array 'mel_spec')"))
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise VocoderError(f"the mel convention stored in {name} is not JSON: {text[:40]!r}") from None
    return mel, bind(MelSpec, values, f"the mel convention stored in {name}")


def encode_mel(mel: np.ndarray, spec: MelSpec, format: str) -> bytes:
    """float32 (n_mels, frames) -> the bytes of an .npy, or of an .npz that carries its convention."""
    buffer = io.BytesIO()
    if format == "npy":
        np.save(buffer, mel)
    else:
        np.savez(buffer, mel=mel, mel_spec=np.array(spec.model_dump_json()))
    return buffer.getvalue()


def read_frames(file: BinaryIO, n_mels: int, name: str) -> Iterator[np.ndarray]:
    """Headerless frames as they arrive: little-endian float32, n_mels values each -> (n_mels, frames), frames >= 1.

    Raises VocoderError when the file ends within a frame.
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


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises VocoderError when it is missing, a folder, unreadable or empty."""
    return map_file(path)[:]


def map_file(path: Path) -> Bytes:
    """As ``read_file``, but what can be mapped into memory is not read before it is used."""
    try:
        with path.open("rb") as file:
            try:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            except (ValueError, OSError):  # empty, or no regular file
                data = file.read()
    except FileNotFoundError:
        raise VocoderError(f"there is no file {path}") from None
    except OSError as error:
        raise VocoderError(f"cannot read {path}: {error.strerror}") from None
    if not data:
        raise VocoderError(f"{path} is empty (0 bytes)")
    return data


@contextmanager
def writing(path: Path) -> Iterator[Path | BinaryIO]:
    """What to write in place of a file, which then appears whole or not at all; a device or pipe itself, open.

    Raises VocoderError when it cannot be written.
    """
    if path.is_dir():
        raise VocoderError(f"cannot write {path}: it is a folder")
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
    else:
        with replacing(path) as partial:
            yield partial


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; a device or pipe directly. Raises VocoderError when it cannot be written."""
    with writing(path) as target:
        if isinstance(target, Path):
            target.write_bytes(data)
        else:
            target.write(data)


def _pickled(name: str) -> VocoderError:
    return VocoderError(
        f"{name} holds pickled Python objects, which could run code and are never loaded; save a plain float32 array "
        f"with numpy.save"
    )
