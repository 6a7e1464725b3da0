"""Sound files and mel files, in and out."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vocoders.config import bind
from vocoders.errors import VocoderError
from vocoders.files import replacing
from vocoders.mel import MelSpec


class Sound(NamedTuple):
    """audio: float32 (samples,), nominally in [-1, 1]; channels: how many were mixed down."""

    audio: np.ndarray
    sample_rate: int
    channels: int


def read_audio(data: bytes, name: str) -> Sound:
    """Decode a sound file; channels are averaged. Raises VocoderError, which names ``name``."""
    import soundfile

    try:
        audio, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        reason = str(error).split(": ")[-1].rstrip(".")
        raise VocoderError(f"{name} is not a readable sound file ({reason})") from None
    if len(audio) == 0:
        raise VocoderError(f"{name} holds no audio: 0 samples")
    if not np.isfinite(audio).all():
        raise VocoderError(f"{name} holds NaN or infinite samples")
    return Sound(audio.mean(1), rate, audio.shape[1])


def resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    """Band-limited resampling of float32 (samples,). Raises VocoderError when torchaudio does not fit torch."""
    if source == target:
        return audio
    try:
        import torch
        from torchaudio.functional import resample as torchaudio_resample
    except (ImportError, OSError) as error:
        raise VocoderError(
            f"resampling from {source} to {target} Hz needs a torchaudio that fits the installed torch ({error}); "
            f"install matching versions, or resample the file beforehand"
        ) from None
    return torchaudio_resample(torch.from_numpy(audio), source, target).numpy()


def encode_audio(audio: np.ndarray, sample_rate: int, format: str) -> bytes:
    """float32 (samples,) -> the bytes of a 16-bit sound file; samples beyond [-1, 1] are clipped.

    format: a file ending without its dot, or "raw" for little-endian PCM without a header.
    """
    samples = np.clip(np.round(audio * 32768.0), -32768, 32767).astype("<i2")
    if format == "raw":
        return samples.tobytes()
    import soundfile

    buffer = io.BytesIO()
    container = {"aif": "AIFF"}.get(format, format.upper())
    try:
        soundfile.write(buffer, samples, sample_rate, format=container)
    except (soundfile.LibsndfileError, ValueError) as error:
        raise VocoderError(f"cannot write audio at {sample_rate} Hz as {format}: {error}") from None
    return buffer.getvalue()


def read_mel(data: bytes, name: str) -> tuple[np.ndarray, MelSpec | None]:
    """Decode a .npy, which carries no convention, or an .npz as ``encode_mel`` writes it.

    Never unpickles. The array is returned as it stands; what a model needs of it is checked by the Vocoder.
    """
    pickled = VocoderError(
        f"{name} holds pickled Python objects, which could run code and are never loaded; save a plain float32 array "
        f"with numpy.save"
    )
    try:
        stored = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError, KeyError) as error:
        if "allow_pickle" in str(error) and data.startswith((b"\x93NUMPY", b"\x80")):  # numpy says so of any text, too
            raise pickled from None
        reason = "it does not begin as one" if "allow_pickle" in str(error) else " ".join(str(error).split())
        raise VocoderError(f"{name} is not a readable .npy or .npz file ({reason})") from None
    except Exception as error:  # zipfile and zlib have errors of their own for damaged archives
        raise VocoderError(f"{name} is damaged ({type(error).__name__}: {error})") from None
    if isinstance(stored, np.ndarray):
        return stored, None
    with stored:
        if "mel" not in stored.files:
            raise VocoderError(f"{name} holds no array named 'mel', only: {', '.join(stored.files) or 'nothing'}")
        try:
            mel = stored["mel"]
            text = str(stored["mel_spec"]) if "mel_spec" in stored.files else None
        except ValueError:
            raise pickled from None
        except Exception as error:
            raise VocoderError(f"{name} is damaged ({type(error).__name__}: {error})") from None
    if text is None:
        return mel, None
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
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


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises VocoderError when it is missing, a folder, unreadable or empty."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise VocoderError(f"there is no file {path}") from None
    except OSError as error:
        raise VocoderError(f"cannot read {path}: {error.strerror}") from None
    if not data:
        raise VocoderError(f"{path} is empty (0 bytes)")
    return data


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises VocoderError when it cannot be written."""
    if path.is_dir():
        raise VocoderError(f"cannot write {path}: it is a folder")
    with replacing(path) as partial:
        partial.write_bytes(data)
