"""The contract of all generators."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vocoders.config import Config
from vocoders.dsp.mel import MelConfig
from vocoders.errors import VocoderError
from vocoders.inputs import PHASE, Input, check_names, draw
from vocoders.streaming.lookahead import measure_lookahead


class Generator(nn.Module, ABC):
    """A network that turns a log-mel into audio.

    Frame t becomes the samples t * hop_length ... (t + 1) * hop_length. With a "center" mel config, which centres
    frame t on sample t * hop_length, the audio is half a hop late.

    A new generator is one file with a subclass, and one line in ``GENERATORS``.

    Attributes:
        config_type: the class of its configuration.
        configs: published sizes by name, the default first.
        output_names: the keys of ``outputs``.
        own_loss_names: the keys of ``own_losses``.
        inputs: inputs beside the mel, the parameters of ``synthesize``; an instance may narrow them.
        next_f0_share: weight of the next frame's F0 in a frame's mean F0, which advances the phase.
        uses_weight_norm: whether training uses weight norm; checkpoints hold the product.
        chunk_frames: frames per call of ``synthesize``, up to twice as many; bounds the memory.
    """

    config_type: ClassVar[type[Config]]
    configs: ClassVar[dict[str, Config]]
    output_names: ClassVar[tuple[str, ...]] = ("audio",)
    own_loss_names: ClassVar[tuple[str, ...]] = ()
    inputs: tuple[Input, ...] = ()
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
        """Return the published size that fits the hop length, else one computed for it.

        Raises:
            VocoderError: when the hop length cannot be reached.
        """

    def check_overlap(self, n_fft: int) -> None:
        """Check that ``n_fft`` is at least twice the hop, as the inverse STFT needs."""
        hop = self.mel_config.hop_length
        if n_fft < 2 * hop:
            raise VocoderError(f"n_fft must be at least twice the hop_length of the mel, {hop}; got {n_fft}")

    def set_statistics(self, mel: Tensor) -> None:
        """Measure statistics of the training data, ``mel`` (batch, n_mels, frames)."""

    @property
    def samples_per_frame(self) -> int:
        """Samples of audio per frame."""
        return self.mel_config.hop_length * self.sample_rate // self.mel_config.sample_rate

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz."""
        return self.mel_config.sample_rate

    @property
    def channels(self) -> int:
        """Audio channels."""
        return 1

    @property
    @abstractmethod
    def context(self) -> int | None:
        """Past frames that a frame's audio depends on, or one more; None for the whole utterance."""

    @cached_property
    def lookahead(self) -> int | None:
        """Future frames that a frame's audio depends on; None when it cannot stream. Stored in checkpoints."""
        return None if self.context is None else _measure(type(self), self.config, self.mel_config)

    @abstractmethod
    def synthesize(self, mel: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Compute audio from the mel and ``inputs`` by name, with the operations listed in docs/streaming.md.

        Args:
            mel: (batch, n_mels, frames >= 1).
            args: each input, (batch, channels, length); phase None is 0.
            kwargs: see ``args``.

        Returns:
            float32 (batch, ``channels``, frames * ``samples_per_frame``), nominally in [-1, 1].
        """

    def forward(self, mel: Tensor, *, seed: int = 0, **given: Tensor | None) -> Tensor:
        """Turn a log-mel into audio.

        Args:
            mel: (batch, n_mels, frames >= 1).
            seed: seed of the noise, the same for all items of the batch.
            given: inputs by name, (batch, channels, length). Default: drawn noise, phase 0.

        Returns:
            As ``synthesize``.

        Raises:
            ValueError: for a wrong shape, or a missing or unknown input.
        """
        return self.synthesize(mel, **self.fill(mel, given, seed))

    def outputs(self, mel: Tensor, draws: Sequence[Mapping[str, Tensor | None]] = ({},)) -> dict[str, list[Tensor]]:
        """Compute what training compares with recordings, for several draws of noise.

        Args:
            mel: as for ``forward``.
            draws: the inputs of each draw, as for ``forward``.

        Returns:
            Per output name the audio of each draw; "audio" is the result of ``forward``.
        """
        return {"audio": [self(mel, **given) for given in draws]}

    def own_losses(self, mel: Tensor, exact: Tensor, outputs: dict[str, list[Tensor]]) -> dict[str, Tensor]:
        """Compute the losses of this architecture alone: float32 scalars.

        Args:
            mel: the generator's input (batch, n_mels, frames), perhaps smoothed.
            exact: the recordings' mel, of the same shape.
            outputs: the result of ``outputs``.
        """
        return {}

    def fill(self, mel: Tensor, given: Mapping[str, Tensor | None], seed: int = 0) -> dict[str, Tensor | None]:
        """Check the arguments of ``forward`` and return all inputs, with noise drawn."""
        if mel.dim() != 3 or mel.shape[1] != self.mel_config.n_mels or mel.shape[2] < 1:
            raise ValueError(f"mel must be (batch, {self.mel_config.n_mels}, frames >= 1), got {tuple(mel.shape)}")
        batch, _, frames = mel.shape
        check_names(self.inputs, given)
        given_names = [name for name, value in given.items() if value is not None]
        drawn = draw(self.inputs, given_names, 0, frames * self.samples_per_frame, [seed])
        values: dict[str, Tensor | None] = {}
        for item in self.inputs:
            shape = batch, item.channels, item.columns(frames, self.samples_per_frame)
            value = given.get(item.name)
            if value is None and item.name in drawn:
                value = torch.from_numpy(drawn[item.name]).to(mel.device).expand(shape)
            elif value is None and item != PHASE:
                raise ValueError(f"{type(self).__name__} needs {item.name} {shape}")
            if value is not None and value.shape != shape:
                raise ValueError(f"{item.name} must be {shape} for this mel, got {tuple(value.shape)}")
            values[item.name] = value
        return values


@lru_cache(maxsize=64)
def _measure(kind: type[Generator], config: Config, mel_config: MelConfig) -> int | None:
    """Measure the lookahead, None without streaming."""
    with torch.device("meta"):
        model = kind(config, mel_config).eval().to("meta")
    spf = model.samples_per_frame
    signals = [item for item in model.inputs if item.is_signal]
    constants = {
        item.name: None if item == PHASE else torch.empty(1, item.channels, 1, device="meta")
        for item in model.inputs
        if not item.is_signal
    }
    names = [item.name for item in signals]
    return measure_lookahead(
        lambda mel, *pieces: model.synthesize(mel, **dict(zip(names, pieces, strict=True)), **constants),
        [(mel_config.n_mels, 1), *((item.channels, item.columns(1, spf)) for item in signals)],
        spf,
    )


def check_upsampling(rates: tuple[int, ...], samples_per_frame: int) -> None:
    """Check that the upsampling rates multiply to the samples of a frame."""
    product = math.prod(rates)
    if product != samples_per_frame:
        listed = " x ".join(map(str, rates))
        raise VocoderError(
            f"the upsampling {listed} = {product} must equal the hop_length of the mel, {samples_per_frame} samples of "
            f"the audio"
        )


def upsampling_rates(product: int, largest: int) -> tuple[int, ...]:
    """Factorise ``product``, large factors first: up to ``largest`` if possible, else up to 16."""
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
