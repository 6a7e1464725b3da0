"""The contract of all generators, and what several of them share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
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

    A new generator is one file with a subclass, and one line in ``GENERATORS``: the class states everything that
    training, streaming, export, the command line and the tests need to know of it.

    Attributes:
        config_type: the class of its configuration.
        configs: its published sizes by name; the first one is the default.
        output_names: the keys of what ``outputs`` returns.
        own_loss_names: the keys of what ``own_losses`` returns.
        uses_f0: whether it needs F0 beside the mel.
        uses_noise: whether it needs noise beside the mel.
        next_f0_share: share of the next frame's F0 in the mean F0 of a frame, from which the phase in the next frame
            follows: 0 for F0 that is held constant within a frame.
        uses_weight_norm: whether its convolutions are trained with weight norm; checkpoints hold the product.
        chunk_frames: frames synthesised at once, up to twice as many where that is all. This, not the length of an
            utterance, decides what synthesis takes in memory.
    """

    config_type: ClassVar[type[Config]]
    configs: ClassVar[dict[str, Config]]
    output_names: ClassVar[tuple[str, ...]] = ("audio",)
    own_loss_names: ClassVar[tuple[str, ...]] = ()
    uses_f0: ClassVar[bool] = False
    uses_noise: bool = False
    next_f0_share: float = 0.0
    uses_weight_norm: ClassVar[bool] = False
    chunk_frames: int = 256

    def __init__(self, config: Config, mel_config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.mel_config = mel_config

    @classmethod
    @abstractmethod
    def config_for(cls, mel_config: MelConfig) -> Config:
        """Return the published size that fits the hop of the mels; where none does, one computed after the default.

        Raises:
            VocoderError: when this architecture cannot reach the hop length.
        """

    @classmethod
    def small_config(cls, mel_config: MelConfig) -> Config:
        """Return a configuration for tests and first trials: the smallest published size that fits the mel config.

        Subclasses override it where a network of a few thousand parameters is possible.

        Raises:
            VocoderError: when no published size fits and ``config_for`` has none either.
        """
        sizes: list[tuple[int, Config]] = []
        for config in cls.configs.values():
            try:
                with torch.device("meta"):
                    sizes.append((sum(p.numel() for p in cls(config, mel_config).parameters()), config))
            except ValueError:  # made for another hop
                continue
        return min(sizes, key=lambda size: size[0])[1] if sizes else cls.config_for(mel_config)

    def check_overlap(self, n_fft: int) -> None:
        """Check that frames of ``n_fft`` samples overlap by half at least, which their inverse needs.

        Raises:
            VocoderError: when they do not.
        """
        hop = self.mel_config.hop_length
        if n_fft < 2 * hop:
            raise VocoderError(f"n_fft must be at least twice the hop_length of the mel, {hop}; got {n_fft}")

    def set_statistics(self, mel: Tensor) -> None:
        """Take the statistics the generator needs of its data from ``mel`` (batch, n_mels, frames), before training."""

    @property
    @abstractmethod
    def receptive_field(self) -> int | None:
        """Frames on each side that a frame of audio depends on; None when it depends on the whole utterance."""

    @abstractmethod
    def synthesize(self, mel: Tensor, f0: Tensor | None, noise: Tensor | None, phase: Tensor | None) -> Tensor:
        """Do the work of ``forward``, once its arguments are checked and complete.

        Streams evaluate it piece by piece; docs/streaming.md lists the operations it may use.
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
        """Turn a log-mel into audio.

        Args:
            mel: (batch, n_mels, frames), in the mel config ``mel_config``, at least one frame.
            f0: (batch, 1, frames) in Hz, 0 = unvoiced. Required when ``uses_f0``, ignored otherwise.
            noise: (batch, 1, frames * hop_length), standard normal. Drawn from ``seed`` when not given, the same for
                every item of the batch, so that an item sounds as it would alone.
            phase: (batch, 1, 1) in cycles: the phase of the first harmonic at the first sample, for synthesis in
                chunks. 0 when not given.
            seed: of the noise.

        Returns:
            float32 (batch, 1, frames * hop_length), nominally in [-1, 1].

        Raises:
            ValueError: when the shapes do not fit.
        """
        return self.synthesize(mel, *self.complete(mel, f0, noise, phase, seed))

    def outputs(
        self,
        mel: Tensor,
        *,
        f0: Tensor | None = None,
        noises: Sequence[Tensor | None] = (None,),
        phase: Tensor | None = None,
    ) -> dict[str, list[Tensor]]:
        """Return what training compares with recordings, for several draws of noise.

        Args:
            mel: as for ``forward``, like ``f0`` and ``phase``.
            f0: see ``forward``.
            noises: one draw each, as ``noise`` of ``forward``.
            phase: see ``forward``.

        Returns:
            For each name of ``output_names`` one tensor (batch, 1, frames * hop_length) a draw; "audio" is what
            ``forward`` returns.

        Raises:
            ValueError: when the shapes do not fit.
        """
        return {"audio": [self(mel, f0=f0, noise=noise, phase=phase) for noise in noises]}

    def own_losses(self, mel: Tensor, exact: Tensor, outputs: dict[str, list[Tensor]]) -> dict[str, Tensor]:
        """Return the losses that only this architecture has, float32 scalars by names of ``own_loss_names``.

        Args:
            mel: what the generator is given, (batch, n_mels, frames); smoothed, where the recipe says so.
            exact: the mel of the recordings, of the same shape.
            outputs: what ``outputs`` has made of ``mel``.
        """
        return {}

    def complete(
        self, mel: Tensor, f0: Tensor | None, noise: Tensor | None, phase: Tensor | None, seed: int = 0
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Check the arguments of ``forward`` and return (f0, noise, phase): drawn where needed, None where not used.

        Raises:
            ValueError: when the shapes do not fit.
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
        return f0, noise, phase


def check_upsampling(rates: tuple[int, ...], mel_config: MelConfig) -> None:
    """Check that the upsampling rates multiply to the hop length of the mel.

    Raises:
        VocoderError: when they do not.
    """
    product = math.prod(rates)
    if product != mel_config.hop_length:
        listed = " x ".join(map(str, rates))
        raise VocoderError(
            f"the upsampling {listed} = {product} must equal the hop_length of the mel, {mel_config.hop_length}"
        )


def upsampling_rates(product: int, largest: int) -> tuple[int, ...]:
    """Return factors of ``product``, few and the large ones first: up to ``largest`` where possible, else up to 16.

    Raises:
        VocoderError: when there are none.
    """
    rates: list[int] = []
    rest = product
    while rest > 1:
        candidates = [*range(largest, 1, -1), *range(largest + 1, 17)]
        factor = next((f for f in candidates if rest % f == 0), None)
        if factor is None:
            raise VocoderError(f"no upsampling rates up to 16 multiply to {product}; choose another hop")
        rates.append(factor)
        rest //= factor
    return tuple(sorted(rates, reverse=True))
