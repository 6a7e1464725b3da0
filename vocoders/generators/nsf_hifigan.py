"""NSF-HiFiGAN: HiFi-GAN with a source of sines at F0, as DiffSinger and OpenUtau use it (openvpi/SingingVocoders).

The source "harmonics" mixes nine sines and noise (Wang et al. 2019, arXiv 1904.12088) and enters every stage. The
source "fundamental", openvpi's mini_nsf, is one gliding sine, also where F0 is 0, added after the second upsampling.

Equal to openvpi/SingingVocoders (MIT) except for fixed initial phases, one noise draw with the deviation of the mixed
nine, and phases summed in float64. openvpi trains with F0 interpolated through unvoiced frames, taken at a frame's
first sample.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vocoders.config import Config, Count
from vocoders.dsp.harmonics import glide_share, gliding_phase, sample_phase
from vocoders.dsp.mel import MelConfig
from vocoders.generators.base import Generator, check_upsampling
from vocoders.generators.hifigan import HiFiGANConfig, HiFiGANTrunk, sizes_for
from vocoders.inputs import F0, NOISE, PHASE, Input
from vocoders.nn.layers import Conv1d, HarmonicSource

INITIAL_PHASES = (0.0, 0.64, 0.27, 0.04, 0.02, 0.81, 0.91, 0.61, 0.73)  # cycles; all but the first drawn once
_OUTER_KERNEL = 7  # last convolution
_SINE_STAGE = 1  # stage of the source "fundamental"


class NSFHiFiGANConfig(HiFiGANConfig):
    """Sizes of NSF-HiFiGAN; the defaults are those of openvpi's models for 44.1 kHz."""

    upsample_rates: tuple[Count, ...] = (8, 8, 2, 2, 2)
    upsample_kernel_sizes: tuple[Count, ...] = (16, 16, 4, 4, 4)
    source: Literal["harmonics", "fundamental"] = Field(
        "harmonics", description="nine sines and noise at all stages, or one sine at the second"
    )

    @model_validator(mode="after")
    def _a_stage_for_the_sine(self) -> NSFHiFiGANConfig:
        if self.source == "fundamental" and len(self.upsample_rates) <= _SINE_STAGE:
            raise ValueError(f"the source 'fundamental' needs two upsample_rates or more, got {self.upsample_rates}")
        return self


class NSFHiFiGAN(Generator):
    """NSF-HiFiGAN generator."""

    config_type = NSFHiFiGANConfig
    configs: ClassVar[dict[str, Config]] = {
        "v1": NSFHiFiGANConfig(),
        "mini": NSFHiFiGANConfig(source="fundamental"),
    }
    config: NSFHiFiGANConfig
    inputs: tuple[Input, ...] = (F0, NOISE, PHASE)
    uses_weight_norm = True

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> NSFHiFiGANConfig:
        return NSFHiFiGANConfig(**sizes_for(mel_config))

    def __init__(self, config: NSFHiFiGANConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        check_upsampling(config.upsample_rates, self.samples_per_frame)
        self.trunk = NSFHiFiGANTrunk(config, mel_config.n_mels)
        self.conv_post = Conv1d(self.trunk.channels_out, 1, _OUTER_KERNEL, padding=_OUTER_KERNEL // 2)
        self.source: HarmonicSource | SineSource
        if config.source == "fundamental":
            self.source = SineSource(mel_config, math.prod(config.upsample_rates[: _SINE_STAGE + 1]))
            self.inputs, self.next_f0_share = (F0, PHASE), glide_share(self.source.samples)
        else:
            self.source = HarmonicSource(INITIAL_PHASES)

    @property
    def context(self) -> int:
        return self.trunk.frames_around(self.mel_config.hop_length, _OUTER_KERNEL // 2)

    def synthesize(self, mel: Tensor, f0: Tensor, phase: Tensor | None, noise: Tensor | None = None) -> Tensor:
        if isinstance(self.source, SineSource):
            source = self.source(f0, phase)
        else:
            source = self.source(sample_phase(f0, self.mel_config, phase), f0 > 0, noise)
        x = self.trunk(mel, source)
        return torch.tanh(self.conv_post(x).float())


class NSFHiFiGANTrunk(HiFiGANTrunk):
    """HiFi-GAN's trunk with a source after each upsampling, or after one."""

    config: NSFHiFiGANConfig

    def __init__(self, config: NSFHiFiGANConfig, n_mels: int) -> None:
        super().__init__(config, n_mels)
        self.source_convs = nn.ModuleDict()
        if config.source == "fundamental":
            conv = Conv1d(1, config.channels // 2 ** (_SINE_STAGE + 1), 1)
            nn.init.trunc_normal_(conv.weight, std=0.01)
            self.source_convs[str(_SINE_STAGE)] = conv
            return
        for stage in range(len(config.upsample_rates)):
            stride = math.prod(config.upsample_rates[stage + 1 :])
            # An odd stride needs one more sample for the same length.
            kernel, padding = (2 * stride, (stride + 1) // 2) if stride > 1 else (1, 0)
            self.source_convs[str(stage)] = Conv1d(1, config.channels // 2 ** (stage + 1), kernel, stride, padding)

    def add_source(self, stage: int, x: Tensor, source: Tensor | None) -> Tensor:
        """Add the source (batch, 1, samples), at the audio's or ("fundamental") the stage's rate."""
        return x + self.source_convs[str(stage)](source) if str(stage) in self.source_convs else x


class SineSource(nn.Module):
    """A sine whose frequency glides to the next frame's F0, ``samples`` per frame."""

    def __init__(self, mel_config: MelConfig, samples: int) -> None:
        super().__init__()
        self.mel_config = mel_config
        self.samples = samples

    def forward(self, f0: Tensor, phase: Tensor | None) -> Tensor:
        """F0 (batch, 1, frames) in Hz -> float32 (batch, 1, frames * samples)."""
        cycles = gliding_phase(f0, self.mel_config, self.samples, phase)
        turns = (cycles - cycles.round()).float().to(f0.device)
        return torch.sin(2 * math.pi * turns).flatten(-2)
