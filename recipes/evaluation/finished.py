"""Finished audio of other systems, such as the samples that a paper publishes, as systems of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import soundfile
import torch

from recipes.data.audio import read_mono, resample
from recipes.data.clips import find_namesake
from recipes.data.predicted_mels import align
from recipes.evaluation.metrics import Signal
from vocoders.cli.common import say
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.io.audio import AUDIO_SUFFIXES

STEPS = 16  # in a hop, by which audio is aligned
REACH = 100  # steps in each direction that are tried: 67 ms at 24 kHz; the delays of MP3 encoders are about 50


@dataclass(frozen=True)
class FinishedAudio:
    """Audio that another system made of the recordings: its name in the table, a folder of files named like them."""

    name: str
    folder: Path

    def find(self, recording: PurePath) -> Path | None:
        """Find the file of a recording, a relative path, in the same subfolder or in the folder itself."""
        return find_namesake(self.folder, recording, AUDIO_SUFFIXES)

    def read(self, recording: PurePath, reference: Signal, mel_config: MelConfig) -> Signal | None:
        """Read the audio of a recording, aligned with it: (samples,) at its rate; None where there is no file.

        It is resampled, moved to where its mel fits that of the recording, by up to REACH steps of a 16th of a hop, and
        cut or padded to the same length. ``recording`` is relative to the folder of the recordings.

        Raises:
            VocoderError: when it cannot be decoded or is not finite.
        """
        path = self.find(recording)
        if path is None:
            return None
        try:
            audio = resample(read_mono(path), soundfile.info(path).samplerate, reference.sample_rate)
        except soundfile.LibsndfileError as error:
            raise VocoderError(f"{path} cannot be decoded: {error}") from None
        if not np.isfinite(audio).all():
            raise VocoderError(f"{path} holds values that are not finite")
        late = offset(audio, reference.audio, mel_config)
        audio = np.pad(audio[max(late, 0) :], (max(-late, 0), 0))[: len(reference.audio)]
        return Signal(np.pad(audio, (0, len(reference.audio) - len(audio))), reference.sample_rate)


def offset(audio: np.ndarray, reference: np.ndarray, mel_config: MelConfig) -> int:
    """Find by how many samples ``audio`` is late, from the mels, because phases need not agree."""
    step = max(1, mel_config.hop_length // STEPS)
    if min(len(audio), len(reference)) < mel_config.n_fft:
        return 0
    transform = LogMelSpectrogram(mel_config.model_copy(update={"hop_length": step}))
    late, fixed = (transform(torch.from_numpy(x)) for x in (audio, reference))
    return step * align(late, fixed, REACH, margin=0.0).offset


def open_finished(option: str, recordings: Sequence[PurePath]) -> FinishedAudio:
    """Open NAME=DIR; a note says which of ``recordings``, relative paths, have no file there.

    Raises:
        VocoderError: for another form, a missing folder, or a folder without a file named like a recording.
    """
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
