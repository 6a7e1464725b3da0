"""Draw random segments of recordings, with F0 labels.

Segment i depends on seed and i only: training resumed at step n takes the segments from n * batch_size on.
"""

from __future__ import annotations

import math

import numpy as np
import soundfile
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from recipes.data import augmentation
from recipes.data.audio import read_resampled
from recipes.data.clips import Clip
from recipes.data.config import DataRecipe
from recipes.data.f0_labels import F0Labels, f0_at
from recipes.data.inputs import InputFiles
from recipes.data.predicted_mels import PredictedMels
from vocoders.cli.common import say
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import reflect_pad
from vocoders.errors import VocoderError


def centered_on_hops(mel_config: MelConfig) -> MelConfig:
    """Centre frames on their hops, as generators do: "center" padding becomes "same".

    Frames of "center" lie half a hop earlier and are one more; then frames, labels and samples would not match.
    """
    return mel_config.model_copy(update={"padding": "same"}) if mel_config.padding == "center" else mel_config


def at_rate(mel_config: MelConfig, sample_rate: int) -> MelConfig:
    """Scale a mel config to audio of another rate, with the same windows and frames in seconds."""
    own = mel_config.sample_rate
    changes = {
        "sample_rate": sample_rate,
        "hop_length": mel_config.hop_length * sample_rate // own,
        "win_length": mel_config.win_length * sample_rate // own,
        "n_fft": 2 * math.ceil(mel_config.n_fft * sample_rate / (2 * own)),
        "fmax": min(mel_config.fmax, sample_rate / 2),
    }
    return mel_config.model_copy(update=changes)


def frame_times(frames: int, mel_config: MelConfig) -> np.ndarray:
    """Return the middle of each frame in seconds, (frames,)."""
    offset = 0.0 if mel_config.padding == "center" else mel_config.hop_length / 2
    return (np.arange(frames) * mel_config.hop_length + offset) / mel_config.sample_rate


class SegmentDataset(Dataset[dict[str, Tensor]]):
    """Random segments: ``audio`` (channels, frames * hop_length) in [-1, 1], ``f0`` (1, frames) in Hz, 0 = unvoiced.

    Clips are drawn in proportion to their length, speed (pitch and tempo together, by resampling) and gain from the
    recipe's ranges; short clips are padded with zeros. Augmentations follow. With ``data.context``, segments begin at
    whole frames, and ``context`` is the audio with enough frames around it that its inner mel is part of the
    recording's mel.

    Without ``labels`` f0 is 0; with predicted ``mels`` items also hold ``mel`` (n_mels, frames), with ``inputs`` those
    of the segment. ``mel_config`` is in terms of the audio, see ``at_rate``.
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
        channels: int = 1,
        inputs: InputFiles | None = None,
    ) -> None:
        self.clips, self.labels, self.data, self.mels, self.inputs = clips, labels, data, mels, inputs
        self.mel_config, self.frames, self.seed, self.channels = mel_config, frames, seed, channels
        seconds = np.array([clip.samples / clip.sample_rate for clip in clips])
        self.odds = np.cumsum(seconds / seconds.sum())
        # Frames at each end that the windows reach into; predicted mels need none.
        window = mel_config.n_fft - mel_config.hop_length
        self.margin = math.ceil(window / 2 / mel_config.hop_length) if data.context and mels is None else 0

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        draw = np.random.default_rng([self.seed, index])
        shares = self.data.augmentation
        if augmentation.chance(shares.tones, draw):
            tone, f0 = augmentation.tone(self.frames + 2 * self.margin, self.mel_config, shares.tones_hz, draw)
            tone, f0 = tone * 10 ** (draw.uniform(*self.data.gain_db) / 20), f0[self.margin :][: self.frames]
            item = {"audio": torch.from_numpy(tone).float()[None], "f0": torch.from_numpy(f0).float()[None]}
        else:
            item = self.recording(draw)
            if augmentation.chance(shares.voices, draw):
                other = self.recording(draw)["audio"]
                item["audio"] = augmentation.add_voice(item["audio"], other, draw.uniform(*shares.voices_db))
        audio = augmentation.degrade(item["audio"], shares, self.mel_config.sample_rate, draw).clamp(-1, 1)
        hop = self.mel_config.hop_length
        item["audio"] = audio[:, self.margin * hop :][:, : self.frames * hop]
        return item | ({"context": audio} if self.margin else {})

    def recording(self, draw: np.random.Generator) -> dict[str, Tensor]:
        """Draw a decodable segment, its audio with ``margin`` more frames at both ends, in twenty attempts."""
        for _ in range(20):
            try:
                return self.segment(draw)
            except (soundfile.LibsndfileError, ValueError) as error:  # damaged after the header
                say(f"skipping a recording that cannot be decoded: {error}")
        raise VocoderError("twenty recordings in a row cannot be decoded")

    def segment(self, draw: np.random.Generator) -> dict[str, Tensor]:
        """Draw a segment, its audio with ``margin`` more frames at both ends.

        Raises soundfile.LibsndfileError for an undecodable recording, ValueError for values that are not finite.
        """
        chosen = min(int(np.searchsorted(self.odds, draw.random())), len(self.clips) - 1)
        clip, target, hop = self.clips[chosen], self.mel_config.sample_rate, self.mel_config.hop_length
        rate = self._playback_rate(clip, draw)
        item: dict[str, Tensor] = {}
        if self.mels is None:
            step = hop if self.margin or self.inputs else 1
            last = max(math.ceil(clip.samples * target / rate) - self.frames * hop, 0)
            start = step * int(draw.integers(0, last // step + 1))
        else:
            start, item["mel"] = self._predicted(self.mels, clip, draw)
        audio = self._read(clip, rate, start) * 10 ** (draw.uniform(*self.data.gain_db) / 20)
        f0 = torch.from_numpy(self._f0(chosen, start / target, rate / clip.sample_rate))
        if self.inputs is not None:
            item |= self.inputs.read(clip, math.ceil(start / hop), self.frames)
        return item | {"audio": audio, "f0": f0.float()[None]}

    def _read(self, clip: Clip, rate: int, start: int) -> Tensor:
        """Read a segment and its margins, padded as by the mel config: (channels, (frames + 2 * margin) * hop)."""
        hop, target = self.mel_config.hop_length, self.mel_config.sample_rate
        first, end = start - self.margin * hop, start + self.frames * hop
        source = read_resampled(clip.file, rate, target, max(first, 0), end + self.margin * hop, self.channels)
        if not np.isfinite(source).all():
            raise ValueError(f"{clip.path} holds values that are not finite")
        audio = torch.from_numpy(source)
        audio = F.pad(audio, (0, max(end - max(first, 0) - audio.shape[1], 0)))  # shorter than the segment
        left, right = max(-first, 0), end + self.margin * hop - max(first, 0) - audio.shape[1]
        return (
            F.pad(audio, (left, right)) if self.mel_config.padding == "same-zeros" else reflect_pad(audio, left, right)
        )

    def _playback_rate(self, clip: Clip, draw: np.random.Generator) -> int:
        """Draw a speed; return the clip's rate times that speed, in Hz."""
        speed = np.exp(draw.uniform(*np.log(self.data.speed)))
        if self.data.speed == (1.0, 1.0):
            return clip.sample_rate
        step = self.mel_config.sample_rate // 50  # multiples of it keep the resampling filters few and short
        return max(step, round(clip.sample_rate * speed / step) * step)

    def _predicted(self, mels: PredictedMels, clip: Clip, draw: np.random.Generator) -> tuple[int, Tensor]:
        """Draw a part of the clip's predicted mel: first audio sample, (n_mels, self.frames)."""
        mel = mels[clip]
        # "center" frames lie half a hop earlier, the first before the recording. If segments are "center" too, the
        # generator starts a frame's samples at its middle.
        centered = mels.mel_config.padding == "center"
        early = 0.5 * (centered and self.mel_config.padding != "center")
        first = int(draw.integers(int(centered), max(mel.shape[1] - self.frames, int(centered)) + 1))
        start = (first - early) * self.mel_config.hop_length
        mel = mel[:, first : first + self.frames]
        return round(start), F.pad(mel, (0, self.frames - mel.shape[1]), value=mels.mel_config.log_floor)

    def _f0(self, chosen: int, start: float, speed: float) -> np.ndarray:
        """Return F0 in Hz, (self.frames,), of a segment of clip ``chosen`` from ``start`` seconds on."""
        if self.labels is None:
            return np.zeros(self.frames, np.float32)
        clip = self.clips[chosen]
        times = (start + frame_times(self.frames, self.mel_config)) * speed
        f0 = f0_at(self.labels[chosen], times) * speed
        f0[times * clip.sample_rate >= clip.samples] = 0
        return f0
