"""The contract of all generators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from vocoders.config import Config
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.noise import white_noise
from vocoders.errors import VocoderError


class Generator(nn.Module, ABC):
    """A network that turns a log-mel into audio.

    Frame t becomes the samples t * hop_length ... (t + 1) * hop_length, with its middle in their middle. A "center"
    mel config places frame t at sample t * hop_length of a recording: the audio is then half a hop late.

    Subclasses state with ``uses_f0`` and ``uses_noise`` what they need beside the mel.
    """

    config_type: ClassVar[type[Config]]
    uses_f0: ClassVar[bool] = False
    uses_noise: ClassVar[bool] = False
    uses_weight_norm: ClassVar[bool] = False  # while training; checkpoints hold it folded
    # Frames synthesised at once, up to twice as many where that is all. What an utterance of any length needs in memory
    # is set by this, not by its length.
    chunk_frames: int = 256

    def __init__(self, config: Config, mel_config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.mel_config = mel_config

    def check_overlap(self, n_fft: int) -> None:
        """Raise VocoderError unless frames of ``n_fft`` samples overlap by half at least, which their inverse needs."""
        hop = self.mel_config.hop_length
        if n_fft < 2 * hop:
            raise VocoderError(f"n_fft must be at least twice the hop_length of the mel, {hop}; got {n_fft}")

    def set_statistics(self, mel: Tensor) -> None:
        """Take what the generator wants to know of its data from ``mel`` (batch, n_mels, frames), before training."""

    @property
    @abstractmethod
    def receptive_field(self) -> int | None:
        """Frames on each side that a frame of audio depends on; None when it depends on the whole utterance."""

    @abstractmethod
    def synthesize(self, mel: Tensor, f0: Tensor | None, noise: Tensor | None, phase: Tensor | None) -> Tensor:
        """What ``forward`` does once its arguments are checked and complete.

        Streams evaluate it piece by piece: ``vocoders.nn.streaming`` has to know what it does along time.
        """

    def forward(
        self,
        mel: Tensor,
        *,
        f0: Tensor | None = None,
        noise: Tensor | None = None,
        phase: Tensor | None = None,
        seed: int = 0,
    ) -> Tensor:
        """Log-mel -> audio.

        Args:
            mel: (batch, n_mels, frames), in the mel config ``mel_config``, at least one frame.
            f0: (batch, 1, frames) in Hz, 0 = unvoiced. Required when ``uses_f0``, ignored otherwise.
            noise: (batch, 1, frames * hop_length), standard normal. Drawn from ``seed`` when not given, the same for
                every item of the batch, so that an item sounds as it would alone.
            phase: (batch, 1, 1) in cycles: the phase of the first harmonic at the first sample, for synthesis in
                chunks. 0 when not given.
        Returns: float32 (batch, 1, frames * hop_length)
        Raises: ValueError for shapes that do not fit.
        """
        if mel.dim() != 3 or mel.shape[1] != self.mel_config.n_mels or mel.shape[2] < 1:
            raise ValueError(f"mel must be (batch, {self.mel_config.n_mels}, frames >= 1), got {tuple(mel.shape)}")
        batch, _, frames = mel.shape
        samples = frames * self.mel_config.hop_length
        if not self.uses_f0:
            f0 = phase = None
        elif f0 is None:
            raise ValueError(f"{type(self).__name__} needs f0 (batch, 1, frames)")
        elif f0.shape != (batch, 1, frames):
            raise ValueError(f"f0 must be {(batch, 1, frames)} for this mel, got {tuple(f0.shape)}")
        if not self.uses_noise:
            noise = None
        elif noise is None:
            noise = torch.from_numpy(white_noise(0, samples, seed)).to(mel.device).expand(batch, 1, -1)
        elif noise.shape != (batch, 1, samples):
            raise ValueError(f"noise must be {(batch, 1, samples)} for this mel, got {tuple(noise.shape)}")
        return self.synthesize(mel, f0, noise, phase)
