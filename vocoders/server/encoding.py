"""Audio as the bytes of a sound file, piece by piece."""

from __future__ import annotations

import struct
from typing import Any, Literal

import numpy as np

from vocoders.io.audio import to_pcm

Format = Literal["wav", "flac", "raw"]
MEDIA_TYPES = {"wav": "audio/wav", "flac": "audio/flac", "raw": "application/octet-stream"}


class Encoder:
    """Audio to the bytes of a 16-bit sound file, piece by piece; joined, they are the file of ``samples`` samples."""

    def __init__(self, format: Format, sample_rate: int, samples: int) -> None:
        self._samples = samples
        self._file: Any = None
        self._sink = _Sink()
        if format == "wav":
            layout = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, 2 * sample_rate, 2, 16)
            self._sink.write(struct.pack("<4sI4s", b"RIFF", 36 + 2 * samples, b"WAVE") + layout)
            self._sink.write(struct.pack("<4sI", b"data", 2 * samples))
        elif format == "flac":
            import soundfile

            self._file = soundfile.SoundFile(self._sink, "w", sample_rate, 1, format="FLAC")

    def __call__(self, audio: np.ndarray) -> bytes:
        """float32 (samples,) -> bytes, perhaps none; beyond [-1, 1] it is clipped."""
        if self._file is not None:
            self._file.write(to_pcm(audio))
        else:
            self._sink.write(to_pcm(audio).tobytes())
        return self._take()

    def finish(self) -> bytes:
        """The rest."""
        if self._file is not None:
            self._file.close()
        return self._take()

    def _take(self) -> bytes:
        first = self._sink.sent == 0
        data = self._sink.take()
        if self._file is not None and first and data:
            # STREAMINFO counts the samples in 36 bits; libFLAC goes back to write them when it knows them, too late.
            rest = struct.unpack_from(">Q", data, 18)[0] >> 36 << 36
            data = data[:18] + struct.pack(">Q", rest | self._samples) + data[26:]
        return data


class _Sink:
    """A file of which only the part that was not taken yet is kept; what is written before it is dropped."""

    def __init__(self) -> None:
        self.sent = 0
        self._place = 0
        self._new = bytearray()

    def write(self, data: Any) -> int:
        begin = self._place - self.sent
        if begin >= 0:
            self._new[begin : begin + len(data)] = data
        self._place += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = (0, self._place, self.sent + len(self._new))[whence] + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int) -> bytes:
        return b""

    def take(self) -> bytes:
        data = bytes(self._new)
        self.sent += len(data)
        self._new.clear()
        return data
