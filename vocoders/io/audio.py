"""Sound files and mel files, in and out."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from vocoders.errors import VocoderError
from vocoders.files import Bytes

_BLOCK = 1 << 16  # samples handed to libsndfile at once: it keeps a whole block of Ogg on its stack


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


AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au", ".w64", ".caf")
