"""Read mels predicted by an acoustic model, to fine-tune a vocoder on.

They must be "ground-truth aligned" (GTA), frame by frame with the recording: misalignment teaches noise, so each file
is checked first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from recipes.data.clips import Clip, find_namesake, read_clip
from vocoders.cli.common import say
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig, convert_mel, list_differences
from vocoders.errors import VocoderError, few
from vocoders.files import read_file
from vocoders.io.mels import MEL_SUFFIXES, decode_mel

_COMPARED = 8  # mels to compare with other mel configs
MAX_OFFSET = 12  # frames that ``align`` tries in each direction


class Alignment(NamedTuple):
    """Delay of a predicted mel in frames; correlation of deviations from band means there, and at 0."""

    offset: int
    correlation: float
    unshifted: float


def align(predicted: Tensor, reference: Tensor, max_offset: int = MAX_OFFSET, margin: float = 0.01) -> Alignment:
    """Find the delay, up to ``max_offset`` frames, of ``predicted`` to ``reference``, both (n_mels, frames).

    Another offset than 0 must correlate better by ``margin``.
    """

    def correlation(offset: int) -> float:
        a, b = predicted[:, max(offset, 0) :], reference[:, max(-offset, 0) :]
        frames = min(a.shape[1], b.shape[1])
        a, b = (x[:, :frames] - x[:, :frames].mean(1, keepdim=True) for x in (a, b))
        return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-9))

    most = min(max_offset, min(predicted.shape[1], reference.shape[1]) // 2)
    correlations = {offset: correlation(offset) for offset in range(-most, most + 1)}
    best = max(correlations, key=lambda offset: correlations[offset])
    if correlations[best] < correlations[0] + margin:
        best = 0
    return Alignment(best, correlations[best], correlations[0])


def find_mel_config(pairs: list[tuple[Tensor, Tensor]], mel_config: MelConfig) -> MelConfig:
    """Find the mel config of pairs of mel (n_mels, frames) and audio (1, samples) by band means, robust to smoothing.

    Returns ``mel_config``, or one of another band or filter bank that fits at least twice as well.
    """
    rate, power = mel_config.sample_rate, mel_config.power
    bands = [(low, high) for low in (0.0, 80.0) for high in (7600.0, 8000.0, 12000.0, rate / 2) if high <= rate / 2]
    changes: list[dict[str, Any]] = [{"fmin": low, "fmax": high} for low, high in bands]
    changes += [{"mel_scale": "htk"}, {"mel_scale": "slaney"}, {"mel_norm": "none"}, {"mel_norm": "slaney"}]
    changes += [{"power": 3 - power}]
    biases: dict[MelConfig, float] = {}
    for known in (mel_config, *(mel_config.model_copy(update=change) for change in changes)):
        transform = LogMelSpectrogram(known)
        references = [transform(audio)[0] for _, audio in pairs]
        frames = [min(mel.shape[1], other.shape[1]) for (mel, _), other in zip(pairs, references, strict=True)]
        means = [
            (mel[:, :count] - other[:, :count]).mean(1)
            for (mel, _), other, count in zip(pairs, references, frames, strict=True)
        ]
        biases[known] = float(torch.stack(means).mean(0).abs().mean())
    best = min(biases, key=lambda known: biases[known])
    return best if biases[best] < 0.5 * biases[mel_config] and biases[mel_config] > 0.1 else mel_config


class PredictedMels:
    """The predicted mel of each recording: NAME.npy or NAME.npz, also in subfolders.

    Recordings without a fitting mel are reported on standard error and left out; more than half of them is an error. An
    .npz of another mel config is converted if that is exact.
    """

    def __init__(self, folder: Path, root: Path, clips: list[Clip], mel_config: MelConfig) -> None:
        self.mel_config = mel_config
        self.paths: dict[Path, Path] = {}
        missing, bad = 0, []
        transform = LogMelSpectrogram(mel_config)
        for clip in tqdm(clips, desc="mels", unit="file", disable=None):
            path = find_namesake(folder, clip.path.relative_to(root), MEL_SUFFIXES)
            if path is None:
                missing += 1
                continue
            try:
                reason = self._misfit(path, transform(read_clip(clip, mel_config))[0])
            except VocoderError as error:
                reason = str(error)
            if reason:
                bad.append(f"{path.name} ({reason})")
            else:
                self.paths[clip.path] = path
        self._check_mel_config(clips)
        if missing:
            say(f"left out {missing} of {len(clips)} recordings without a mel in {folder}")
        if len(bad) > len(self.paths):
            raise VocoderError(
                f"{len(bad)} of {len(bad) + len(self.paths)} mels do not fit their recordings: {few(bad, '; ')}"
            )
        if not self.paths:
            raise VocoderError(f"{folder} holds no mel named like one of the {len(clips)} recordings (NAME.npy, .npz)")
        if bad:
            say(f"left out {len(bad)} mels that do not fit: {few(bad, '; ')}")

    def _check_mel_config(self, clips: list[Clip]) -> None:
        """Refuse mels whose first files fit much better in another mel config."""
        some = [clip for clip in clips if clip in self][:_COMPARED]
        if not some:
            return
        found = find_mel_config([(self[clip], read_clip(clip, self.mel_config)) for clip in some], self.mel_config)
        if found != self.mel_config:
            differences = list_differences(found.differences(self.mel_config))
            raise VocoderError(
                f"the mels fit the recordings as {found.text}, not as {self.mel_config.text}: {differences}; compute "
                f"them again, or train a model for them: --mel-config {found.text}"
            )

    def _misfit(self, path: Path, reference: Tensor) -> str | None:
        """Say why a mel does not fit its recording's, (n_mels, frames); None if it does."""
        predicted = self.read(path)
        if predicted.shape[0] != reference.shape[0]:
            turned = ", it looks transposed" if predicted.shape[1] == reference.shape[0] else ""
            return f"{predicted.shape[0]} bands, not {reference.shape[0]}{turned}"
        if abs(predicted.shape[1] - reference.shape[1]) > 2:
            return f"{predicted.shape[1]} frames, {reference.shape[1]} in the recording"
        offset, correlation, unshifted = align(predicted, reference)
        if correlation < 0.5:
            return f"another recording: correlation {correlation:.2f}"
        # Smoothed mels vary a little less; another logarithm changes the spread, and normalisation the mean.
        spread, level = predicted.std() / reference.std(), predicted.mean() - reference.mean()
        if not 0.6 < spread < 1.6 or abs(level) > reference.std():
            return (
                f"another mel config than {self.mel_config.name}: its values vary {float(spread):.2f} times as much as "
                f"the recording's and lie {float(level):+.2f} beside them"
            )
        if offset:
            where = "late" if offset > 0 else "early"
            return f"{abs(offset)} frames {where}: correlation {correlation:.2f} there, {unshifted:.2f} as it stands"
        return None

    def read(self, path: Path) -> Tensor:
        """Read a mel as float32 (n_mels, frames) in the model's mel config."""
        values, stored = decode_mel(read_file(path), path.name)  # a bare .npy has the model's mel config
        if values.ndim != 2 or not np.issubdtype(values.dtype, np.floating) or not np.isfinite(values).all():
            raise VocoderError(f"needs finite numbers (n_mels, frames), got {values.dtype} {values.shape}")
        mel = torch.from_numpy(values).float()
        return mel if stored is None else convert_mel(mel, stored, self.mel_config)

    def __getitem__(self, clip: Clip) -> Tensor:
        return self.read(self.paths[clip.path])

    def __contains__(self, clip: Clip) -> bool:
        return clip.path in self.paths
