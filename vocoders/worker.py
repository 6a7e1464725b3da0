"""Does the jobs of a ``vocode`` call, one after the other, with one model."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from tqdm import tqdm

from vocoders.audio import encode_audio, encode_mel, read_array, read_audio, read_file, read_mel, resample, write_file
from vocoders.errors import VocoderError
from vocoders.inputs import MelWarning
from vocoders.jobs import AUDIO_SUFFIXES, MEL_SUFFIXES, Job
from vocoders.mel import MelSpec, suspicion
from vocoders.models import load


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
        self.voc = load(options.model, options.device)
        self.convention = MelSpec.parse(options.mel_convention) if options.mel_convention else None
        self.f0 = None
        if options.f0:
            self.f0 = read_array(read_file(Path(options.f0)), options.f0)
            if self.f0.ndim != 1:
                raise VocoderError(f"{options.f0} must hold one F0 per frame, 1-D; it has shape {self.f0.shape}")

    def do(self, job: Job) -> str:
        """One job; returns what was done. Raises VocoderError, whose sentence names the input."""
        try:
            data = read_file(job.source) if job.source else _read_stream()
            begin = time.perf_counter()
            result, spec = self._make(data, job)
            if job.makes_mel:
                encoded = encode_mel(result, spec, job.format)
            else:
                encoded = encode_audio(result, spec.sample_rate, job.format)
            if job.target:
                write_file(job.target, encoded)
            else:
                _write_stream(encoded)
            return _report(job, result, spec, time.perf_counter() - begin)
        except VocoderError as error:
            text = str(error)
            raise VocoderError(text if str(job.source or "standard ") in text else f"{job.name}: {text}") from None

    def _make(self, data: bytes, job: Job) -> tuple[np.ndarray, MelSpec]:
        """The audio or the mel that comes out, and the convention it belongs to."""
        own = self.voc.mel_spec
        if _is_mel(job, data):
            if job.makes_mel:
                raise VocoderError("it is a mel already; the output for it is a sound file")
            return self._synthesize(self._mel(data, job.name), job.name), own
        if self.f0 is not None and job.makes_mel:
            raise VocoderError("--f0 has no meaning for analysis")
        if self.convention and not job.makes_mel:
            raise VocoderError("--mel-convention has no meaning from sound to sound: the model's is used")
        spec = self.convention or own
        mel = self.voc.analyze(self._audio(data, job.name, spec), spec)
        return (mel if job.makes_mel else self._synthesize(mel, job.name)), spec

    def _mel(self, data: bytes, name: str) -> np.ndarray:
        """A mel file in the model's convention."""
        own = self.voc.mel_spec
        mel, stored = read_mel(data, name)
        if mel.ndim == 3 and len(mel) == 1:
            mel = mel[0]
        if mel.ndim == 3:
            raise VocoderError(
                f"a file holds one mel, (n_mels, frames); this array is {mel.shape}: save its items one by one"
            )
        if stored and self.convention and stored != self.convention:
            raise VocoderError(f"its convention is {stored.name}, --mel-convention says {self.convention.name}")
        source = stored or self.convention
        if source and source != own and mel.dtype.kind == "f":
            mel = self.voc.convert(mel.astype(np.float32), source)
        self.voc.check_mel(mel)
        if source is None:
            self.notes.say(
                f"{name} carries no mel convention; taken as the model's, {own.name} ({own.n_mels} mels, "
                f"{own.sample_rate} Hz); --mel-convention tells another",
                once="assumed convention",
            )
        if not stored and (doubt := suspicion(mel, own)):
            self.notes.say(f"{name}: {doubt}")
        return mel

    def _audio(self, data: bytes, name: str, spec: MelSpec) -> np.ndarray:
        """A sound file, mono, at the rate of a convention."""
        sound = read_audio(data, name)
        if sound.channels > 1:
            self.notes.say(f"{name} has {sound.channels} channels, mixed down to one")
        if sound.sample_rate != spec.sample_rate:
            self.notes.say(f"{name} is at {sound.sample_rate} Hz, resampled to {spec.sample_rate} Hz")
        return resample(sound.audio, sound.sample_rate, spec.sample_rate)

    def _synthesize(self, mel: np.ndarray, name: str) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MelWarning)  # said in _mel, and only of what carries no convention
            audio = self.voc(mel, self.f0, self.seed)
        peak = float(abs(audio).max())
        if peak > 1:
            self.notes.say(f"{name}: peaks reach {peak:.2f} and are clipped at 1")
        return audio


def _report(job: Job, result: np.ndarray, spec: MelSpec, seconds: float) -> str:
    target = job.target or "standard output"
    if job.makes_mel:
        return f"wrote {target}: {result.shape[0]} mels x {result.shape[1]} frames, {spec.name}"
    length = len(result) / spec.sample_rate
    return f"wrote {target}: {length:.2f} s at {spec.sample_rate} Hz, {length / seconds:.0f} x real time"


def _is_mel(job: Job, data: bytes) -> bool:
    """By its ending; a stream and what has no known ending by how it begins."""
    ending = job.source.suffix.lower() if job.source else ""
    if ending in MEL_SUFFIXES + AUDIO_SUFFIXES:
        return ending in MEL_SUFFIXES
    return data.startswith((b"\x93NUMPY", b"PK\x03\x04"))


def _read_stream() -> bytes:
    data = sys.stdin.buffer.read() if sys.stdin else b""
    if not data:
        raise VocoderError("standard input is empty")
    return data


def _write_stream(data: bytes) -> None:
    if sys.stdout is None:
        raise VocoderError("standard output is closed")
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise VocoderError(f"cannot write to standard output: {error.strerror}") from None
