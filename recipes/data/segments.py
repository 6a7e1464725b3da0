"""Random segments from a list of sound files, with F0 labels.

What segment number i holds follows from the seed and i alone. So the order of the data needs no state of its own:
training that resumes at step n asks for the segments from n * batch_size on.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.utils.data import Dataset

from recipes.data.clips import Clip
from recipes.data.config import DataRecipe
from recipes.data.f0_labels import F0Labels, f0_at
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError

if TYPE_CHECKING:
    from recipes.data.predicted_mels import PredictedMels


def aligned(mel_config: MelConfig) -> MelConfig:
    """The mel config with its frames placed as generators place them: frame t in the middle of hop t.

    The frames of a "center" mel config lie half a hop earlier and are one more; otherwise they are the same. Segments
    are analysed so, and frames, labels and samples match whatever the mel config.
    """
    return mel_config.model_copy(update={"padding": "same"}) if mel_config.padding == "center" else mel_config


def frame_times(frames: int, mel_config: MelConfig) -> np.ndarray:
    """The middle of each mel frame, in seconds."""
    offset = 0.0 if mel_config.padding == "center" else mel_config.hop_length / 2
    return (np.arange(frames) * mel_config.hop_length + offset) / mel_config.sample_rate


class SegmentDataset(Dataset[dict[str, Tensor]]):
    """Random segments: audio (1, frames * hop_length) and f0 (1, frames), see the head of this file.

    Clips are drawn in proportion to their length. Speed (pitch and tempo together, by resampling) and gain are drawn
    from the recipe's ranges; a clip shorter than the segment is padded with zeros. Without labels f0 is 0 throughout.
    With predicted mels each item also holds its mel (n_mels, frames).
    """

    def __init__(
        self,
        clips: list[Clip],
        labels: F0Labels | None,
        data: DataRecipe,
        mel_config: MelConfig,
        frames: int,
        seed: int,
        mels: PredictedMels | None = None,
    ) -> None:
        self.clips, self.labels, self.data, self.mel_config, self.frames, self.seed = (
            clips,
            labels,
            data,
            mel_config,
            frames,
            seed,
        )
        self.mels = mels
        seconds = np.array([clip.samples / clip.sample_rate for clip in clips])
        self.odds = np.cumsum(seconds / seconds.sum())

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        draw = np.random.default_rng([self.seed, index])
        for _ in range(20):
            try:
                return self.segment(draw)
            except (soundfile.LibsndfileError, ValueError) as error:  # a damaged file whose header is whole
                print(f"passing over a recording that cannot be decoded: {error}", file=sys.stderr)
        raise VocoderError("twenty recordings in a row cannot be decoded")

    def segment(self, draw: np.random.Generator) -> dict[str, Tensor]:
        """A segment drawn from ``draw``. Raises LibsndfileError or ValueError when its recording cannot be decoded."""
        from torchaudio.functional import resample

        chosen = min(int(np.searchsorted(self.odds, draw.random())), len(self.clips) - 1)
        clip, hop = self.clips[chosen], self.mel_config.hop_length
        # A rate that is a multiple of a 50th of ours keeps the resampling filters few and short.
        step = self.mel_config.sample_rate // 50
        speed = np.exp(draw.uniform(*np.log(self.data.speed)))
        unchanged = self.data.speed == (1.0, 1.0)
        rate = clip.sample_rate if unchanged else max(step, round(clip.sample_rate * speed / step) * step)
        speed = rate / clip.sample_rate
        length = self.frames * hop
        wanted = int(np.ceil(length * rate / self.mel_config.sample_rate))
        item: dict[str, Tensor] = {}
        if self.mels is None:
            start = int(draw.integers(0, max(clip.samples - wanted, 0) + 1))
        else:
            mel = self.mels[clip]
            # A "center" mel config places its frames half a hop earlier: its first one lies before the recording.
            centred = self.mels.mel_config.padding == "center"
            first = int(draw.integers(int(centred), max(mel.shape[1] - self.frames, int(centred)) + 1))
            start = round((first - centred / 2) * hop * clip.sample_rate / self.mel_config.sample_rate)
            mel = mel[:, first : first + self.frames]
            silence = self.frames - mel.shape[1]
            item["mel"] = torch.nn.functional.pad(mel, (0, silence), value=self.mels.mel_config.log_floor)
        with soundfile.SoundFile(clip.path) as file:
            file.seek(min(start, clip.samples))
            source = torch.from_numpy(file.read(wanted, dtype="float32", always_2d=True).mean(1))
        if not torch.isfinite(source).all():
            raise ValueError(f"{clip.path} holds values that are not finite")
        audio = resample(source, rate, self.mel_config.sample_rate)[:length]
        audio = torch.nn.functional.pad(audio, (0, length - len(audio)))
        audio = audio * 10 ** (draw.uniform(*self.data.gain_db) / 20)
        f0: np.ndarray = np.zeros(self.frames, np.float32)
        if self.labels is not None:
            times = start / clip.sample_rate + frame_times(self.frames, self.mel_config) * speed
            f0 = f0_at(self.labels[chosen], times) * speed
            f0[times * clip.sample_rate >= clip.samples] = 0
        return item | {"audio": audio.clamp(-1, 1)[None], "f0": torch.from_numpy(f0).float()[None]}
