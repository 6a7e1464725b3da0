"""HiFT: iSTFTNet with a source of harmonics beside each upsampling (Li et al. 2023, arXiv 2309.09493, HiFTNet).

The vocoder of CosyVoice and chatterbox. F0 becomes nine sines and noise, mixed to one signal; its spectrogram, real and
imaginary parts, is brought to the rate of each stage of the trunk and added there. Blocks as in HiFi-GAN with Snake
activations, and at the end an inverse STFT of short windows.

Equal to the public implementation, FunAudioLLM/CosyVoice (Apache 2.0), on the F0 that its own predictor gives (see
``ConvF0Estimator``), both ends included, with three differences. Its sines start at random phases with the source of
CosyVoice 1, here at 0, as its source of CosyVoice 2 has them in effect. It draws noise for each of the nine sines,
which a linear layer then adds up; here one draw has the deviation of that sum. And phases are summed in float64 modulo
1, so that they stay exact in long audio.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.config import Config, Count, OddSize
from vocoders.dsp.harmonics import sample_phase
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT, reflect_pad
from vocoders.generators.base import Generator, check_upsampling, upsampling_rates
from vocoders.generators.hifigan import HiFiGANConfig, HiFiGANTrunk, ResBlock
from vocoders.generators.istftnet import fitting_istft_hop
from vocoders.nn.cpu_kernels import channels_together
from vocoders.nn.layers import Conv1d, HarmonicSource, Snake

_OUTER_KERNEL = 7
_LARGEST_MAGNITUDE = 100.0


class HiFTConfig(HiFiGANConfig):
    """Sizes of HiFT; the defaults are those of CosyVoice 2."""

    upsample_rates: tuple[Count, ...] = (8, 5, 3)
    upsample_kernel_sizes: tuple[Count, ...] = (16, 11, 7)
    source_resblock_kernel_sizes: tuple[OddSize, ...] = Field((7, 7, 11), description="one for each upsampling")
    source_resblock_dilations: tuple[tuple[Count, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    istft_hop: int = Field(4, gt=0, le=4096, description="samples; the window has four times as many")
    source: Literal[1, 2] = Field(
        2, description="1: F0 held in each frame, as in CosyVoice 1; 2: phase linear between their middles"
    )
    harmonics: Count = Field(8, description="sines above that of F0")
    sine_amplitude: float = Field(0.1, ge=0)
    noise_deviation: float = Field(0.003, ge=0, description="where voiced; elsewhere a third of sine_amplitude")
    voiced_threshold: float = Field(10.0, ge=0, description="Hz; frames of a higher F0 are voiced")
    audio_limit: float = Field(0.99, gt=0, description="largest magnitude of a sample")

    @model_validator(mode="after")
    def _a_source_for_each_upsampling(self) -> HiFTConfig:
        counts = len(self.source_resblock_kernel_sizes), len(self.source_resblock_dilations)
        if not self.upsample_rates or counts != (len(self.upsample_rates),) * 2:
            raise ValueError(
                f"{len(self.upsample_rates)} upsample_rates, at least one, need as many source_resblock_kernel_sizes "
                f"and source_resblock_dilations, got {counts[0]} and {counts[1]}"
            )
        return self

    def source_rate(self, stage: int) -> int:
        """Spectra of the source for each sample of a stage."""
        return math.prod(self.upsample_rates[stage + 1 :])


class HiFT(Generator):
    """HiFT generator. See the head of this file."""

    config_type = HiFTConfig
    configs: ClassVar[dict[str, Config]] = {
        "cosyvoice2": HiFTConfig(),
        "cosyvoice1": HiFTConfig(
            upsample_rates=(8, 8),
            upsample_kernel_sizes=(16, 16),
            source_resblock_kernel_sizes=(7, 11),
            source_resblock_dilations=((1, 3, 5), (1, 3, 5)),
            source=1,
        ),
        "chatterbox": HiFTConfig(source=1),
    }
    config: HiFTConfig
    uses_f0 = True
    uses_noise = True
    uses_weight_norm = True

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> HiFTConfig:
        hop = fitting_istft_hop(mel_config)
        rates = upsampling_rates(mel_config.hop_length // hop, 8) or (1,)
        return HiFTConfig(
            channels=max(512, 16 * 2 ** len(rates)),
            upsample_rates=rates,
            upsample_kernel_sizes=tuple(2 * rate + rate % 2 for rate in rates),
            source_resblock_kernel_sizes=(*[7] * (len(rates) - 1), 11),
            source_resblock_dilations=((1, 3, 5),) * len(rates),
            istft_hop=hop,
        )

    @classmethod
    def small_config(cls, mel_config: MelConfig) -> HiFTConfig:
        full = cls.config_for(mel_config)
        stages = len(full.upsample_rates)
        changes = {
            "channels": max(16, 2**stages),
            "resblock_kernel_sizes": (5,),
            "resblock_dilations": ((1, 3),),
            "source_resblock_kernel_sizes": (7,) * stages,
            "source_resblock_dilations": ((1, 3),) * stages,
            "harmonics": 3,
        }
        return HiFTConfig(**full.model_dump() | changes)

    def __init__(self, config: HiFTConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        check_upsampling((*config.upsample_rates, config.istft_hop), mel_config)
        self.source = HarmonicSource((0.0,) * (config.harmonics + 1), config.sine_amplitude, config.noise_deviation)
        self.stft = STFT(4 * config.istft_hop, config.istft_hop, padding="center")
        self.trunk = HiFTTrunk(config, mel_config.n_mels)
        self.conv_post = Conv1d(self.trunk.channels_out, self.stft.n_fft + 2, _OUTER_KERNEL, padding=_OUTER_KERNEL // 2)
        nn.init.trunc_normal_(self.conv_post.weight, std=0.01)

    @property
    def receptive_field(self) -> int:
        hop = self.config.istft_hop
        # Sample n is covered by the spectra whose window of 4 hops, centred on spectrum t at t * hop, holds it.
        first = math.ceil((0 - 2 * hop + 1) / hop) - _OUTER_KERNEL // 2
        last = math.floor((self.mel_config.hop_length - 1 + 2 * hop) / hop) + _OUTER_KERNEL // 2
        c, trunk = self.config, self.trunk
        reach = max(map(trunk.reach_of_block, c.resblock_kernel_sizes, c.resblock_dilations))
        reached: list[int] = []
        for stage in reversed(range(len(c.upsample_rates))):
            first, last = first - reach, last + reach
            spectra = trunk.spectra_behind(stage, first, last)
            reached += self.frames_behind(spectra[0] * hop - 2 * hop, spectra[1] * hop + 2 * hop - 1)
            before = stage == len(c.upsample_rates) - 1  # one sample was reflected to before the first
            first, last = trunk.inputs_behind(stage, first - before, last - before)
        reached += [first - _OUTER_KERNEL // 2, last + _OUTER_KERNEL // 2]
        return max(-min(reached), max(reached))

    def synthesize(self, mel: Tensor, f0: Tensor | None, noise: Tensor | None, phase: Tensor | None) -> Tensor:
        assert f0 is not None
        assert noise is not None
        spectrum = self.stft(self.source_signal(f0, noise, phase).squeeze(1))
        x = self.trunk(mel, channels_together(torch.cat([spectrum.real, spectrum.imag], dim=1)))
        magnitude, angle = self.conv_post(x).float().chunk(2, dim=1)
        spectrum = torch.polar(magnitude.exp().clamp_max(_LARGEST_MAGNITUDE), angle.sin())
        limit = self.config.audio_limit
        return self.stft.inverse(spectrum).clamp(-limit, limit).unsqueeze(1)

    def source_signal(self, f0: Tensor, noise: Tensor, phase: Tensor | None) -> Tensor:
        """Compute the source, float32 (batch, 1, samples) in (-1, 1); arguments as for ``Generator.forward``."""
        signal: Tensor = self.source(self.cycles(f0, phase), f0 > self.config.voiced_threshold, noise)
        return signal

    def cycles(self, f0: Tensor, phase: Tensor | None) -> Tensor:
        """Return the phase of the first sine at each sample, float64 (batch, 1, frames, hop_length), in cycles."""
        if f0.device.type == "mps":  # has no float64
            f0, phase = f0.cpu(), None if phase is None else phase.cpu()
        if self.config.source == 1:
            return sample_phase(f0, self.mel_config, phase)
        hop = self.mel_config.hop_length
        ends = (f0.double() * hop / self.mel_config.sample_rate).cumsum(-1)
        ends = ends if phase is None else ends + phase
        # The phase at the end of a frame stands in its middle, and is interpolated from middle to middle; before the
        # first one and after the last one it stays as it is.
        before, here, after = _neighbours(ends)
        sample = torch.arange(hop, dtype=torch.float64, device=f0.device)
        place = (2 * sample + 1 - hop) / (2 * hop)  # from the middle of the frame, in frames
        return here + place.clamp_max(0) * (here - before) + place.clamp_min(0) * (after - here)

    def frames_behind(self, first: int, last: int) -> tuple[int, int]:
        """The first and last frame that the samples ``first`` to ``last`` depend on."""
        hop = self.mel_config.hop_length
        if self.config.source == 1:
            return first // hop, last // hop
        return (2 * first + 1 - hop) // (2 * hop), -(-(2 * last + 1 - hop) // (2 * hop))


class SnakeResBlock(ResBlock):
    """Dilated residual convolutions with Snake activations, (batch, channels, samples) -> the same."""

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...], kind: int) -> None:
        super().__init__(channels, kernel_size, dilations, kind)
        self.activations1 = nn.ModuleList(Snake(channels) for _ in self.convs1)
        self.activations2 = nn.ModuleList(Snake(channels) for _ in self.convs2)

    def forward(self, x: Tensor) -> Tensor:
        for i, conv in enumerate(self.convs1):
            y = conv(self.activations1[i](x))
            if self.convs2:
                y = self.convs2[i](self.activations2[i](y))
            x = x + y
        return x


class HiFTTrunk(HiFiGANTrunk):
    """The trunk of HiFi-GAN with Snake activations in its blocks, and a source beside each upsampling.

    One sample is reflected before the first after the last upsampling, so that it gives frames * product + 1 spectra.
    """

    config: HiFTConfig

    def __init__(self, config: HiFTConfig, n_mels: int) -> None:
        super().__init__(config, n_mels)
        self.source_downs = nn.ModuleList()
        self.source_resblocks = nn.ModuleList()
        sizes = zip(config.source_resblock_kernel_sizes, config.source_resblock_dilations, strict=True)
        for stage, (size, dilations) in enumerate(sizes):
            channels, rate = config.channels // 2 ** (stage + 1), config.source_rate(stage)
            kernel, padding = (2 * rate, rate // 2) if rate > 1 else (1, 0)
            self.source_downs.append(Conv1d(4 * config.istft_hop + 2, channels, kernel, rate, padding))
            self.source_resblocks.append(SnakeResBlock(channels, size, dilations, config.resblock))
        for module in self.source_resblocks.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.trunc_normal_(module.weight, std=0.01)

    def block(self, channels: int, kernel_size: int, dilations: tuple[int, ...]) -> nn.Module:
        return SnakeResBlock(channels, kernel_size, dilations, self.config.resblock)

    def add_source(self, stage: int, x: Tensor, source: Tensor | None) -> Tensor:
        """Add the spectra of the source, (batch, 4 * istft_hop + 2, frames * product + 1)."""
        assert source is not None
        if stage == len(self.ups) - 1:
            x = reflect_pad(x.transpose(1, 2), 1, 0, 1).transpose(1, 2)  # its channels stay together
        return x + self.source_resblocks[stage](self.source_downs[stage](source))

    def spectra_behind(self, stage: int, first: int, last: int) -> tuple[int, int]:
        """The first and last spectrum of the source that the samples ``first`` to ``last`` of a stage depend on."""
        c, rate = self.config, self.config.source_rate(stage)
        reach = self.reach_of_block(c.source_resblock_kernel_sizes[stage], c.source_resblock_dilations[stage])
        first, last = first - reach, last + reach
        if rate == 1:
            return first, last
        return first * rate - rate // 2, last * rate - rate // 2 + 2 * rate - 1


def _neighbours(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each column the one before, itself and the one after, (..., columns, 1); the ends are repeated."""
    windows = F.pad(x, (1, 1), mode="replicate").unfold(-1, 3, 1)
    before, here, after = windows.split(1, dim=-1)
    return before, here, after
