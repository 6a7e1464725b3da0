"""Estimators of F0 from a log-mel, stored in the checkpoint beside the generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from vocoders.config import Channels, Config, Count, OddSize, build
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import float32_weights
from vocoders.errors import VocoderError
from vocoders.inputs import F0
from vocoders.nn.layers import ConvNeXtBlock1d, PaddedConv1d
from vocoders.streaming.lookahead import measure_lookahead

_CONV_LAYERS = 5  # of ConvF0Estimator
_CONV_KERNEL = 3


class BaseF0Estimator(nn.Module, ABC):
    """A network that estimates F0 from a log-mel. A new kind is a subclass, and one line in ``F0_ESTIMATORS``.

    Attributes:
        config_type: the class of its configuration.
        estimates: name of the input that it estimates.
    """

    config_type: ClassVar[type[Config]]
    estimates: ClassVar[str] = F0.name

    def __init__(self, config: Config, mel_config: MelConfig) -> None:
        super().__init__()
        self.config = config
        self.mel_config = mel_config

    @property
    @abstractmethod
    def context(self) -> int:
        """Past frames that an estimate depends on."""

    @cached_property
    def lookahead(self) -> int:
        """Future frames that an estimate depends on; stored in checkpoints."""
        return _measure(type(self), self.config, self.mel_config)

    @abstractmethod
    def estimate(self, mel: Tensor) -> Tensor:
        """Estimate F0.

        Args:
            mel: log-mel (batch, n_mels, frames), on any device.

        Returns:
            float32 (batch, 1, frames) in Hz on the mel's device; 0, or too low for the generator, where unvoiced.
        """


@lru_cache(maxsize=64)
def _measure(kind: type[BaseF0Estimator], config: Config, mel_config: MelConfig) -> int:
    """Measure the lookahead."""
    with torch.device("meta"):
        estimator = kind(config, mel_config).eval().to("meta")
    lookahead = measure_lookahead(estimator.estimate, [(mel_config.n_mels, 1)])
    if lookahead is None:
        raise VocoderError(f"{kind.__name__} cannot be evaluated piece by piece, which every F0 estimator must")
    return lookahead


class F0EstimatorConfig(Config):
    """Size of an F0Estimator, and its range of F0."""

    channels: Channels = 96
    blocks: Count = 6
    expansion: Count = 2
    kernel_size: OddSize = 7
    bins_per_octave: int = Field(48, ge=12, le=1200)
    bins: int = Field(212, gt=0, le=12000, description="48 an octave from 55 Hz: up to 1163 Hz")
    fmin: float = Field(55.0, gt=0, le=1000, description="Hz")
    voicing_threshold: float = Field(0.5, description="logit above which a frame is voiced")


class F0Estimator(BaseF0Estimator):
    """Estimates F0 and voicing from a log-mel with a ConvNeXt over frames.

    Classifies over log-spaced frequencies, as CREPE does from audio (Kim et al. 2018, arXiv 1802.06182).
    """

    config_type = F0EstimatorConfig
    config: F0EstimatorConfig
    frequencies: Tensor

    def __init__(self, config: F0EstimatorConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        self.input = nn.Conv1d(mel_config.n_mels, config.channels, 5, padding=2)
        self.input_norm = nn.LayerNorm(config.channels)
        self.blocks = nn.Sequential(
            *(
                ConvNeXtBlock1d(config.channels, config.expansion, config.kernel_size, 1 / config.blocks)
                for _ in range(config.blocks)
            )
        )
        self.output_norm = nn.LayerNorm(config.channels)
        self.output = nn.Linear(config.channels, config.bins + 1)
        frequencies = config.fmin * 2.0 ** (np.arange(config.bins) / config.bins_per_octave)
        self.register_buffer("frequencies", torch.from_numpy(frequencies).float(), persistent=False)

    @property
    def context(self) -> int:
        return 2 + self.config.blocks * (self.config.kernel_size // 2)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits of each frame, in float32 at least.

        Args:
            mel: log-mel (batch, n_mels, frames).

        Returns:
            Logits of F0 (batch, bins, frames) and of voicing (batch, 1, frames).
        """
        x = self.input(mel / 4 + 1)
        x = self.input_norm(x.transpose(1, 2)).transpose(1, 2)
        x = self.output(self.output_norm(self.blocks(x).transpose(1, 2))).transpose(1, 2)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return x[:, :-1], x[:, -1:]

    def decode(self, logits: Tensor, voicing: Tensor) -> Tensor:
        """Decode logits to F0: the mean of log-F0 over the bins within a semitone and a half of the most likely one.

        Args:
            logits: of F0 (batch, bins, frames).
            voicing: logits (batch, 1, frames).

        Returns:
            (batch, 1, frames) in Hz, 0 where unvoiced.
        """
        best = logits.argmax(1, keepdim=True)
        reach = self.config.bins_per_octave // 8
        index = torch.arange(self.config.bins, device=logits.device)[None, :, None]
        near = (index - best).abs() <= reach
        weight = torch.where(near, logits, torch.full_like(logits, -torch.inf)).softmax(1)
        f0 = (weight * self.frequencies.log()[None, :, None]).sum(1, keepdim=True).exp()
        return torch.where(voicing > self.config.voicing_threshold, f0, torch.zeros_like(f0))

    def estimate(self, mel: Tensor) -> Tensor:
        return self.decode(*self(mel.to(self.frequencies))).float().to(mel.device)


class ConvF0EstimatorConfig(Config):
    """Size of a ConvF0Estimator; the default is the published one."""

    channels: Channels = 512
    causal: bool = Field(False, description="as in CosyVoice 3: 3 frames ahead in the first layer, none in the others")


class ConvF0Estimator(BaseF0Estimator):
    """The F0 predictor of HiFT: five convolutions over frames, and F0 as the magnitude of a linear layer.

    ``ConvRNNF0Predictor`` of FunAudioLLM/CosyVoice (Apache 2.0), and its causal variant. It has no voicing: ``HiFT``
    treats F0 up to 10 Hz as unvoiced, and continues the phase.
    """

    config_type = ConvF0EstimatorConfig
    config: ConvF0EstimatorConfig

    def __init__(self, config: ConvF0EstimatorConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        channels = [mel_config.n_mels, *[config.channels] * (_CONV_LAYERS - 1)]
        self.convs = nn.ModuleList(_conv(size, config, first=i == 0) for i, size in enumerate(channels))
        self.activation = nn.ELU()
        self.output = nn.Linear(config.channels, 1)

    @property
    def context(self) -> int:
        return (_CONV_LAYERS - 1) * (_CONV_KERNEL - 1) if self.config.causal else _CONV_LAYERS * (_CONV_KERNEL // 2)

    def estimate(self, mel: Tensor) -> Tensor:
        x = mel.to(self.output.weight)
        for conv in self.convs:
            x = self.activation(conv(x))
        f0: Tensor = self.output(x.transpose(1, 2)).transpose(1, 2)
        return f0.abs().float().to(mel.device)


def _conv(in_channels: int, config: ConvF0EstimatorConfig, first: bool) -> nn.Conv1d:
    if not config.causal:
        return nn.Conv1d(in_channels, config.channels, _CONV_KERNEL, padding=_CONV_KERNEL // 2)
    size, pads = (_CONV_KERNEL + 1, (0, _CONV_KERNEL)) if first else (_CONV_KERNEL, (_CONV_KERNEL - 1, 0))
    return PaddedConv1d(in_channels, config.channels, size, pads)


_DEFAULT = "convnext"
F0_ESTIMATORS: dict[str, type[BaseF0Estimator]] = {_DEFAULT: F0Estimator, "conv": ConvF0Estimator}


def describe_f0_estimator(estimator: BaseF0Estimator) -> dict[str, Any]:
    """Return the argument of ``build_f0_estimator``."""
    kind = next(name for name, kind in F0_ESTIMATORS.items() if kind is type(estimator))
    return ({} if kind == _DEFAULT else {"kind": kind}) | estimator.config.model_dump(mode="json")


@float32_weights()
def build_f0_estimator(description: dict[str, Any], mel_config: MelConfig) -> BaseF0Estimator:
    """Build a freshly initialised F0 estimator.

    Args:
        description: its configuration as a dict, and optionally "kind", a key of ``F0_ESTIMATORS``.
        mel_config: the mel config of its input.

    Raises:
        VocoderError: when the kind is unknown or the configuration invalid.
    """
    values = dict(description)
    kind = values.pop("kind", _DEFAULT)
    estimator: BaseF0Estimator = build(F0_ESTIMATORS, "f0_estimator", kind, values, mel_config)
    return estimator
