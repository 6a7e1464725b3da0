"""Read, resample and write sound files."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from vocoders.errors import VocoderError
from vocoders.files import Bytes
from vocoders.io.foreign import refuse_foreign

if TYPE_CHECKING:
    import soundfile

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif", ".au", ".w64", ".caf")

FULL_SCALE_LIMIT = 2.0  # larger samples are no sound in [-1, 1]

_MP3_SEARCH = 1 << 20  # bytes searched for the first frame
_MPEG1_KILOBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KILOBITS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_BLOCK = 1 << 16  # samples at once: libsndfile keeps a block of Ogg on its stack
_LARGEST_SOUND = 2**32  # bytes; six hours at 48 kHz


class Sound(NamedTuple):
    """Decoded sound: float32 (samples,), nominally in [-1, 1]; ``channels`` of the file were averaged."""

    audio: np.ndarray
    sample_rate: int
    channels: int


class SoundTooLong(VocoderError):
    """A sound file exceeds a limit."""


def read_audio(
    data: Bytes, name: str, max_seconds: float = math.inf, max_bytes: int = _LARGEST_SOUND, timeout: float = math.inf
) -> Sound:
    """Decode a sound file of any format that libsndfile reads; channels are averaged.

    Args:
        data: bytes of the file.
        name: name in error messages.
        max_seconds: longest accepted audio.
        max_bytes: most bytes of audio, whatever sample rate the file claims.
        timeout: seconds that decoding may take.

    Raises:
        SoundTooLong: above ``max_seconds`` or ``max_bytes``.
        VocoderError: for a file that is no sound, damaged, empty or too slow, and samples not finite or far beyond [-1,
            1].
    """
    import soundfile

    refuse_foreign(data, name)
    blocks, samples, deadline = [], 0, time.monotonic() + timeout
    try:
        with open_sound(data, deadline) as file:
            rate, channels = file.samplerate, file.channels
            most = min(max_seconds * rate, max_bytes / 4)
            # To the end, because a damaged header may claim another length.
            while len(block := file.read(max(1, _BLOCK // channels), dtype="float32", always_2d=True)):
                blocks.append(block.mean(1))
                samples += len(block)
                if samples > most or time.monotonic() > deadline:
                    break
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).split(": ")[-1].rstrip(".")
        raise VocoderError(f"{name} is not a readable sound file ({reason})") from None
    if time.monotonic() > deadline:
        raise VocoderError(f"{name} could not be decoded within {timeout:g} s")
    if samples > max_seconds * rate:
        raise SoundTooLong(f"{name} is longer than {max_seconds:g} s")
    if samples > most:
        raise SoundTooLong(f"{name} holds more than {max_bytes // 4} samples, as many as are accepted")
    if not blocks:
        raise VocoderError(f"{name} holds no audio: 0 samples")
    audio = np.concatenate(blocks)
    if not np.isfinite(audio).all():
        raise VocoderError(f"{name} holds NaN or infinite samples")
    check_full_scale(audio, name)
    return Sound(audio, rate, channels)


class _SoundBytes(io.BytesIO):
    """Bytes for libsndfile that end at a deadline; no exception may pass its callback, so bad seeks fail silently."""

    def __init__(self, data: Bytes, deadline: float) -> None:
        super().__init__(data)
        self._deadline = deadline

    def readinto(self, buffer: Any) -> int:
        return 0 if time.monotonic() > self._deadline else super().readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def open_sound(data: Bytes, deadline: float = math.inf) -> soundfile.SoundFile:
    """Open the bytes of a sound file; an MP3 may have anything before its first frame."""
    import soundfile

    try:
        return soundfile.SoundFile(_SoundBytes(data, deadline))
    except soundfile.LibsndfileError:
        begin = _find_mp3_frame(data)
        if not begin:
            raise
        return soundfile.SoundFile(_SoundBytes(data[begin:], deadline))


def _find_mp3_frame(data: Bytes) -> int | None:
    """Find the first of three MP3 frames in a row in the first MiB; libsndfile expects it at 0."""
    head = bytes(data[: _MP3_SEARCH + 3 * 4096])
    begin = 0
    while 0 <= (begin := head.find(b"\xff", begin)) < _MP3_SEARCH:
        at, frames = begin, 0
        while frames < 3 and (size := _mp3_frame_size(head[at : at + 4], head[begin : begin + 4])):
            at, frames = at + size, frames + 1
        if frames == 3:
            return begin
        begin += 1
    return None


def _mp3_frame_size(header: bytes, first: bytes) -> int:
    """Return the bytes of an MP3 frame by its header; 0 without one or for another stream than ``first``."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2 or header[1] & 0x18 == 0x08:
        return 0  # no sync, not layer III, or a reserved version
    bitrate, rate = header[2] >> 4, header[2] >> 2 & 3
    if bitrate in (0, 15) or rate == 3 or header[1] != first[1] or rate != first[2] >> 2 & 3:
        return 0
    version = header[1] >> 3 & 3  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    kilobits = (_MPEG1_KILOBITS if version == 3 else _MPEG2_KILOBITS)[bitrate - 1]
    hertz = (44100, 48000, 32000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    return (144000 if version == 3 else 72000) * kilobits // hertz + (header[2] >> 1 & 1)


def check_full_scale(audio: np.ndarray, name: str) -> None:
    """Raise VocoderError when samples are not in [-1, 1], with some tolerance; it says how to scale them."""
    peak = float(np.abs(audio).max(initial=0.0))
    if peak > FULL_SCALE_LIMIT:
        path = Path(name if Path(name).suffix else "FILE.wav")
        target = str(path.with_name(f"{path.stem}-scaled.wav"))
        write = f"soundfile.write({target!r}, x / {full_scale(peak):g}, rate)"
        raise VocoderError(
            f"{name} has samples up to {peak:g}, far beyond full scale, 1; to scale it: "
            f'python -c "import soundfile; x, rate = soundfile.read({str(path)!r}); {write}"'
        )


def full_scale(peak: float) -> float:
    """Return the full scale of samples up to ``peak``: that of 16-bit or 32-bit integers, else ``peak``."""
    return next((scale for scale in (32768.0, 2.0**31) if 0.002 * scale < peak <= scale), peak)


def resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    """Resample audio with libsoxr at "very high quality": linear phase, flat to 0.9 of the lower Nyquist frequency.

    Args:
        audio: float32 (..., samples).
        source: its sample rate in Hz.
        target: sample rate of the result in Hz.

    Returns:
        float32 (..., round(samples * target / source)), without delay.

    Raises:
        VocoderError: for a rate below 1 Hz.
    """
    if min(source, target) < 1:
        raise VocoderError(f"cannot resample from {source} to {target} Hz: a sample rate is at least 1 Hz")
    if source == target:
        return audio
    import soxr

    items = audio.shape[:-1]
    channels = audio.reshape(math.prod(items), -1).T  # soxr takes (samples, channels)
    resampled = soxr.resample(channels.astype(np.float32), source, target, quality="VHQ").T
    return np.ascontiguousarray(resampled).reshape(*items, resampled.shape[-1])


def to_pcm(audio: np.ndarray) -> np.ndarray:
    """Convert float32 ([channels, ]samples) to little-endian 16-bit (samples[, channels]), clipped to [-1, 1]."""
    return np.clip(np.round(audio.T * 32768.0), -32768, 32767).astype("<i2", order="C")


class AudioWriter:
    """Write 16-bit sound in pieces, in a ``with`` block; samples are clipped to [-1, 1].

    A failed write raises ``OSError``, at the end of the block at the latest.

    Attributes:
        samples: samples written, of each channel.
        peak: largest magnitude before clipping.
    """

    def __init__(self, target: Path | BinaryIO, sample_rate: int, format: str, channels: int = 1) -> None:
        """Open the output.

        Args:
            target: a path or an open file. Raw PCM and regular files are written as the audio comes, other outputs at
                the end, because headers hold the length.
            sample_rate: sample rate in Hz.
            format: a file ending without its dot, or "raw" for little-endian PCM without a header.
            channels: channels of the audio, interleaved in raw PCM.

        Raises:
            VocoderError: for a rate or format that libsndfile cannot write.
        """
        self.samples = 0
        self.peak = 0.0
        self._what = f"audio at {sample_rate} Hz as {format}"
        regular = isinstance(target, Path) and (target.is_file() or not target.exists())
        with ExitStack() as opened:
            self._file: Any = opened.enter_context(target.open("wb")) if isinstance(target, Path) else target
            self._buffer = None if regular or format == "raw" else io.BytesIO()  # the encoded file, until its end
            self._sink = _Sink(self._buffer or self._file)
            self._encoder = None if format == "raw" else self._encode(sample_rate, format, channels)
            self._opened = opened.pop_all()

    def write(self, audio: np.ndarray) -> None:
        """Write float32 (samples,) or (channels, samples); OSError or VocoderError when that fails."""
        self.samples += audio.shape[-1]
        self.peak = max(self.peak, float(abs(audio).max(initial=0)))
        pcm = to_pcm(audio)
        if self._encoder is None:
            self._file.write(pcm.tobytes())
            self._file.flush()
            return
        for begin in range(0, len(pcm), _BLOCK):
            with self._checked():
                self._encoder.write(pcm[begin : begin + _BLOCK])

    def _encode(self, sample_rate: int, format: str, channels: int) -> Any:
        import soundfile

        container = {"aif": "AIFF"}.get(format, format.upper())
        try:
            return soundfile.SoundFile(self._sink, "w", sample_rate, channels, format=container)
        except (RuntimeError, ValueError, TypeError) as error:
            raise self._problem(error) from None

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """Raise what went wrong in libsndfile, which ignores failures to write in most formats."""
        try:
            yield
        except (RuntimeError, AssertionError) as error:  # a LibsndfileError, or less written than given
            raise self._problem(error) from None
        if self._sink.error:
            raise self._sink.error

    def _problem(self, error: Exception) -> Exception:
        return self._sink.error or VocoderError(f"cannot write {self._what}: {error}")

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._opened, suppress(OSError, VocoderError) if kind else nullcontext():
            if self._encoder is not None:
                with self._checked():
                    self._encoder.close()
            if kind is None and self._buffer is not None:
                self._file.write(self._buffer.getvalue())


class _Sink:
    """File for libsndfile; exceptions cannot pass it, so ``error`` keeps the first one."""

    def __init__(self, file: BinaryIO) -> None:
        self.error: OSError | None = None
        self._file = file

    def write(self, data: bytes) -> int:
        return self._try(self._file.write, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._try(self._file.seek, offset, whence)  # it writes what is buffered

    def tell(self) -> int:
        return self._file.tell()

    def _try(self, function: Callable[..., int], *arguments: Any) -> int:
        try:
            return function(*arguments)
        except OSError as error:
            self.error = self.error or error
            return 0


def encode_audio(audio: np.ndarray, sample_rate: int, format: str) -> bytes:
    """Encode float32 (samples,) as the bytes of a sound file, as ``AudioWriter`` does."""
    buffer = io.BytesIO()
    with AudioWriter(buffer, sample_rate, format) as writer:
        writer.write(audio)
    return buffer.getvalue()
