"""Multi-stream Wavehax: Wavehax over learned streams, for low latency (Yoneyama et al. 2025, arXiv 2506.03554).

Learned filter banks split the prior into streams at a lower rate and join the results. Follows chomeyama/wavehax (MIT).
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.config import Channels, Config, Count, FFTSize, OddSize
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT, reflect_pad
from vocoders.errors import VocoderError
from vocoders.generators.base import Generator
from vocoders.generators.wavehax import PROJECTION_KERNEL, initialize, wavehax_prior
from vocoders.inputs import F0, NOISE, PHASE
from vocoders.nn.layers import ConvNeXtBlock2d, ConvNeXtBlocks2d, LayerNorm2d, Standardize

_TAPS = 63  # of the filter banks


class MultiStreamWavehaxConfig(Config):
    """Sizes of multi-stream Wavehax; the defaults are the published ones, for hop 240 at 24 kHz."""

    streams: Count = 4
    n_fft: FFTSize = Field(120, description="samples of a stream, twice its hop at least")
    channels: Channels = 64
    blocks: Count = 8
    expansion: Count = 2
    kernel_size: tuple[OddSize, OddSize] = Field((7, 7), description="(bins, frames)")
    framewise_norm: bool = Field(True, description="normalise each frame on its own: bounded context, streaming")


class MultiStreamWavehax(Generator):
    """Multi-stream Wavehax generator."""

    config_type = MultiStreamWavehaxConfig
    configs: ClassVar[dict[str, Config]] = {"v1": MultiStreamWavehaxConfig()}
    config: MultiStreamWavehaxConfig
    inputs = (F0, NOISE, PHASE)

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> MultiStreamWavehaxConfig:
        hop = mel_config.hop_length
        streams = next((count for count in (4, 3, 2, 5) if hop % count == 0), 1)
        return MultiStreamWavehaxConfig(streams=streams, n_fft=2 * hop // streams)

    def __init__(self, config: MultiStreamWavehaxConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        hop, rest = divmod(mel_config.hop_length, config.streams)
        if rest or config.n_fft < 2 * hop:
            raise VocoderError(
                f"{config.streams} streams must divide the hop_length of the mel, {mel_config.hop_length}, and n_fft "
                f"be at least twice the hop of a stream; got n_fft {config.n_fft}"
            )
        bins = config.n_fft // 2 + 1
        self.standardize = Standardize(mel_config.n_mels)
        self.stft = STFT(config.n_fft, hop, padding="same-zeros")
        self.split = nn.Conv1d(1, config.streams, _TAPS, stride=config.streams, bias=False)
        self.join = nn.Conv1d(config.streams, 1, _TAPS, bias=False)
        self.cond_proj = nn.Conv1d(mel_config.n_mels, config.streams * bins, PROJECTION_KERNEL)
        self.input_proj = nn.Linear(3 * config.streams, config.channels, bias=False)
        self.input_norm = LayerNorm2d(config.channels, config.framewise_norm)
        scale = 1 / config.blocks
        self.blocks = ConvNeXtBlocks2d(
            *(
                ConvNeXtBlock2d(
                    config.channels, config.expansion, config.kernel_size, scale, framewise=config.framewise_norm
                )
                for _ in range(config.blocks)
            )
        )
        self.output_norm = LayerNorm2d(config.channels, config.framewise_norm)
        self.output_proj = nn.Linear(config.channels, 2 * config.streams)
        self.apply(initialize)

    @property
    def context(self) -> int | None:
        if not self.config.framewise_norm:
            return None
        filters = (_TAPS // 2) / self.mel_config.hop_length  # frames per side of both filter banks
        transform = (self.config.n_fft / self.stft.hop_length - 1) / 2
        conditioned = max(math.ceil(filters + transform), PROJECTION_KERNEL // 2)
        blocks = self.config.blocks * (self.config.kernel_size[1] // 2)
        return conditioned + blocks + math.ceil(transform + filters)

    def set_statistics(self, mel: Tensor) -> None:
        self.standardize.fit(mel)

    def synthesize(self, mel: Tensor, f0: Tensor, noise: Tensor, phase: Tensor | None) -> Tensor:
        streams, taps = self.config.streams, _TAPS // 2
        with torch.no_grad():
            prior = wavehax_prior(f0, noise, phase, self.mel_config)
        split = self.split(reflect_pad(prior, taps, taps))
        spectra = torch.view_as_real(self.stft(split))  # (batch, streams, bins, frames, 2)
        reach = PROJECTION_KERNEL // 2
        cond = self.cond_proj(reflect_pad(self.standardize(mel), reach, reach)).unflatten(1, (streams, -1))
        maps = torch.cat([cond.unsqueeze(-1), spectra], dim=-1)  # (batch, streams, bins, frames, 3)
        # Published channel order: all conditions, then real and imaginary part per stream.
        cond, spectra = maps[..., :1], maps[..., 1:]
        x = torch.cat([m.permute(0, 3, 2, 1, 4).flatten(3) for m in (cond, spectra)], dim=-1)
        x = self.blocks(self.input_norm(self.input_proj(x)))
        x = self.output_proj(self.output_norm(x)).float().unflatten(-1, (streams, 2))
        spectrum = torch.view_as_complex(x.contiguous())  # (batch, frames, bins, streams)
        audio = self.stft.inverse(spectrum.permute(0, 3, 2, 1))  # (batch, streams, samples / streams)
        # Insert zeros up to the full rate.
        stuffed = F.pad((audio * streams).unsqueeze(-1), (0, streams - 1)).flatten(-2)
        return self.join(reflect_pad(stuffed, taps, taps)).float()
