"""Evaluate finished audio of other systems, such as a paper's samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import soundfile
import torch

from recipes.data.audio import read_sound, resample
from recipes.data.clips import find_namesake
from recipes.data.predicted_mels import align
from recipes.evaluation.metrics import Signal
from vocoders.cli.common import say
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.io.audio import AUDIO_SUFFIXES

STEPS = 16  # alignment steps in a hop
REACH = 100  # steps tried in each direction: 67 ms at 24 kHz; MP3 encoders delay by about 50


@dataclass(frozen=True)
class FinishedAudio:
    """Another system's copies: its name in the table, and a folder of files named like the recordings."""

    name: str
    folder: Path

    def find(self, recording: PurePath) -> Path | None:
        """Find the file of a recording, a relative path, in its subfolder or in the folder itself."""
        return find_namesake(self.folder, recording, AUDIO_SUFFIXES)

    def read(self, recording: PurePath, reference: Signal, mel_config: MelConfig) -> Signal | None:
        """Read a recording's copy, resampled, aligned and cut or padded to its length: (samples,); None without a file.

        Alignment compares mels, up to REACH steps of a 16th of a hop. ``recording`` is a relative path.
        """
        path = self.find(recording)
        if path is None:
            return None
        try:
            audio = resample(read_sound(path)[0], soundfile.info(path).samplerate, reference.sample_rate)
        except soundfile.LibsndfileError as error:
            raise VocoderError(f"{path} cannot be decoded: {error}") from None
        if not np.isfinite(audio).all():
            raise VocoderError(f"{path} holds values that are not finite")
        late = offset(audio, reference.audio, mel_config)
        audio = np.pad(audio[max(late, 0) :], (max(-late, 0), 0))[: len(reference.audio)]
        return Signal(np.pad(audio, (0, len(reference.audio) - len(audio))), reference.sample_rate)


def offset(audio: np.ndarray, reference: np.ndarray, mel_config: MelConfig) -> int:
    """Find the delay of ``audio`` in samples by comparing mels, as phases may differ."""
    step = max(1, mel_config.hop_length // STEPS)
    if min(len(audio), len(reference)) < mel_config.n_fft:
        return 0
    transform = LogMelSpectrogram(mel_config.model_copy(update={"hop_length": step}))
    late, fixed = (transform(torch.from_numpy(x)) for x in (audio, reference))
    return step * align(late, fixed, REACH, margin=0.0).offset


def open_finished(option: str, recordings: Sequence[PurePath]) -> FinishedAudio:
    """Open NAME=DIR; warn which of ``recordings``, relative paths, have no file there."""
    name, _, folder = option.partition("=")
    if not (name and folder):
        raise VocoderError(f"--others takes NAME=DIR, got {option!r}")
    finished = FinishedAudio(name, Path(folder))
    if not finished.folder.is_dir():
        raise VocoderError(f"there is no folder {finished.folder}")
    missing = [recording for recording in recordings if finished.find(recording) is None]
    if len(missing) == len(recordings):
        raise VocoderError(
            f"{finished.folder} holds no sound file named like a recording, such as {recordings[0].stem}"
        )
    if missing:
        names = ", ".join(recording.as_posix() for recording in missing[:3])
        say(f"note: {name} has no audio of {len(missing)} of {len(recordings)} recordings: {names}")
    return finished
