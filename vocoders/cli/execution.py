"""Does the jobs of a ``vocode`` call, one after the other, with one model."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from vocoders.cli.plan import Job
from vocoders.dsp.mel import MelConfig, diagnose
from vocoders.errors import MelWarning, VocoderError
from vocoders.files import Bytes, atomic_write, map_file, read_file, write_file
from vocoders.inference.checks import prepare_mel
from vocoders.io.audio import AUDIO_SUFFIXES, AudioWriter, read_audio, resample
from vocoders.io.mels import MEL_SUFFIXES, encode_mel, read_array, read_frames, read_mel
from vocoders.pretrained import load


class Notes:
    """Remarks on standard error, each once."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.said: set[str] = set()

    def say(self, text: str, once: str | None = None) -> None:
        """Say ``text``, unless it, or another text of the same kind ``once``, was said before."""
        if not self.quiet and (once or text) not in self.said:
            self.said.add(once or text)
            tqdm.write(f"vocode: {text}", file=sys.stderr)


class Worker:
    """Loads what the options of ``vocode`` name; raises VocoderError where that cannot be."""

    def __init__(self, options: argparse.Namespace, notes: Notes) -> None:
        self.notes = notes
        self.seed: int = options.seed
        self.raw_mel: bool = options.raw_mel
        self.voc = load(options.model, options.device, options.precision)
        self.mel_config = MelConfig.parse(options.mel_config) if options.mel_config else None
        self.f0 = None
        if options.f0:
            self.f0 = read_array(read_file(Path(options.f0)), options.f0)
            if self.f0.ndim != 1:
                raise VocoderError(f"{options.f0} must hold one F0 per frame, 1-D; it has shape {self.f0.shape}")

    def do(self, job: Job, bar: bool = False) -> str:
        """One job, with a progress bar if it is long; returns what was done.

        Raises VocoderError, whose sentence names the input.
        """
        try:
            if self.raw_mel:
                return self._write_audio(job, self._arriving(), bar)
            data = map_file(job.source) if job.source else _read_stream()
            if _is_mel(job, data):
                if job.makes_mel:
                    raise VocoderError("it is a mel already; the output for it is a sound file")
                mel, source = self._mel(data, job.name)
                return self._write_audio(job, self._synthesize(mel, source), bar, mel.shape[1])
            mel = self._analyze(data, job)
            if not job.makes_mel:
                return self._write_audio(job, self._synthesize(mel, self.voc.mel_config), bar, mel.shape[1])
            return self._write_mel(job, mel)
        except VocoderError as error:
            text = str(error)
            raise VocoderError(text if str(job.source or "standard ") in text else f"{job.name}: {text}") from None

    def _write_mel(self, job: Job, mel: np.ndarray) -> str:
        mel_config = self.mel_config or self.voc.mel_config
        encoded = encode_mel(mel, mel_config, job.format)
        if job.target:
            write_file(job.target, encoded)
        else:
            with _standard_output() as file:
                file.write(encoded)
        return f"wrote {_target(job)}: {mel.shape[0]} mels x {mel.shape[1]} frames, {mel_config.name}"

    def _write_audio(self, job: Job, pieces: Iterator[np.ndarray], bar: bool, frames: int | None = None) -> str:
        """Write the audio of ``frames`` frames, if that is known, as it comes."""
        mel_config, begin = self.voc.mel_config, time.perf_counter()
        long = frames is None or frames > 2 * (self.voc.chunk_frames or frames)
        with ExitStack() as stack:
            target = stack.enter_context(atomic_write(job.target) if job.target else _standard_output())
            writer = stack.enter_context(AudioWriter(target, mel_config.sample_rate, job.format))
            total = None if frames is None else frames * mel_config.hop_length
            hidden = None if bar and long else True  # None: shown on a terminal
            progress = stack.enter_context(
                tqdm(total=total, unit="sample", unit_scale=True, leave=False, disable=hidden)
            )
            for audio in pieces:
                writer.write(audio)
                progress.update(len(audio))
        if writer.peak > 1:
            self.notes.say(f"{job.name}: peaks reach {writer.peak:.2f} and are clipped at 1")
        length = writer.samples / mel_config.sample_rate
        speed = length / (time.perf_counter() - begin)
        return f"wrote {_target(job)}: {length:.2f} s at {mel_config.sample_rate} Hz, {speed:.0f} x real time"

    def _synthesize(self, mel: np.ndarray, source: MelConfig) -> Iterator[np.ndarray]:
        """The audio of a mel of the mel config ``source``, piece by piece where it is long and the model can."""
        frames, step = mel.shape[1], self.voc.chunk_frames
        if step and frames > 2 * step and self.f0 is None:
            chunks = (mel[:, begin : begin + step] for begin in range(0, frames, step))
            yield from self.voc.stream((self._own(chunk, source) for chunk in chunks), seed=self.seed)
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MelWarning)  # said in _mel, and only of what carries no mel config
            audio = self.voc(self._own(mel, source), self.f0, self.seed)
        yield audio

    def _arriving(self) -> Iterator[np.ndarray]:
        """The audio of raw frames on standard input, as it becomes final."""
        own, name = self.voc.mel_config, "standard input"
        if sys.stdin is None:
            raise VocoderError("standard input is closed")
        if self.mel_config is None:
            self._say_assumed(name)

        def frames() -> Iterator[np.ndarray]:
            first: list[np.ndarray] | None = []  # second or so: enough to judge by
            for mel in read_frames(sys.stdin.buffer, own.n_mels, name):
                mel = self._own(mel, self.mel_config or own)
                if first is not None:
                    first.append(mel)
                    if sum(part.shape[1] for part in first) >= 100:
                        self._say_doubt(np.concatenate(first, axis=1), name)
                        first = None
                yield mel

        return self.voc.stream(frames(), seed=self.seed)

    def _mel(self, data: Bytes, name: str) -> tuple[np.ndarray, MelConfig]:
        """A mel that the model can take, once it is converted from the mel config returned beside it."""
        own = self.voc.mel_config
        mel, stored = read_mel(data, name)
        if mel.ndim == 3 and len(mel) == 1:
            mel = mel[0]
        if mel.ndim == 3:
            raise VocoderError(
                f"a file holds one mel, (n_mels, frames); this array is {mel.shape}: save its items one by one"
            )
        if stored and self.mel_config and stored != self.mel_config:
            raise VocoderError(f"its mel config is {stored.name}, --mel-config says {self.mel_config.name}")
        source = stored or self.mel_config or own
        self._own(np.empty((source.n_mels, 0), np.float32), source)  # or it cannot be converted
        prepare_mel(mel, self.voc.mel_config, self.voc.mel_config)
        if not (stored or self.mel_config):
            self._say_assumed(name)
        if not stored:
            self._say_doubt(self._own(mel[:, :: 1 + mel.shape[1] // 4096], source), name)  # of a long one, a part
        return mel, source

    def _own(self, mel: np.ndarray, source: MelConfig) -> np.ndarray:
        """A mel of the mel config ``source`` in the model's."""
        return mel if source == self.voc.mel_config else self.voc.convert(mel.astype(np.float32), source)

    def _say_assumed(self, name: str) -> None:
        own = self.voc.mel_config
        self.notes.say(
            f"{name} carries no mel config; taken as the model's, {own.name} ({own.n_mels} mels, "
            f"{own.sample_rate} Hz); --mel-config tells another",
            once="assumed mel config",
        )

    def _say_doubt(self, mel: np.ndarray, name: str) -> None:
        if doubt := diagnose(mel, self.voc.mel_config):
            self.notes.say(f"{name}: {doubt}")

    def _analyze(self, data: Bytes, job: Job) -> np.ndarray:
        """The mel of a sound file, mixed down and brought to the rate of the mel config."""
        if self.f0 is not None and job.makes_mel:
            raise VocoderError("--f0 has no meaning for analysis")
        if self.mel_config and not job.makes_mel:
            raise VocoderError("--mel-config has no meaning from sound to sound: the model's is used")
        mel_config, sound = self.mel_config or self.voc.mel_config, read_audio(data, job.name)
        if sound.channels > 1:
            self.notes.say(f"{job.name} has {sound.channels} channels, mixed down to one")
        if sound.sample_rate != mel_config.sample_rate:
            self.notes.say(f"{job.name} is at {sound.sample_rate} Hz, resampled to {mel_config.sample_rate} Hz")
        audio = resample(sound.audio, sound.sample_rate, mel_config.sample_rate)
        return self.voc.analyze(audio, mel_config.sample_rate, mel_config)


def _target(job: Job) -> str:
    return str(job.target or "standard output")


def _is_mel(job: Job, data: Bytes) -> bool:
    """By its ending; a stream and what has no known ending by how it begins."""
    ending = job.source.suffix.lower() if job.source else ""
    if ending in MEL_SUFFIXES + AUDIO_SUFFIXES:
        return ending in MEL_SUFFIXES
    return data[:6] == b"\x93NUMPY" or data[:4] == b"PK\x03\x04"


def _read_stream() -> bytes:
    data = sys.stdin.buffer.read() if sys.stdin else b""
    if not data:
        raise VocoderError("standard input is empty")
    return data


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    if sys.stdout is None:
        raise VocoderError("standard output is closed")
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise VocoderError(f"cannot write to standard output: {error.strerror}") from None
