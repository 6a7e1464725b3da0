"""Mels of an acoustic model beside the recordings they were made for: what a vocoder is fine-tuned on.

"Ground-truth aligned" (GTA) mels are predicted with the durations of the recording, so frame t of the mel is frame t of
the recording. Where it is not, training teaches noise; so each file is checked before it is used.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from recipes.data.clips import Clip, read_clip
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig, convert_mel
from vocoders.errors import VocoderError
from vocoders.files import read_file
from vocoders.io.mels import MEL_SUFFIXES, read_mel

MOST_SHIFT = 12  # frames on each side that an offset is looked for


class Alignment(NamedTuple):
    """How a predicted mel lies on the mel of its recording."""

    offset: int
    """Frames that the prediction comes late."""
    correlation: float
    """At that offset, of the deviations from each band's mean."""
    unshifted: float
    """The same correlation without an offset."""


def align(predicted: Tensor, real: Tensor) -> Alignment:
    """Find where ``predicted`` fits ``real``, both (n_mels, frames)."""

    def correlation(offset: int) -> float:
        a, b = predicted[:, max(offset, 0) :], real[:, max(-offset, 0) :]
        frames = min(a.shape[1], b.shape[1])
        a, b = (x[:, :frames] - x[:, :frames].mean(1, keepdim=True) for x in (a, b))
        return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-9))

    most = min(MOST_SHIFT, min(predicted.shape[1], real.shape[1]) // 2)
    found = {offset: correlation(offset) for offset in range(-most, most + 1)}
    best = max(found, key=lambda offset: found[offset])
    if found[best] < found[0] + 0.01:
        best = 0
    return Alignment(best, found[best], found[0])


class PredictedMels:
    """The mel of each recording, from ``folder``: NAME.npy or NAME.npz, also in subfolders like the recording's own.

    Recordings without a mel, or with one that does not lie on them, are listed on standard error and left out.

    Args:
        clips: recordings below ``root``.
        mel_config: the mel config of the model; an .npz of another that converts exactly is converted.
    Raises: VocoderError when more than half of the mels found cannot be used, or none.
    """

    def __init__(self, folder: Path, root: Path, clips: list[Clip], mel_config: MelConfig) -> None:
        self.mel_config = mel_config
        self.paths: dict[Path, Path] = {}
        missing, bad = 0, []
        own = LogMelSpectrogram(mel_config)
        for clip in tqdm(clips, desc="mels", unit="file", disable=None):
            inside = clip.path.relative_to(root).with_suffix("")
            places = [
                p.with_name(f"{p.name}{end}") for p in (folder / inside, folder / inside.name) for end in MEL_SUFFIXES
            ]
            path = next((p for p in places if p.is_file()), None)
            if path is None:
                missing += 1
                continue
            try:
                reason = self._misfit(path, own(read_clip(clip, mel_config))[0])
            except VocoderError as error:
                reason = str(error)
            if reason:
                bad.append(f"{path.name} ({reason})")
            else:
                self.paths[clip.path] = path
        if missing:
            print(f"left out {missing} of {len(clips)} recordings without a mel in {folder}", file=sys.stderr)
        if len(bad) > len(self.paths):
            shown = "; ".join(bad[:3])
            raise VocoderError(f"{len(bad)} of {len(bad) + len(self.paths)} mels do not fit their recordings: {shown}")
        if not self.paths:
            raise VocoderError(f"{folder} holds no mel named like one of the {len(clips)} recordings (NAME.npy, .npz)")
        if bad:
            print(f"left out {len(bad)} mels that do not fit: {'; '.join(bad)}", file=sys.stderr)

    def _misfit(self, path: Path, real: Tensor) -> str | None:
        """Why the mel does not lie on the one of its recording, (n_mels, frames); None when it does."""
        predicted = self.read(path)
        if predicted.shape[0] != real.shape[0]:
            turned = ", it looks transposed" if predicted.shape[1] == real.shape[0] else ""
            return f"{predicted.shape[0]} bands, not {real.shape[0]}{turned}"
        if abs(predicted.shape[1] - real.shape[1]) > 2:
            return f"{predicted.shape[1]} frames, {real.shape[1]} in the recording"
        offset, correlation, unshifted = align(predicted, real)
        if correlation < 0.5:
            return f"another recording: correlation {correlation:.2f}"
        # An acoustic model smooths, so its mels vary a little less. Those of another logarithm vary otherwise, and
        # normalised ones lie elsewhere.
        spread, level = predicted.std() / real.std(), predicted.mean() - real.mean()
        if not 0.6 < spread < 1.6 or abs(level) > real.std():
            return (
                f"another mel config than {self.mel_config.name}: its values vary {float(spread):.2f} times as much as "
                f"the recording's and lie {float(level):+.2f} beside them"
            )
        if offset:
            where = "late" if offset > 0 else "early"
            return f"{abs(offset)} frames {where}: correlation {correlation:.2f} there, {unshifted:.2f} as it stands"
        return None

    def read(self, path: Path) -> Tensor:
        """float32 (n_mels, frames) in the mel config of the model."""
        values, stored = read_mel(read_file(path), path.name)  # a bare .npy is taken as the mel config of the model
        if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating) or not np.isfinite(values).all():
            raise VocoderError(f"needs finite numbers (n_mels, frames), got {values.dtype} {values.shape}")
        mel = torch.from_numpy(values).float()
        return mel if stored is None else convert_mel(mel, stored, self.mel_config)

    def __getitem__(self, clip: Clip) -> Tensor:
        return self.read(self.paths[clip.path])

    def __contains__(self, clip: Clip) -> bool:
        return clip.path in self.paths
