"""Process the jobs of a ``vocode`` call, one after the other, with one model."""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from tqdm import tqdm

from vocoders.cli.common import conversion, explain, say
from vocoders.cli.plan import Job
from vocoders.dsp.diagnosis import Diagnosis, diagnose
from vocoders.dsp.mel import MelConfig, list_differences
from vocoders.errors import VocoderError, printable
from vocoders.files import Bytes, atomic_write, make_folder, map_file, read_file, write_file
from vocoders.inference.base import BaseVocoder
from vocoders.inference.checks import prepare_mel
from vocoders.inference.synthesis import BackendName, Precision
from vocoders.inputs import accepted
from vocoders.io.audio import AUDIO_SUFFIXES, AudioWriter, read_audio
from vocoders.io.mels import MEL_SUFFIXES, decode_mel, encode_mel, read_array, read_frames, read_inputs, single_mel
from vocoders.pretrained import list_models, load, mel_config_of, model_for

_LOUDEST = 3.0  # a peak that no right mel gives
_DIAGNOSED_FRAMES = 100  # raw frames, about a second: enough to recognise a mel config


@dataclass(frozen=True)
class Options:
    """Options of a ``vocode`` call, named as its arguments.

    Attributes:
        inputs: files of inputs by name; the others come from an .npz.
    """

    model: str | None = None
    device: str = "cpu"
    precision: Precision = "float32"
    backend: BackendName | None = None
    mel_config: str | None = None
    inputs: dict[str, Path] = field(default_factory=dict)
    seed: int = 0
    raw_mel: bool = False
    model_rate: bool = False
    quiet: bool = False


class Notes:
    """Notes on standard error, each printed once."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.said: set[str] = set()

    def say(self, text: str, once: str | None = None) -> None:
        """Print a note once; ``once`` names its kind."""
        if not self.quiet and (once or text) not in self.said:
            self.said.add(once or text)
            say(f"vocode: {text}")


class Source(NamedTuple):
    """What a job's audio is made of: a vocoder, its mel, float32 (n_mels, frames), and its other inputs."""

    voc: BaseVocoder
    mel: np.ndarray
    values: dict[str, np.ndarray]


class Worker:
    """Process jobs with one model.

    Attributes:
        voc: the model; the default one, for mels that carry no mel config.
        given: inputs for all jobs, by name.
    """

    def __init__(self, options: Options) -> None:
        """Load the model and the inputs that the options name."""
        self.options = options
        self.notes = Notes(options.quiet)
        self.mel_config = MelConfig.parse(options.mel_config) if options.mel_config else None
        self._models: dict[str | None, BaseVocoder] = {}
        self.voc = self._model(self.mel_config)
        self.given = {name: read_array(read_file(path), str(path)) for name, path in options.inputs.items()}

    def do(self, job: Job, bar: bool = False, data: Bytes | None = None) -> str:
        """Process one job and say in a sentence what was done; ``data`` holds input that was read already."""
        with naming(job):
            if self.options.raw_mel:
                return self.write_audio(job, *self._stream(job.name), None, bar)
            voc, mel, values = self.read(job, data)
            if job.makes_mel:
                return self._write_mel(job, mel)
            pieces = voc.synthesize(mel, seed=self.options.seed, **values)
            return self.write_audio(job, voc, pieces, mel.shape[1], bar)

    def read(self, job: Job, data: Bytes | None = None) -> Source:
        """Read a job's mel, or compute it from a sound, and its other inputs."""
        if data is None:
            data = map_file(job.source) if job.source else _read_standard_input()
        if not _is_mel(job, data):
            return Source(self.voc, self._analyze(data, job), self.given)
        if job.makes_mel:
            raise VocoderError("it is a mel already; its output must be a sound file")
        voc, mel = self._read_mel(data, job.name)
        given = read_inputs(data, job.name, accepted(voc.facts.inputs), note=self.notes.say)
        return Source(voc, mel, given | self.given)

    def _model(self, mel_config: MelConfig | None) -> BaseVocoder:
        """Load the model that the options name; without a name, the one for a mel config."""
        name = self.options.model
        if name is None and mel_config is not None:
            name = model_for(mel_config)
        if name not in self._models:
            options = self.options
            self._models[name] = load(name, options.device, options.precision, options.backend)
        return self._models[name]

    def _vocoder(self, mel_config: MelConfig | None, name: str) -> BaseVocoder:
        """Return the vocoder for mels of a mel config; say what is approximated."""
        voc = self._model(mel_config) if mel_config else self.voc
        if mel_config is None or mel_config.converts_to(voc.mel_config):
            return voc
        voc = voc.for_mel_config(mel_config, self.options.model_rate)
        self.notes.say(f"{name}: {voc.approximation}", once=voc.approximation)
        return voc

    def _read_mel(self, data: Bytes, name: str) -> tuple[BaseVocoder, np.ndarray]:
        """Read a mel (n_mels, frames); convert it for the vocoder that is returned with it."""
        mel, stored = decode_mel(data, name)
        mel = single_mel(mel)
        if stored and self.mel_config and stored != self.mel_config:
            raise VocoderError(
                f"its own mel config contradicts --mel-config {self.options.mel_config}: "
                f"{list_differences(stored.differences(self.mel_config))}"
            )
        stated = stored or self.mel_config
        voc = self._vocoder(stated, name)
        try:
            values, warning = prepare_mel(mel, voc.mel_config, stated)
        except VocoderError as error:
            raise VocoderError(f"{error}{self._other_model(mel)}") from None
        if stated is None:
            self._say_assumed(name)
        if warning:
            self.notes.say(f"{name}: {_remedy(warning, name)}")
        return voc, values

    def _other_model(self, mel: np.ndarray) -> str:
        """Name a built-in model that takes so many bands, where the model does not."""
        if mel.ndim != 2 or self.voc.mel_config.n_mels in mel.shape:
            return ""
        fitting = [name for name in list_models() if mel_config_of(name).n_mels == mel.shape[0]]
        return f"; a model that takes {mel.shape[0]} bands: -m {fitting[0]}" if fitting else ""

    def _analyze(self, data: Bytes, job: Job) -> np.ndarray:
        """Compute the mel of a sound."""
        if self.given and job.makes_mel:
            raise VocoderError(f"--{min(self.given)} is not used in analysis; leave it out")
        if self.mel_config and not job.makes_mel:
            raise VocoderError("--mel-config is not used in copy synthesis, which takes the model's; leave it out")
        mel_config, sound = self.mel_config or self.voc.mel_config, read_audio(data, job.name)
        if sound.channels > 1:
            self.notes.say(f"{job.name} has {sound.channels} channels, mixed down to one")
        if sound.sample_rate != mel_config.sample_rate:
            self.notes.say(f"{job.name} is at {sound.sample_rate} Hz, resampled to {mel_config.sample_rate} Hz")
        return self.voc.analyze(sound.audio, sound.sample_rate, mel_config)

    def _stream(self, name: str) -> tuple[BaseVocoder, Iterator[np.ndarray]]:
        """Synthesise raw frames on standard input as they arrive; return the vocoder, too."""
        stated = self.mel_config
        voc = self._vocoder(stated, name)
        target = voc.mel_config
        if sys.stdin is None:
            raise VocoderError("standard input is closed")
        if stated is None:
            self._say_assumed(name)
        source = stated or target

        def chunks() -> Iterator[np.ndarray]:
            first: list[np.ndarray] = []
            frames = 0
            for mel in read_frames(sys.stdin.buffer, target.n_mels, name):
                yield voc.convert(mel, source)  # validated by the stream
                if stated is None and frames < _DIAGNOSED_FRAMES:
                    first.append(mel)
                    frames += mel.shape[1]
                    if frames >= _DIAGNOSED_FRAMES and (warning := diagnose(np.concatenate(first, axis=1), target)):
                        self.notes.say(f"{name}: {_remedy(warning, name)}")

        return voc, voc.stream(chunks(), seed=self.options.seed)

    def _say_assumed(self, name: str) -> None:
        mel_config = self.voc.mel_config
        self.notes.say(
            f"{name} carries no mel config; taken as the model's, {mel_config.name} ({mel_config.n_mels} bands, "
            f"{mel_config.sample_rate} Hz); --mel-config states another",
            once="assumed mel config",
        )

    def _write_mel(self, job: Job, mel: np.ndarray) -> str:
        mel_config = self.mel_config or self.voc.mel_config
        encoded = encode_mel(mel, mel_config, job.format)
        if job.target:
            write_file(job.target, encoded)
        else:
            with _standard_output() as file:
                file.write(encoded)
        return f"wrote {_target(job)}: {mel.shape[0]} bands x {mel.shape[1]} frames, {mel_config.name}"

    def write_audio(
        self, job: Job, voc: BaseVocoder, pieces: Iterable[np.ndarray], frames: int | None, bar: bool = False
    ) -> str:
        """Write pieces of float32 (samples,) or (channels, samples) as they come; say in a sentence what was written.

        ``frames`` is None where their number is not known yet.
        """
        facts, begin = voc.facts, time.perf_counter()
        long = frames is None or frames > (voc.frames_at_once or frames)
        with ExitStack() as stack:
            target = stack.enter_context(_output(job))
            writer = stack.enter_context(AudioWriter(target, facts.sample_rate, job.format, facts.channels))
            total = None if frames is None else frames * facts.samples_per_frame
            hidden = None if bar and long else True  # None: on a terminal only
            progress = stack.enter_context(
                tqdm(total=total, unit="sample", unit_scale=True, leave=False, disable=hidden)
            )
            for audio in pieces:
                writer.write(audio)
                progress.update(audio.shape[-1])
        if writer.peak > _LOUDEST:
            self.notes.say(
                f"{job.name}: peaks reach {writer.peak:.2f}, clipped at 1: the mel is probably of another scale; state "
                f"its mel config, such as --mel-config {facts.mel_config.text.split(':')[0]}:log=log10"
            )
        elif writer.peak > 1:
            self.notes.say(f"{job.name}: peaks reach {writer.peak:.2f} and are clipped at 1")
        length = writer.samples / facts.sample_rate
        speed = length / (time.perf_counter() - begin)
        return f"wrote {_target(job)}: {length:.2f} s at {facts.sample_rate} Hz, {speed:.0f} x real time"


def do_all(worker: Worker, jobs: Sequence[Job]) -> int:
    """Process a batch whose jobs have target files; list failures. Return the exit status, 1 for failures."""
    failed = []
    for job in tqdm(jobs, unit="file", disable=True if worker.options.quiet else None):
        try:
            assert job.target is not None
            make_folder(job.target.parent)
            worker.do(job)
        except Exception as error:  # a bug with one file must not stop the others
            failed.append(describe_failure(job, error))
    if failed:
        say(f"vocode: {len(failed)} of {len(jobs)} files could not be done:")
        for line in failed:
            say(f"  {line}")
    return 1 if failed else 0


@contextmanager
def naming(job: Job) -> Iterator[None]:
    """Name the job's input in a ``VocoderError`` that does not."""
    try:
        yield
    except VocoderError as error:
        known = job.name if job.source else "standard "
        named = printable(known) in str(error)
        raise VocoderError(str(error) if named else f"{job.name}: {error}") from None


def describe_failure(job: Job, error: Exception) -> str:
    """Say in a sentence why a job failed, by its input or by a bug of ours."""
    if isinstance(error, VocoderError):
        return str(error)
    if isinstance(error, OSError):
        return explain(error)
    return f"{job.name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _remedy(diagnosis: Diagnosis, name: str) -> str:
    """Say what a mel looks like, and which option or command helps."""
    return diagnosis.sentence("--mel-config {}", conversion(name, "{}")[0])


def _target(job: Job) -> str:
    return str(job.target or "standard output")


def _is_mel(job: Job, data: Bytes) -> bool:
    """Whether the input is a mel, by its ending, else by its first bytes."""
    ending = job.source.suffix.lower() if job.source else ""
    if ending in MEL_SUFFIXES + AUDIO_SUFFIXES:
        return ending in MEL_SUFFIXES
    return data[:6] == b"\x93NUMPY" or data[:4] == b"PK\x03\x04"


def _read_standard_input() -> bytes:
    data = sys.stdin.buffer.read() if sys.stdin else b""
    if not data:
        raise VocoderError("standard input is empty")
    return data


def _output(job: Job) -> AbstractContextManager[Path | BinaryIO]:
    return atomic_write(job.target) if job.target else _standard_output()


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
        if sys.platform == "win32" and error.errno == errno.EINVAL:  # on Windows: the reader has gone
            raise BrokenPipeError from None
        raise VocoderError(f"cannot write to standard output: {error.strerror}") from None
