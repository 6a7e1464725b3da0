"""HiFT: iSTFTNet with a source of harmonics beside each upsampling (Li et al. 2023, arXiv 2309.09493, HiFTNet).

The vocoder of CosyVoice and chatterbox. Nine sines and noise, mixed to one signal, enter each stage as a spectrogram.

Equal to FunAudioLLM/CosyVoice (Apache 2.0) on the F0 of ``ConvF0Estimator``, with three differences. Sines start at
phase 0 (CosyVoice 1: random). One noise draw has the mean and deviation of the mixed nine (CosyVoice 3: uniform in
(0, 1), drawn once). Phases are summed in float64, exact in long audio.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vocoders.config import Config
from vocoders.dsp.harmonics import sample_phase
from vocoders.dsp.mel import MelConfig
from vocoders.dsp.stft import STFT
from vocoders.generators.base import Generator, check_upsampling, upsampling_rates
from vocoders.generators.hifigan import depends_on
from vocoders.generators.hift_trunk import CausalHiFTTrunk, HiFTConfig, HiFTTrunk
from vocoders.generators.istftnet import fitting_istft_hops
from vocoders.inputs import F0, NOISE, PHASE
from vocoders.nn.fast import channels_together
from vocoders.nn.layers import HarmonicSource, PaddedConv1d

_OUTER_KERNEL = 7
_LARGEST_MAGNITUDE = 100.0


class HiFT(Generator):
    """HiFT generator."""

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
        "cosyvoice3": HiFTConfig(source=3, causal=True),
    }
    config: HiFTConfig
    inputs = (F0, NOISE, PHASE)
    uses_weight_norm = True

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> HiFTConfig:
        hop = fitting_istft_hops(mel_config)[0]
        rates = upsampling_rates(mel_config.hop_length // hop, 8) or (1,)
        return HiFTConfig(
            channels=max(512, 16 * 2 ** len(rates)),
            upsample_rates=rates,
            upsample_kernel_sizes=tuple(2 * rate + rate % 2 for rate in rates),
            source_resblock_kernel_sizes=(*[7] * (len(rates) - 1), 11),
            source_resblock_dilations=((1, 3, 5),) * len(rates),
            istft_hop=hop,
        )

    def __init__(self, config: HiFTConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        check_upsampling((*config.upsample_rates, config.istft_hop), self.samples_per_frame)
        self.source = HarmonicSource(
            (0.0,) * (config.harmonics + 1), config.sine_amplitude, config.noise_deviation, config.source == 3
        )
        self.stft = STFT(4 * config.istft_hop, config.istft_hop, padding="center")
        self.trunk = (CausalHiFTTrunk if config.causal else HiFTTrunk)(config, mel_config.n_mels)
        pads = (_OUTER_KERNEL - 1, 0) if config.causal else (_OUTER_KERNEL // 2,) * 2
        self.conv_post = PaddedConv1d(self.trunk.channels_out, self.stft.n_fft + 2, _OUTER_KERNEL, pads)

    @property
    def context(self) -> int:
        trunk, hop = self.trunk, self.config.istft_hop
        # Sample n depends on the spectra whose window of 4 hops, centred on t * hop, covers it.
        first = math.ceil((0 - 2 * hop + 1) / hop)
        last = math.floor((self.mel_config.hop_length - 1 + 2 * hop) / hop)
        first, last = self.conv_post.depends_on(first, last)
        reached: list[int] = []
        for stage in reversed(range(len(trunk.ups))):
            first, last = depends_on(trunk.resblocks[stage], first, last)
            spectra = depends_on([trunk.source_resblocks[stage]], first, last)
            spectra = depends_on([trunk.source_downs[stage]], *spectra)
            reached += self.frames_of(spectra[0] * hop - 2 * hop, spectra[1] * hop + 2 * hop - 1)
            before = stage == len(trunk.ups) - 1  # the reflected sample
            first, last = depends_on([trunk.ups[stage]], first - before, last - before)
        reached += trunk.conv_pre.depends_on(first, last)
        return max(-min(reached), max(reached))

    def synthesize(self, mel: Tensor, f0: Tensor, noise: Tensor, phase: Tensor | None) -> Tensor:
        spectrum = self.stft(self.source_signal(f0, noise, phase).squeeze(1))
        x = self.trunk(mel, channels_together(torch.cat([spectrum.real, spectrum.imag], dim=1)))
        magnitude, angle = self.conv_post(x).float().chunk(2, dim=1)
        spectrum = torch.polar(magnitude.exp().clamp_max(_LARGEST_MAGNITUDE), angle.sin())
        limit = self.config.audio_limit
        return self.stft.inverse(spectrum).clamp(-limit, limit).unsqueeze(1)

    def source_signal(self, f0: Tensor, noise: Tensor, phase: Tensor | None) -> Tensor:
        """Compute the source, float32 (batch, 1, samples) in (-1, 1)."""
        signal: Tensor = self.source(self.cycles(f0, phase), f0 > self.config.voiced_threshold, noise)
        return signal

    def cycles(self, f0: Tensor, phase: Tensor | None) -> Tensor:
        """Return the first sine's phase, float64 (batch, 1, frames, hop_length), in cycles."""
        if f0.device.type == "mps":  # has no float64
            f0, phase = f0.cpu(), None if phase is None else phase.cpu()
        if self.config.source == 1:
            return sample_phase(f0, self.mel_config, phase)
        hop = self.mel_config.hop_length
        ends = (f0.double() * hop / self.mel_config.sample_rate).cumsum(-1)
        ends = ends if phase is None else ends + phase
        if self.config.source == 3:
            return ends.unsqueeze(-1).expand(-1, -1, -1, hop)
        # A frame's final phase lies at its middle and is interpolated, constant beyond the outer middles.
        before, here, after = _neighbours(ends)
        sample = torch.arange(hop, dtype=torch.float64, device=f0.device)
        place = (2 * sample + 1 - hop) / (2 * hop)  # frames from the middle
        return here + place.clamp_max(0) * (here - before) + place.clamp_min(0) * (after - here)

    def frames_of(self, first: int, last: int) -> tuple[int, int]:
        """Return the frames that the source's samples ``first`` to ``last`` depend on."""
        hop = self.mel_config.hop_length
        if self.config.source != 2:
            return first // hop, last // hop
        return (2 * first + 1 - hop) // (2 * hop), -(-(2 * last + 1 - hop) // (2 * hop))


def _neighbours(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each column's predecessor, itself and its successor, (..., columns, 1), ends repeated."""
    windows = F.pad(x, (1, 1), mode="replicate").unfold(-1, 3, 1)
    before, here, after = windows.split(1, dim=-1)
    return before, here, after
