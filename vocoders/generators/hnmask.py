"""HNMask: a harmonic-plus-noise model whose two sources are shaped by complex masks.

Our own relative of Wavehax (Yoneyama et al. 2024, arXiv 2411.06807):

    Y = E (a H + b N)

H and N are the spectrograms of a harmonic and of a white-noise prior of unit power, E the spectral envelope of the mel.
Only the complex masks a and b, near 1 in magnitude, are learned.

       mel, F0 --> backbone (1-D, frame rate) --> maps --+
                                                         +--> trunk (2-D) --> a, b --> Y --> mel projection --> audio
       F0 --> harmonic prior --> H ----------------------+                    ^
       noise prior --> N -----------------------------------------------------+

The trunk does not see N: spectral losses would teach it to smooth the noise, heard as buzz. The mel projection scales
the spectrogram by what its mel lacks.

``adaptive_projection``: a small network, trained on smoothed mels, weakens the projection where the mel is wrong.
``free_pitch``: F0 may differ from that of the mel, to transpose a voice and keep its formants. The backbone corrects E,
and a network that compares both mels, trained on moved harmonics, sets the projection's strength per band.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.config import Channels, Config, Count, FFTSize, OddSize
from vocoders.dsp.adaptation import envelope_interpolation
from vocoders.dsp.harmonics import harmonic_prior
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MelConfig, bin_frequencies, mel_filter_bank
from vocoders.dsp.stft import STFT, full_precision
from vocoders.generators.base import Generator
from vocoders.inputs import F0, NOISE, PHASE
from vocoders.nn.layers import ConvNeXtBlock1d, ConvNeXtBlock2d, ConvNeXtBlocks2d

_FADE = 0.001  # seconds; avoids clicks at cut ends
_OVERSHOOT = 1.4  # overlapping windows weaken the gain of the projection
_TOLERANCE = 0.25  # nepers; the error of mels smoothed "mild"


class HNMaskConfig(Config):
    """Sizes of HNMask; ``recipes/models/hnmask.yaml`` has those of the built-in models."""

    n_fft: FFTSize = Field(512, description="samples, of the spectrograms it shapes")
    backbone_channels: Channels = 128
    backbone_blocks: Count = 4
    backbone_expansion: Count = 3
    backbone_kernel: OddSize = 7
    maps: Count = Field(4, description="conditioning channels from backbone to trunk")
    channels: Channels = 32
    blocks: Count = 6
    expansion: Count = 2
    kernel_size: tuple[OddSize, OddSize] = Field((7, 5), description="(bins, frames)")
    projections: int = Field(1, ge=0, le=16, description="passes of the mel projection, one of them in training")
    adaptive_projection: bool = Field(False, description="the projection goes less far where the mel seems smoothed")
    free_pitch: bool = Field(False, description="F0 may differ from that of the mel; needs no adaptive_projection")


class EnvelopeInterpolation(nn.Module):
    """Log-mel (batch, n_mels, frames) -> natural log-magnitude (batch, bins, frames), by linear interpolation."""

    weight: Tensor

    def __init__(self, mel_config: MelConfig, n_fft: int) -> None:
        super().__init__()
        weight = envelope_interpolation(mel_config, bin_frequencies(mel_config, n_fft))
        self.mel_config = mel_config
        self.register_buffer("weight", torch.from_numpy(weight).float(), persistent=False)

    def forward(self, mel: Tensor) -> Tensor:
        return self.weight @ self.mel_config.natural_log_magnitude(mel)


class ProjectionStrength(nn.Module):
    """Projection strength per frame: log-mel (batch, n_mels, frames) -> logit (batch, 1, frames).

    Its first kernels sum to zero, to detect missing detail at any level.
    """

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.detail = nn.Conv2d(1, channels, 3)
        self.local = nn.Conv2d(channels, channels, 3, padding=1)
        self.output = nn.Conv1d(channels, 1, 5, padding=2)

    def forward(self, mel: Tensor) -> Tensor:
        mel = 4 * mel  # details are small
        mel = F.pad(F.pad(mel, (1, 1), mode="replicate")[:, None], (0, 0, 1, 1), mode="replicate")
        kernels = self.detail.weight - self.detail.weight.mean((2, 3), keepdim=True)
        detail = F.conv2d(mel, kernels, self.detail.bias).relu()
        return self.output(self.local(detail).relu().mean(2))


class BandStrength(nn.Module):
    """Projection strength per band: given and own log-mel (batch, n_mels, frames) -> logit likewise."""

    reach = 3  # frames on each side

    def __init__(self, channels: int = 8) -> None:
        super().__init__()
        self.detail = nn.Conv2d(1, channels, 3, padding=1)
        self.difference = nn.Conv2d(1, channels, 3, padding=1)
        self.local = nn.Conv2d(channels, channels, 3, padding=1)
        self.overall = nn.Conv1d(channels, channels, 1)
        self.output = nn.Conv2d(channels, 1, 3, padding=1)
        assert self.output.bias is not None
        nn.init.constant_(self.output.bias, 2.0)  # most mels are exact

    def forward(self, mel: Tensor, own: Tensor) -> Tensor:
        kernels = self.detail.weight - self.detail.weight.mean((2, 3), keepdim=True)
        x = F.conv2d(4 * mel[:, None], kernels, self.detail.bias, padding=1) + self.difference((mel - own)[:, None])
        x = self.local(x.relu()).relu()
        x = x + self.overall(x.mean(2)).unsqueeze(2)
        return self.output(x.relu())[:, 0]


class HNMask(Generator):
    """Harmonic-plus-noise masking generator."""

    fade: Tensor

    config_type = HNMaskConfig
    configs: ClassVar[dict[str, Config]] = {"v1": HNMaskConfig()}
    output_names = ("audio", "draft")
    own_loss_names = ("strength",)
    config: HNMaskConfig
    inputs = (F0, NOISE, PHASE)

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> HNMaskConfig:
        return HNMaskConfig(n_fft=2 * mel_config.hop_length)

    def __init__(self, config: HNMaskConfig, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        hop = mel_config.hop_length
        self.check_overlap(config.n_fft)
        bins = config.n_fft // 2 + 1
        width = config.backbone_channels

        self.backbone_input = nn.Conv1d(
            mel_config.n_mels + 2, width, config.backbone_kernel, padding=config.backbone_kernel // 2
        )
        self.backbone = nn.Sequential(
            *(
                ConvNeXtBlock1d(width, config.backbone_expansion, config.backbone_kernel, 1 / config.backbone_blocks)
                for _ in range(config.backbone_blocks)
            )
        )
        self.backbone_norm = nn.LayerNorm(width)
        self.backbone_output = nn.Linear(width, config.maps * bins)
        if config.free_pitch:
            self.envelope_correction = nn.Linear(width, bins)
            nn.init.zeros_(self.envelope_correction.weight)
            nn.init.zeros_(self.envelope_correction.bias)

        self.trunk_input = nn.Linear(2 + config.maps, config.channels)
        self.trunk = ConvNeXtBlocks2d(
            *(
                ConvNeXtBlock2d(
                    config.channels,
                    config.expansion,
                    config.kernel_size,
                    1 / config.blocks,
                    activation=F.relu,  # GELU takes a third of a CPU training step
                    padding_mode="zeros",
                )
                for _ in range(config.blocks)
            )
        )
        self.trunk_output = nn.Linear(config.channels, 4)
        nn.init.trunc_normal_(self.trunk_output.weight, std=0.02)
        with torch.no_grad():
            self.trunk_output.bias.copy_(torch.tensor([0.7, 0.0, 0.5, 0.0]))

        self.stft = STFT(config.n_fft, hop)
        self.envelope = EnvelopeInterpolation(mel_config, config.n_fft)
        self.envelope_offset = nn.Parameter(self._initial_offset())

        self.mel = LogMelSpectrogram(mel_config)
        # The projection needs a window of two hops or more.
        self.projection_stft = STFT(mel_config.n_fft, hop, mel_config.win_length, "same", window=mel_config.window)
        self.projection_envelope = EnvelopeInterpolation(mel_config, mel_config.n_fft)
        if config.free_pitch:
            self.strength: nn.Module = BandStrength()
        elif config.adaptive_projection:
            self.strength = ProjectionStrength()
        self.register_buffer("fade", self._fade(), persistent=False)

    def _initial_offset(self) -> Tensor:
        """Return the envelope's initial log offset (bins,): what a mel filter gathers from a flat spectrum."""
        mel_config = self.mel_config
        gathered = torch.from_numpy(np.log(mel_filter_bank(mel_config).sum(1).clip(1e-8))).float()
        # Noise magnitude grows with the root of the window.
        return (
            -(self.envelope.weight @ gathered) / mel_config.power
            - math.log(mel_config.win_length / self.config.n_fft) / 2
        )

    def _fade(self) -> Tensor:
        """Return a kernel (1, 1, samples): twice a mean over _FADE per side."""
        size = 2 * round(_FADE * self.mel_config.sample_rate) + 1
        return torch.from_numpy(np.full((1, 1, size), 2 / size, np.float32))

    @property
    def context(self) -> int:
        c, mel_config = self.config, self.mel_config
        # Frames of a window beyond its hop, per side.
        shaped = (c.n_fft - mel_config.hop_length) / 2 / mel_config.hop_length
        # A stream also waits for the zeros that pad a shorter window.
        projected = (mel_config.n_fft - mel_config.hop_length) / 2 / mel_config.hop_length
        backbone = (1 + c.backbone_blocks) * (c.backbone_kernel // 2)
        reach = max(backbone, math.ceil(shaped)) + c.blocks * (c.kernel_size[1] // 2) + shaped
        for n in range(c.projections):
            compared = BandStrength.reach if c.free_pitch and n == 0 else 0
            reach = math.ceil(reach + projected) + compared + projected  # audio to whole frames, and back
        return math.ceil(reach + self.fade.shape[-1] // 2 / mel_config.hop_length)

    def synthesize(self, mel: Tensor, f0: Tensor, noise: Tensor, phase: Tensor | None) -> Tensor:
        return self.finish(self.mix(*self.shape(mel, f0, phase), noise), mel)

    def outputs(self, mel: Tensor, draws: Sequence[Mapping[str, Tensor | None]] = ({},)) -> dict[str, list[Tensor]]:
        """Return "audio", and "draft", the audio before the projection."""
        filled: list[dict[str, Any]] = [self.fill(mel, given) for given in draws]
        shaped = self.shape(mel, filled[0]["f0"], filled[0]["phase"])
        drafts = [self.mix(*shaped, values["noise"]) for values in filled]
        return {"audio": [self.finish(draft, mel) for draft in drafts], "draft": drafts}

    def own_losses(self, mel: Tensor, exact: Tensor, outputs: dict[str, list[Tensor]]) -> dict[str, Tensor]:
        """Return "strength", the cross-entropy of the projection's strength against the mel's error.

        The target is 1 for an exact mel and less than half for a mean error of 0.25 nepers over the bands (with
        ``free_pitch`` over neighbouring bands and frames).
        """
        if not (self.config.adaptive_projection or self.config.free_pitch):
            return {}
        natural = self.mel_config.natural_log_magnitude
        error = (natural(mel) - natural(exact)).abs()
        if self.config.free_pitch:
            error = F.avg_pool2d(error, 5, 1, 2, count_include_pad=False)
            with full_precision(mel):
                own = self.mel(outputs["draft"][0].detach().squeeze(1))
                logits = self.strength(natural(mel.float()), natural(own))
        else:
            error = error.mean(1, keepdim=True)
            logits = self.strength(natural(mel)).float()
        target = torch.exp(-(error / _TOLERANCE).square())
        return {"strength": F.binary_cross_entropy_with_logits(logits, target)}

    def shape(self, mel: Tensor, f0: Tensor, phase: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Compute E, a H and b, each (batch, frames, bins)."""
        bins = self.stft.n_fft // 2 + 1
        harmonic = self.stft(harmonic_prior(f0, self.mel_config, phase).squeeze(1)).transpose(1, 2) / self._unit
        voiced = (f0 > 0).to(mel.dtype)
        octave = torch.log2(f0.clamp_min(1.0) / 220.0) * voiced
        x = self.backbone_input(torch.cat([mel / 4 + 1, octave, voiced], dim=1))
        x = self.backbone_norm(self.backbone(x).transpose(1, 2))
        with full_precision(mel):
            log_envelope = (self.envelope(mel.float()) + self.envelope_offset[:, None]).transpose(1, 2)
        if self.config.free_pitch:
            log_envelope = log_envelope + self.envelope_correction(x).float()
        maps = self.backbone_output(x).unflatten(-1, (bins, self.config.maps))  # (batch, frames, bins, maps)
        parts = [part.unsqueeze(-1).to(maps.dtype) for part in (harmonic.real, harmonic.imag)]
        x = self.trunk_input(torch.cat([*parts, maps], dim=-1))
        masks = self.trunk_output(self.trunk(x)).float().movedim(-1, 0).unflatten(0, (2, 2))
        a, b = (torch.complex(*mask.unbind(0)) for mask in masks.unbind(0))
        return log_envelope.clamp_max(10.0).exp(), a * harmonic, b

    def mix(self, envelope: Tensor, harmonic: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        """Compute E (a H + b N) as audio (batch, 1, samples)."""
        noise_spectrum = self.stft(noise.squeeze(1)).transpose(1, 2) / self._unit
        with full_precision(noise):
            spectrum = envelope * (harmonic + mask * noise_spectrum)
            return self.stft.inverse(spectrum.transpose(1, 2)).unsqueeze(1)

    def finish(self, draft: Tensor, mel: Tensor) -> Tensor:
        """Project a draft (batch, 1, samples) and fade its ends; training: one pass, no fades."""
        if self.training:
            return self.project(draft, mel, min(1, self.config.projections))
        return self.fade_ends(self.project(draft, mel, self.config.projections))

    def fade_ends(self, audio: Tensor) -> Tensor:
        """Fade both ends of audio (batch, 1, samples)."""
        # A zero-padded convolution with ones falls to one half at the ends, and streams.
        with full_precision(audio):
            nearby = F.conv1d(torch.ones_like(audio), self.fade, padding=self.fade.shape[-1] // 2)
            return audio * (nearby - 1)

    @property
    def _unit(self) -> Tensor:
        """Root-mean-square per bin of unit white noise."""
        return self.stft.window.square().sum().sqrt()

    def project(self, audio: Tensor, mel: Tensor, passes: int) -> Tensor:
        """Scale the spectrogram of ``audio`` (batch, 1, samples) so that its mel approaches ``mel``."""
        audio = audio.squeeze(1)
        with full_precision(mel):
            target = mel.float()
            for n in range(passes):
                spectrum = self.projection_stft(audio)
                own = self.mel.from_spectrum(spectrum)
                if n == 0 and (self.config.adaptive_projection or self.config.free_pitch):
                    natural = self.mel_config.natural_log_magnitude
                    mels = (natural(target), natural(own)) if self.config.free_pitch else (natural(target),)
                    strength = self.strength(*mels).sigmoid().detach()
                    target = own + strength * (target - own)  # the same for all passes
                missing = self.projection_envelope(target - own)
                gain = (missing if self.training else _OVERSHOOT * missing).clamp(-3.0, 3.0).exp()
                audio = self.projection_stft.inverse(spectrum * gain)
        return audio.unsqueeze(1)
