"""Load the systems to compare: models on exact and smoothed mels, and Griffin-Lim."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from recipes.data.audio import resample
from recipes.data.f0_labels import f0_at, label_f0
from recipes.data.segments import at_rate, frame_times
from recipes.data.smoothing import LEVELS, smooth_mel
from recipes.evaluation.finished import FinishedAudio
from recipes.evaluation.griffin_lim import griffin_lim
from recipes.evaluation.summary import RECORDING
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.inference.base import BaseVocoder
from vocoders.inputs import F0, required
from vocoders.pretrained import DEFAULT_MODEL, list_models, load


@dataclass(frozen=True)
class Comparison:
    """What an evaluation compares.

    Attributes:
        models: MODEL or NAME=MODEL, as for ``load_named``; None is the built-in model.
        smooth: keys of LEVELS, at which mels are smoothed for additional rows.
        others: finished audio of other systems.
        draws: noise seeds that each metric is averaged over.
        mel_configs: names of other mel configs, for additional rows on mels of these.
    """

    models: tuple[str | None, ...] = (None,)
    smooth: tuple[str, ...] = ()
    others: tuple[FinishedAudio, ...] = ()
    draws: int = 1
    mel_configs: tuple[str, ...] = ()


@dataclass(frozen=True)
class System:
    """A model or Griffin-Lim, on exact mels or, with ``smoothing``, a key of LEVELS, on smoothed ones.

    ``mel_config`` is the name of that of the mels, where it is not the model's.
    """

    voc: BaseVocoder
    griffin_lim: bool = False
    smoothing: str | None = None
    mel_config: str | None = None

    @property
    def audio_config(self) -> MelConfig:
        """The mel config in terms of the model's audio."""
        return at_rate(self.voc.mel_config, self.voc.sample_rate)

    @property
    def given_f0(self) -> bool:
        """Whether the synthesis gets the recording's F0, because the model cannot estimate it."""
        return F0 in required(self.voc.facts.inputs, self.voc.facts.estimated) and not self.griffin_lim

    @property
    def name(self) -> str:
        """Name in the table."""
        mels = f", {self.mel_config}" if self.mel_config else ""
        if self.griffin_lim:
            return f"griffin-lim{mels}"
        given, smoothing = ", F0 given" * self.given_f0, f", {self.smoothing} smoothing" if self.smoothing else ""
        return f"{self.voc.name}{mels}{given}{smoothing}"

    def mel(self, audio: np.ndarray) -> np.ndarray:
        """Analyse a recording, and smooth its mel if asked: (n_mels, frames)."""
        mel = self.voc.analyze(audio, self.voc.sample_rate)
        return smooth_mel(mel, *LEVELS[self.smoothing]) if self.smoothing else mel

    def copy(self, audio: np.ndarray, seed: int = 0) -> tuple[np.ndarray, float]:
        """Copy a recording (samples,) of whole hops; return as many samples, and the seconds it took."""
        mel_config, mel = self.voc.mel_config, self.mel(audio)
        f0 = reference_f0(audio, self.voc, mel.shape[1]) if self.given_f0 else None
        begin = time.perf_counter()
        if self.griffin_lim:
            own = griffin_lim(torch.from_numpy(mel), mel_config, seed=seed).numpy()
            estimate = resample(own, mel_config.sample_rate, self.voc.sample_rate)
        else:
            estimate = self.voc(mel, f0, seed)
        seconds = time.perf_counter() - begin
        late = 0 if self.griffin_lim else self.voc.lag
        return estimate[late : late + len(audio)], seconds

    def estimated_f0(self, audio: np.ndarray) -> np.ndarray | None:
        """Estimate F0 from a recording's mel: Hz, 0 = unvoiced, (frames,); None without a separate F0 estimator."""
        estimator = getattr(self.voc, "f0_estimator", None)
        if estimator is None or self.griffin_lim:
            return None
        return estimator.estimate(torch.from_numpy(self.mel(audio))[None])[0, 0].numpy()


def reference_f0(audio: np.ndarray, voc: BaseVocoder, frames: int) -> np.ndarray:
    """Label each frame of a recording with its F0: Hz, 0 = unvoiced, (frames,)."""
    return f0_at(label_f0(audio, voc.sample_rate), frame_times(frames, voc.mel_config))


def load_named(model: str | None) -> BaseVocoder:
    """Load MODEL or NAME=MODEL; NAME is for the table."""
    name, _, rest = (model or "").partition("=")
    # A path may contain "=".
    if not (name and rest) or "/" in name or os.sep in name or Path(model or "").exists():
        name, rest = "", model or DEFAULT_MODEL
    # A built-in model as a checkpoint, to measure its F0 estimator too.
    voc = load(rest, backend="torch" if rest in list_models() else None)
    voc.name = name or voc.name
    needed = [item.name for item in required(voc.facts.inputs, voc.facts.estimated) if item != F0]
    if needed:
        raise VocoderError(f"{voc.name} needs {', '.join(needed)}, which a recording does not give; leave it out")
    if voc.facts.channels > 1:
        raise VocoderError(f"{voc.name} makes {voc.facts.channels} channels, and the metrics are for one; leave it out")
    return voc


@cache
def load_systems(comparison: Comparison) -> tuple[System, ...]:
    """Load all models, also for smoothed mels, and Griffin-Lim; once per process."""
    vocs = [load_named(model) for model in dict.fromkeys(comparison.models)]
    systems = []
    for name in (None, *dict.fromkeys(comparison.mel_configs)):
        takers = [voc.for_mel_config(name) if name else voc for voc in vocs]
        systems += [System(voc, False, level, name) for voc in takers for level in (None, *comparison.smooth)]
        systems.append(System(takers[0], griffin_lim=True, mel_config=name))
    check_names([RECORDING, *(system.name for system in systems), *(other.name for other in comparison.others)])
    noise = np.geomspace(1e-5, 0.1, 20000) * np.random.default_rng(0).standard_normal(20000)
    for system in systems:  # warm up: a process's first synthesis is slower
        system.copy(noise.astype(np.float32))
    return tuple(systems)


def check_names(names: list[str]) -> None:
    """Check that system names are unique."""
    for name in names:
        if names.count(name) > 1:
            raise VocoderError(f"two rows of the table would be called '{name}'; give them other names with NAME=")
