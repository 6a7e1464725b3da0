"""The contract of all generators, and what several of them share."""

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

    Frame t becomes the samples t * hop_length ... (t + 1) * hop_length, with its middle in their middle. A "center"
    mel config places frame t at sample t * hop_length of a recording: the audio is then half a hop late.

    A new generator is one file with a subclass, and one line in ``GENERATORS``: the class states everything that
    training, streaming, export, the command line and the tests need to know of it.

    Attributes:
        config_type: the class of its configuration.
        configs: its published sizes by name; the first one is the default.
        output_names: the keys of what ``outputs`` returns.
        own_loss_names: the keys of what ``own_losses`` returns.
        inputs: what it takes beside the mel; ``synthesize`` has exactly these parameters. An instance may narrow it.
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
    def samples_per_frame(self) -> int:
        """Samples of audio that a frame becomes."""
        return self.mel_config.hop_length

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio in Hz."""
        return self.mel_config.sample_rate

    @property
    def channels(self) -> int:
        """Channels of the audio."""
        return 1

    @property
    @abstractmethod
    def context(self) -> int | None:
        """Frames before a frame that its audio depends on, or one more; None when it depends on the whole utterance."""

    @cached_property
    def lookahead(self) -> int | None:
        """Frames that must follow a frame in a stream before its audio is final; None when it cannot stream.

        It is measured on the device "meta", and stored in checkpoints.
        """
        return None if self.context is None else _measure(type(self), self.config, self.mel_config)

    @abstractmethod
    def synthesize(self, mel: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Do the work of ``forward``: its parameters are the mel and each of ``inputs`` by name.

        Streams evaluate it piece by piece; docs/streaming.md lists the operations it may use.

        Args:
            mel: (batch, n_mels, frames), in the mel config ``mel_config``, at least one frame.
            args: (batch, channels, length) for each input; the phase may be None, which is 0.
            kwargs: see ``args``.

        Returns:
            float32 (batch, ``channels``, frames * ``samples_per_frame``), nominally in [-1, 1].
        """

    def forward(self, mel: Tensor, *, seed: int = 0, **given: Tensor | None) -> Tensor:
        """Turn a log-mel into audio.

        Args:
            mel: (batch, n_mels, frames), in the mel config ``mel_config``, at least one frame.
            seed: of the noise, which is the same for every item of the batch, so that an item sounds as it would alone.
            given: inputs by name, (batch, channels, length). Noise is drawn where it is not given, and the phase is 0.

        Returns:
            As ``synthesize``.

        Raises:
            ValueError: when a shape does not fit, or an input is missing or unknown.
        """
        return self.synthesize(mel, **self.fill(mel, given, seed))

    def outputs(self, mel: Tensor, draws: Sequence[Mapping[str, Tensor | None]] = ({},)) -> dict[str, list[Tensor]]:
        """Return what training compares with recordings, for several draws of noise.

        Args:
            mel: as for ``forward``.
            draws: the inputs of each draw, as for ``forward``; they differ in the noise alone.

        Returns:
            For each name of ``output_names`` one tensor of audio a draw; "audio" is what ``forward`` returns.

        Raises:
            ValueError: as for ``forward``.
        """
        return {"audio": [self(mel, **given) for given in draws]}

    def own_losses(self, mel: Tensor, exact: Tensor, outputs: dict[str, list[Tensor]]) -> dict[str, Tensor]:
        """Return the losses that only this architecture has, float32 scalars by names of ``own_loss_names``.

        Args:
            mel: what the generator is given, (batch, n_mels, frames); smoothed, where the recipe says so.
            exact: the mel of the recordings, of the same shape.
            outputs: what ``outputs`` has made of ``mel``.
        """
        return {}

    def fill(self, mel: Tensor, given: Mapping[str, Tensor | None], seed: int = 0) -> dict[str, Tensor | None]:
        """Check the arguments of ``forward`` and return all inputs by name.

        Raises:
            ValueError: as for ``forward``.
        """
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
    """Measure the lookahead of a generator; None when it cannot stream."""
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
