"""Random segments of recordings, with F0 labels.

Segment number i depends on the seed and i alone. So the order of the data needs no state: training that resumes at step
n takes the segments from n * batch_size on.
"""

from __future__ import annotations

import sys

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from recipes.data import augmentation
from recipes.data.audio import read_mono, resample
from recipes.data.clips import Clip
from recipes.data.config import DataRecipe
from recipes.data.f0_labels import F0Labels, f0_at
from recipes.data.predicted_mels import PredictedMels
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError


def centered_on_hops(mel_config: MelConfig) -> MelConfig:
    """Place the frames of a mel config as generators place them: frame t in the middle of hop t.

    "center" padding is replaced by "same". The frames of a "center" mel config lie half a hop earlier and are one more;
    otherwise they are the same. Segments are analysed with the result, so that frames, labels and samples match for
    every mel config.
    """
    return mel_config.model_copy(update={"padding": "same"}) if mel_config.padding == "center" else mel_config


def frame_times(frames: int, mel_config: MelConfig) -> np.ndarray:
    """Return the middle of each mel frame in seconds, (frames,)."""
    offset = 0.0 if mel_config.padding == "center" else mel_config.hop_length / 2
    return (np.arange(frames) * mel_config.hop_length + offset) / mel_config.sample_rate


class SegmentDataset(Dataset[dict[str, Tensor]]):
    """Random segments: ``audio`` (1, frames * hop_length) in [-1, 1] and ``f0`` (1, frames) in Hz, 0 = unvoiced.

    Clips are drawn in proportion to their length. Speed (pitch and tempo together, by resampling) and gain are drawn
    from the recipe's ranges; a clip shorter than the segment is padded with zeros. Then come the augmentations that the
    recipe names.

    Args:
        clips: recordings to draw from.
        labels: F0 labels of the clips; where they are None, f0 is 0.
        data: ranges of speed and gain.
        mel_config: mel config that gives the rate and hop of segments.
        frames: length of a segment.
        seed: seed of the random numbers.
        mels: predicted mels of the clips; each item then also holds its ``mel`` (n_mels, frames).
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
        self.clips, self.labels, self.data, self.mels = clips, labels, data, mels
        self.mel_config, self.frames, self.seed = mel_config, frames, seed
        seconds = np.array([clip.samples / clip.sample_rate for clip in clips])
        self.odds = np.cumsum(seconds / seconds.sum())

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        draw = np.random.default_rng([self.seed, index])
        shares = self.data.augmentation
        if augmentation.chance(shares.tones, draw):
            audio, f0 = augmentation.tone(self.frames, self.mel_config, shares.tones_hz, draw)
            audio = audio * 10 ** (draw.uniform(*self.data.gain_db) / 20)
            item = {"audio": torch.from_numpy(audio).float()[None], "f0": torch.from_numpy(f0).float()[None]}
        else:
            item = self.recording(draw)
            if augmentation.chance(shares.voices, draw):
                other = self.recording(draw)["audio"]
                item["audio"] = augmentation.add_voice(item["audio"], other, draw.uniform(*shares.voices_db))
        item["audio"] = augmentation.degrade(item["audio"], shares, self.mel_config.sample_rate, draw).clamp(-1, 1)
        return item

    def recording(self, draw: np.random.Generator) -> dict[str, Tensor]:
        """Draw a segment of a recording that can be decoded.

        Raises:
            VocoderError: when twenty in a row cannot.
        """
        for _ in range(20):
            try:
                return self.segment(draw)
            except (soundfile.LibsndfileError, ValueError) as error:  # a damaged file whose header is whole
                print(f"skipping a recording that cannot be decoded: {error}", file=sys.stderr)
        raise VocoderError("twenty recordings in a row cannot be decoded")

    def segment(self, draw: np.random.Generator) -> dict[str, Tensor]:
        """Draw a segment.

        Raises:
            soundfile.LibsndfileError: when its recording cannot be decoded.
            ValueError: when its recording holds values that are not finite.
        """
        chosen = min(int(np.searchsorted(self.odds, draw.random())), len(self.clips) - 1)
        clip, target, length = self.clips[chosen], self.mel_config.sample_rate, self.frames * self.mel_config.hop_length
        rate = self._playback_rate(clip, draw)
        samples = int(np.ceil(length * rate / target))
        item: dict[str, Tensor] = {}
        if self.mels is None:
            start = int(draw.integers(0, max(clip.samples - samples, 0) + 1))
        else:
            start, item["mel"] = self._predicted(self.mels, clip, draw)
        source = read_mono(clip.file, start, samples)
        if not np.isfinite(source).all():
            raise ValueError(f"{clip.path} holds values that are not finite")
        audio = torch.from_numpy(resample(source, rate, target))[:length]
        audio = F.pad(audio, (0, length - len(audio)))
        audio = audio * 10 ** (draw.uniform(*self.data.gain_db) / 20)
        f0 = torch.from_numpy(self._f0(chosen, start, rate / clip.sample_rate))
        return item | {"audio": audio[None], "f0": f0.float()[None]}

    def _playback_rate(self, clip: Clip, draw: np.random.Generator) -> int:
        """Draw a speed, and return the rate of the clip times that speed, in Hz."""
        speed = np.exp(draw.uniform(*np.log(self.data.speed)))
        if self.data.speed == (1.0, 1.0):
            return clip.sample_rate
        step = self.mel_config.sample_rate // 50  # a multiple of it keeps the resampling filters few and short
        return max(step, round(clip.sample_rate * speed / step) * step)

    def _predicted(self, mels: PredictedMels, clip: Clip, draw: np.random.Generator) -> tuple[int, Tensor]:
        """Draw a part of the clip's predicted mel.

        Returns:
            The sample of the clip at which its audio starts, and the part, (n_mels, self.frames).
        """
        mel = mels[clip]
        # A "center" mel config places its frames half a hop earlier: its first one lies before the recording. Where
        # segments have it as well, the generator begins the samples of a frame at its middle.
        centered = mels.mel_config.padding == "center"
        early = 0.5 * (centered and self.mel_config.padding != "center")
        first = int(draw.integers(int(centered), max(mel.shape[1] - self.frames, int(centered)) + 1))
        start = (first - early) * self.mel_config.hop_length * clip.sample_rate / self.mel_config.sample_rate
        mel = mel[:, first : first + self.frames]
        return round(start), F.pad(mel, (0, self.frames - mel.shape[1]), value=mels.mel_config.log_floor)

    def _f0(self, chosen: int, start: int, speed: float) -> np.ndarray:
        """Return F0 in Hz of each frame, (self.frames,), of a segment from sample ``start`` of clip ``chosen`` on."""
        if self.labels is None:
            return np.zeros(self.frames, np.float32)
        clip = self.clips[chosen]
        times = start / clip.sample_rate + frame_times(self.frames, self.mel_config) * speed
        f0 = f0_at(self.labels[chosen], times) * speed
        f0[times * clip.sample_rate >= clip.samples] = 0
        return f0
