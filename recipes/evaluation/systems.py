"""The systems that an evaluation compares: models by name, on exact and on smoothed mels, and Griffin-Lim."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from recipes.data.f0_labels import f0_at, label_f0
from recipes.data.segments import frame_times
from recipes.data.smoothing import LEVELS, smooth_mel
from recipes.evaluation.finished import FinishedAudio
from recipes.evaluation.griffin_lim import griffin_lim
from recipes.evaluation.summary import RECORDING
from vocoders.errors import VocoderError
from vocoders.inference.base import BaseVocoder
from vocoders.pretrained import DEFAULT_MODEL, list_models, load


@dataclass(frozen=True)
class Comparison:
    """What an evaluation compares.

    Attributes:
        models: MODEL or NAME=MODEL each, as for ``load_named``; None is the built-in model.
        smooth: keys of LEVELS; each model is also measured on mels smoothed so.
        others: finished audio of other systems.
        draws: number of noise seeds that each metric is averaged over.
    """

    models: tuple[str | None, ...] = (None,)
    smooth: tuple[str, ...] = ()
    others: tuple[FinishedAudio, ...] = ()
    draws: int = 1


@dataclass(frozen=True)
class System:
    """A model, or Griffin-Lim on its mels, given exact mels or, with ``smoothing``, a key of LEVELS, smoothed ones."""

    voc: BaseVocoder
    griffin_lim: bool = False
    smoothing: str | None = None

    @property
    def given_f0(self) -> bool:
        """Whether the synthesis is given the F0 of the recording, because the model cannot estimate what it needs."""
        return self.voc.uses_f0 and not self.voc.estimates_f0 and not self.griffin_lim

    @property
    def name(self) -> str:
        """Name of the system in the table."""
        if self.griffin_lim:
            return "griffin-lim"
        given, smoothing = ", F0 given" * self.given_f0, f", {self.smoothing} smoothing" if self.smoothing else ""
        return f"{self.voc.name}{given}{smoothing}"

    def mel(self, audio: np.ndarray) -> np.ndarray:
        """Analyse a recording, and smooth its mel where this system is given smoothed ones: (n_mels, frames)."""
        mel = self.voc.analyze(audio, self.voc.sample_rate)
        return smooth_mel(mel, *LEVELS[self.smoothing]) if self.smoothing else mel

    def copy(self, audio: np.ndarray, seed: int = 0) -> tuple[np.ndarray, float]:
        """Synthesise a recording (samples,) of whole hops from its mel; returns as much audio, and the seconds."""
        mel_config, mel = self.voc.mel_config, self.mel(audio)
        f0 = reference_f0(audio, self.voc, mel.shape[1]) if self.given_f0 else None
        begin = time.perf_counter()
        if self.griffin_lim:
            estimate = griffin_lim(torch.from_numpy(mel), mel_config, seed=seed).numpy()
        else:
            estimate = self.voc(mel, f0, seed)
        seconds = time.perf_counter() - begin
        late = 0 if self.griffin_lim else self.voc.lag
        return estimate[late : late + len(audio)], seconds

    def estimated_f0(self, audio: np.ndarray) -> np.ndarray | None:
        """Estimate F0 from the mel of a recording: Hz, 0 = unvoiced, (frames,).

        None without an F0 estimator, and for an exported model, whose graph holds the estimator.
        """
        estimator = getattr(self.voc, "f0_estimator", None)
        if estimator is None or self.griffin_lim:
            return None
        return estimator.estimate(torch.from_numpy(self.mel(audio))[None])[0, 0].numpy()


def reference_f0(audio: np.ndarray, voc: BaseVocoder, frames: int) -> np.ndarray:
    """Label each mel frame of a recording with its F0: Hz, 0 = unvoiced, (frames,)."""
    return f0_at(label_f0(audio, voc.sample_rate), frame_times(frames, voc.mel_config))


def load_named(model: str | None) -> BaseVocoder:
    """Load MODEL, or NAME=MODEL, where NAME is its name in the table."""
    name, _, rest = (model or "").partition("=")
    # "=" may be part of a path.
    if not (name and rest) or "/" in name or os.sep in name or Path(model or "").exists():
        name, rest = "", model or DEFAULT_MODEL
    # Of a built-in model its checkpoint, whose F0 estimator is measured as well.
    voc = load(rest, backend="torch" if rest in list_models() else None)
    voc.name = name or voc.name
    return voc


@cache
def load_systems(comparison: Comparison) -> tuple[System, ...]:
    """Load the models, each also for smoothed mels, and Griffin-Lim on the mels of the first; once in each process.

    Raises:
        VocoderError: for an unknown model, and for two systems of one name.
    """
    vocs = [load_named(model) for model in dict.fromkeys(comparison.models)]
    systems = tuple(System(voc, smoothing=level) for voc in vocs for level in (None, *comparison.smooth))
    systems = (*systems, System(vocs[0], griffin_lim=True))
    check_names([RECORDING, *(system.name for system in systems), *(other.name for other in comparison.others)])
    noise = np.geomspace(1e-5, 0.1, 20000) * np.random.default_rng(0).standard_normal(20000)
    for system in systems:  # the first synthesis of a process takes longer than later ones
        system.copy(noise.astype(np.float32))
    return systems


def check_names(names: list[str]) -> None:
    """Check that no two systems have the same name.

    Raises:
        VocoderError: when two have.
    """
    for name in names:
        if names.count(name) > 1:
            raise VocoderError(f"two rows of the table would be called '{name}'; give them other names with NAME=")
