"""Encode audio as a sound file, piece by piece."""

from __future__ import annotations

import struct
from typing import Any, Literal

import numpy as np

from vocoders.io.audio import to_pcm

Format = Literal["wav", "flac", "raw"]
MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "raw": "application/octet-stream"}


class Encoder:
    """Encode audio piece by piece as a 16-bit sound file of ``samples`` per channel.

    The file is all results of ``encode``, then ``finish``; "raw" is little-endian PCM without a header.
    """

    def __init__(self, format: Format, sample_rate: int, samples: int, channels: int = 1) -> None:
        self._samples = samples
        self._file: Any = None
        self._buffer = _ForwardBuffer()
        if format == "wav":
            size = 2 * channels  # bytes
            layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, sample_rate, size * sample_rate, size, 16)
            self._buffer.write(struct.pack("<4sI4s", b"RIFF", 36 + size * samples, b"WAVE") + layout)
            self._buffer.write(struct.pack("<4sI", b"data", size * samples))
        elif format == "flac":
            import soundfile

            self._file = soundfile.SoundFile(self._buffer, "w", sample_rate, channels, format="FLAC")

    def encode(self, audio: np.ndarray) -> bytes:
        """Encode float32 (samples,) or (channels, samples), clipped to [-1, 1]; return ready bytes."""
        if self._file is not None:
            self._file.write(to_pcm(audio))
        else:
            self._buffer.write(to_pcm(audio).tobytes())
        return self._take()

    def finish(self) -> bytes:
        if self._file is not None:
            self._file.close()
        return self._take()

    def _take(self) -> bytes:
        first = self._buffer.taken == 0
        data = self._buffer.take()
        if self._file is not None and first and data:
            # STREAMINFO holds the sample count in 36 bits; libFLAC would write it at the end.
            rest = struct.unpack_from(">Q", data, 18)[0] >> 36 << 36
            data = data[:18] + struct.pack(">Q", rest | self._samples) + data[26:]
        return data


class _ForwardBuffer:
    """A file in memory that drops bytes once taken; writes before them are ignored."""

    def __init__(self) -> None:
        self.taken = 0
        self._position = 0
        self._bytes = bytearray()

    def write(self, data: Any) -> int:
        begin = self._position - self.taken
        if begin >= 0:
            self._bytes[begin : begin + len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = (0, self._position, self.taken + len(self._bytes))[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        return b""

    def take(self) -> bytes:
        data = bytes(self._bytes)
        self.taken += len(data)
        self._bytes.clear()
        return data
