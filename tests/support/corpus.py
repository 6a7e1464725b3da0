"""Make a tiny synthetic corpus with the layout of openvoices, and a recipe for it."""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from tests.support import signals

MEL_CONFIG = {
    "sample_rate": 16000,
    "n_fft": 256,
    "hop_length": 64,
    "win_length": 256,
    "n_mels": 20,
    "fmin": 0,
    "fmax": 8000,
}


def make(folder: Path) -> Path:
    """Write four clips of vowels, noise and silence at 16 kHz; two are to train on."""
    folder.mkdir(parents=True)
    for i, hz in enumerate((110, 160, 220, 330)):
        parts = [signals.voice(16000, 0.5, f0=hz), 0.2 * signals.noise(16000, 0.2, seed=i), np.zeros(1600)]
        soundfile.write(folder / f"{i}.flac", np.concatenate(parts), 16000)
    (folder / "train.txt").write_text("0.flac\n1.flac\n2.flac\n")
    (folder / "valid.txt").write_text("3.flac\n")
    return folder


def recipe(folder: Path, data: Path, **changes: object) -> Path:
    """Write a recipe of a few steps of a small HNMask."""
    values: dict[str, object] = {
        "name": "tiny",
        "mel_config": MEL_CONFIG,
        "generator": {
            "name": "hnmask",
            "config": {"n_fft": 128, "backbone_channels": 16, "backbone_blocks": 1, "channels": 6, "blocks": 1},
        },
        "data": {
            "dir": str(data),
            "train": "train.txt",
            "valid": "valid.txt",
            "speed": [0.8, 1.25],
            "gain_db": [-6, 0],
            "workers": 0,
        },
        "losses": {"mel": 1.0, "draft_mel": 0.5, "spectral_convergence": 0.5, "log_magnitude": 1.0},
        "optimizer": {"lr": 0.002, "warmup": 2},
        "train": {
            "steps": 6,
            "batch_size": 2,
            "segment_frames": 24,
            "save_every": 2,
            "validate_every": 3,
            "log_every": 1,
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values | changes))
    return path


def scalars(folder: Path) -> dict[str, list[float]]:
    """Return a run's logged numbers, by tag."""
    events = log(folder)
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def tags(folder: Path, kind: str) -> set[str]:
    """Return the tags of a run's "audio" or "images"."""
    return set(log(folder).Tags()[kind])


def log(folder: Path) -> Any:
    """Load a run's log."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "log"), size_guidance={"scalars": 0})
    events.Reload()
    return events
