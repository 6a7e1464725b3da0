"""The commands ``vocode`` (mel and audio files in, audio and mel files out) and ``vocoders`` (about models).

Files speak for themselves: what is done follows from the endings of input and output.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vocoders.errors import VocoderError
from vocoders.jobs import AUDIO_SUFFIXES, FORMATS, MEL_SUFFIXES, Job, plan

if TYPE_CHECKING:  # imported where used, so that --help answers at once
    import numpy as np

    from vocoders.mel import MelSpec
    from vocoders.vocoder import Vocoder

_VOCODE_HELP = """\
what it does follows from the endings:
  vocode mel.npy -o out.wav              synthesis: mel in, audio out
  vocode voice.flac -o copy.wav          copy synthesis: audio in, audio out
  vocode voice.flac -o mel.npz           analysis: audio in, mel out (.npz carries its convention, .npy does not)
  vocode mels/ -o audio/                 a folder, a quoted glob or many files in: a folder out, resumable
  cat mel.npy | vocode - -o - > out.wav  - is standard input or output
"""


def vocode(arguments: list[str] | None = None) -> int:
    """Entry point of ``vocode``. Returns the exit status: 0, 1 (some files of a batch failed), 2 (bad input)."""
    parser = argparse.ArgumentParser(
        prog="vocode",
        description="Turn mel-spectrograms into audio.",
        epilog=_VOCODE_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="mel (.npy, .npz) or sound files, folders, globs, or -"
    )
    parser.add_argument("-o", "--output", required=True, metavar="OUTPUT", help="file, folder for a batch, or -")
    parser.add_argument(
        "-m", "--model", help="checkpoint file, built-in voice or hub repository org/name (default: built-in voice)"
    )
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, mps")
    parser.add_argument(
        "--mel-convention",
        metavar="NAME",
        help="what the mel was made with, or is to be made with in analysis: a name, as 'vocoders info' prints it, "
        "with changes if need be: hifigan-22k:log=log10 (default: the model's)",
    )
    parser.add_argument(
        "--f0", metavar="FILE", help=".npy of one F0 in Hz per frame, 0 = unvoiced (default: estimated from the mel)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the noise in the voice; the same seed gives the same audio (default: 0)"
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="for output to a folder or to - (default: wav); raw: 16-bit PCM, no header"
    )
    parser.add_argument("--overwrite", action="store_true", help="in a batch, redo outputs that are already there")
    parser.add_argument("-q", "--quiet", action="store_true", help="errors only")
    options = parser.parse_args(arguments)
    return _run(lambda: _vocode(options), "vocode")


def _run(command: Callable[[], int], name: str) -> int:
    """Turn the errors a user can act on into one line and an exit status."""
    try:
        return command()
    except VocoderError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130


def _vocode(options: argparse.Namespace) -> int:
    jobs, batch = plan(options.inputs, options.output, options.format)
    if batch and options.f0:
        raise VocoderError("--f0 belongs to a single input and a single output file")
    notes = _Notes(options.quiet)
    todo = [job for job in jobs if not (batch and job.target and job.target.exists() and not options.overwrite)]
    if len(todo) < len(jobs):
        notes.say(
            f"{len(jobs) - len(todo)} of {len(jobs)} outputs are there already and left as they are (see --overwrite)"
        )
    if not todo:
        return 0
    worker = _Worker(options, notes)
    if not batch:
        worker.do(todo[0])
        return 0

    from tqdm import tqdm

    failed = []
    for job in tqdm(todo, unit="file", disable=True if options.quiet else None):
        try:
            assert job.target is not None
            _make_folder(job.target.parent)
            worker.do(job)
        except VocoderError as error:
            failed.append(str(error))
    if failed:
        print(f"vocode: {len(failed)} of {len(todo)} files could not be done:", file=sys.stderr)
        for line in failed:
            print(f"  {line}", file=sys.stderr)
    return 1 if failed else 0


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VocoderError(f"cannot make the folder {path}: {error.strerror}") from None


class _Notes:
    """Remarks on standard error, each once."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.said: set[str] = set()

    def say(self, text: str, once: str | None = None) -> None:
        if self.quiet or (once or text) in self.said:
            return
        self.said.add(once or text)
        from tqdm import tqdm

        tqdm.write(f"vocode: {text}", file=sys.stderr)


class _Worker:
    """Does jobs, one after the other, with one model."""

    def __init__(self, options: argparse.Namespace, notes: _Notes) -> None:
        from vocoders.vocoder import load

        self.options = options
        self.notes = notes
        self.voc: Vocoder = load(options.model, options.device)
        self.convention: MelSpec | None = None
        if options.mel_convention:
            from vocoders.mel import MelSpec

            self.convention = MelSpec.parse(options.mel_convention)
        self.f0 = _read_f0(Path(options.f0)) if options.f0 else None

    def do(self, job: Job) -> None:
        from vocoders.audio import encode_audio, encode_mel, read_file, write_file

        data = read_file(job.source) if job.source else sys.stdin.buffer.read()
        if not data:
            raise VocoderError("standard input is empty")
        begin = time.perf_counter()
        wants_mel = job.makes_mel
        try:
            if self._is_mel(job, data):
                if wants_mel:
                    raise VocoderError("is a mel already; a sound file is an output for it")
                result = self._synthesize(self._mel(data, job.name), job.name)
            else:
                audio = self._audio(data, job.name, self._target_spec(wants_mel).sample_rate)
                result = self._analyze(audio) if wants_mel else self._synthesize(self.voc.analyze(audio), job.name)
        except VocoderError as error:
            text = str(error)
            raise VocoderError(text if job.name in text else f"{job.name}: {text}") from None
        spec = self._target_spec(wants_mel)
        encoded = (
            encode_mel(result, spec, job.format) if wants_mel else encode_audio(result, spec.sample_rate, job.format)
        )
        if job.target:
            write_file(job.target, encoded)
            self._report(job.target, result, spec, wants_mel, time.perf_counter() - begin)
        else:
            sys.stdout.buffer.write(encoded)
            sys.stdout.buffer.flush()

    def _target_spec(self, wants_mel: bool) -> MelSpec:
        """The convention of a mel that is made: the one asked for in analysis, else the model's."""
        return self.convention if wants_mel and self.convention else self.voc.mel_spec

    @staticmethod
    def _is_mel(job: Job, data: bytes) -> bool:
        if job.source and job.source.suffix.lower() in MEL_SUFFIXES:
            return True
        if job.source and job.source.suffix.lower() in AUDIO_SUFFIXES:
            return False
        return data.startswith((b"\x93NUMPY", b"PK\x03\x04"))  # what comes from a stream, or has no known ending

    def _mel(self, data: bytes, name: str) -> np.ndarray:
        from vocoders.audio import read_mel

        mel, stored = read_mel(data, name)
        if stored and self.convention and stored != self.convention:
            raise VocoderError(
                f"{name} says its convention is {stored.name}, --mel-convention says {self.options.mel_convention}"
            )
        source = stored or self.convention
        if source is None:
            own = self.voc.mel_spec
            self.notes.say(
                f"{name} carries no mel convention; taken as the model's, {own.name} ({own.n_mels} mels, "
                f"{own.sample_rate} Hz); --mel-convention tells another",
                once="assumed convention",
            )
        elif source != self.voc.mel_spec and mel.dtype.kind == "f":
            mel = self.voc.convert(mel.astype("float32"), source)
        return mel

    def _audio(self, data: bytes, name: str, rate: int) -> np.ndarray:
        from vocoders.audio import read_audio, resample

        sound = read_audio(data, name)
        if sound.channels > 1:
            self.notes.say(f"{name} has {sound.channels} channels, mixed down to one")
        if sound.sample_rate != rate:
            self.notes.say(f"{name} is at {sound.sample_rate} Hz, resampled to {rate} Hz")
        audio = resample(sound.audio, sound.sample_rate, rate)
        hop = self.voc.mel_spec.hop_length
        if len(audio) < hop:
            raise VocoderError(
                f"{name} is shorter than one frame: {len(audio)} samples at {rate} Hz, a frame has {hop}"
            )
        return audio

    def _analyze(self, audio: np.ndarray) -> np.ndarray:
        if self.convention is None:
            return self.voc.analyze(audio)
        import torch

        from vocoders.mel import MelSpectrogram

        return MelSpectrogram(self.convention, torch.float64)(torch.from_numpy(audio)).float().numpy()

    def _synthesize(self, mel: np.ndarray, name: str) -> np.ndarray:
        if mel.ndim == 3 and mel.shape[0] == 1:
            mel = mel[0]
        if mel.ndim == 3:
            raise VocoderError(
                f"a file holds one mel, (n_mels, frames); this array is {mel.shape}: save its items one by one"
            )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            audio = self.voc(mel, self.f0, self.options.seed)
        for warning in caught:
            self.notes.say(f"{name}: {warning.message}")
        peak = float(abs(audio).max())
        if peak > 1:
            self.notes.say(f"{name}: peaks reach {peak:.2f} and are clipped at 1")
        return audio

    def _report(self, path: Path, result: np.ndarray, spec: MelSpec, is_mel: bool, seconds: float) -> None:
        if is_mel:
            self.notes.say(f"wrote {path}: {result.shape[0]} mels x {result.shape[1]} frames, {spec.name}")
        else:
            length = len(result) / spec.sample_rate
            self.notes.say(f"wrote {path}: {length:.2f} s at {spec.sample_rate} Hz, {length / seconds:.0f} x real time")


def _read_f0(path: Path) -> np.ndarray:
    from vocoders.audio import read_file, read_mel

    values, _ = read_mel(read_file(path), str(path))
    if values.ndim != 1:
        raise VocoderError(f"{path} must hold one F0 per frame, 1-D; it has shape {values.shape}")
    return values


def vocoders(arguments: list[str] | None = None) -> int:
    """Entry point of ``vocoders``."""
    parser = argparse.ArgumentParser(prog="vocoders", description="About models; 'vocode' synthesises.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="what a checkpoint is", description="Print what a checkpoint is.")
    info.add_argument(
        "model", nargs="?", help="checkpoint file, built-in voice or hub repository (default: built-in voice)"
    )
    info.add_argument("--json", action="store_true", help="for machines")
    info.set_defaults(run=_info)
    options = parser.parse_args(arguments)
    return _run(lambda: options.run(options), "vocoders")


def _info(options: argparse.Namespace) -> int:
    import json

    from vocoders.generators import GENERATORS
    from vocoders.vocoder import load

    voc = load(options.model)
    spec, generator = voc.mel_spec, voc.generator
    context = generator.receptive_field
    facts: dict[str, Any] = {
        "model": voc.name,
        "generator": next(name for name, kind in GENERATORS.items() if kind is type(generator)),
        "parameters": sum(p.numel() for p in generator.parameters()),
        "config": generator.config.model_dump(mode="json"),
        "f0": ("estimated from the mel" if voc.pitch else "must be given") if generator.uses_f0 else "not used",
        "pitch_estimator_parameters": sum(p.numel() for p in voc.pitch.parameters()) if voc.pitch else 0,
        "context_frames": context,
        "mel_convention": spec.name,
        "mel_spec": spec.model_dump(mode="json"),
        "training": voc.training,
    }
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    whole = "the whole utterance"
    milliseconds = (
        f"{context} frames on each side, {context * spec.hop_length / spec.sample_rate * 1000:.0f} ms"
        if context is not None
        else whole
    )
    print(f"model          {facts['model']}")
    print(f"generator      {facts['generator']}, {facts['parameters']:,} parameters; F0 {facts['f0']}")
    print(f"context        {milliseconds}")
    print(f"mel convention {spec.name}: " + ", ".join(f"{key} {value}" for key, value in facts["mel_spec"].items()))
    print("config         " + ", ".join(f"{key} {value}" for key, value in facts["config"].items()))
    for key, value in voc.training.items():
        if not isinstance(value, (dict, list)):
            print(f"{key:<14} {value}")
    return 0
