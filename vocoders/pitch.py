"""F0: the harmonic prior drawn from it, and its estimate from a log-mel alone.

A TTS back-end receives a mel and nothing else, while generators with a harmonic prior need F0. The estimator here
reads it from the mel; it travels in the checkpoint beside the generator.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from vocoders.config import Channels, Config, Count, OddSize
from vocoders.layers import ConvNeXtBlock1d
from vocoders.mel import MelSpec


def frame_phase(f0: Tensor, spec: MelSpec) -> Tensor:
    """Phase of the first harmonic at the start of each frame, in cycles.

    f0 (batch, 1, frames) in Hz, 0 = unvoiced -> float64 (batch, 1, frames + 1); the last value is the phase at which
    the next chunk of a stream starts.
    """
    cycles = (f0.cpu() if f0.device.type == "mps" else f0).double() * (spec.hop_length / spec.sample_rate)
    total = cycles.cumsum(-1).remainder(1.0)
    return torch.cat([torch.zeros_like(total[..., :1]), total], dim=-1)


def harmonic_prior(f0: Tensor, spec: MelSpec, phase: Tensor | None = None) -> Tensor:
    """Sum of all harmonics below half the sample rate, of unit power where voiced and zero elsewhere.

    The pseudo-constant-power harmonics of Wavehax (Yoneyama et al. 2024, arXiv 2411.06807), up to its factor 0.1:
    every harmonic has the amplitude sqrt(2 / (sample_rate / 2 / f0)), so that the spectrum is flat and the power does
    not depend on F0. Computed by the closed form sum_{k=1..K} sin(k t) = sin(K t / 2) sin((K + 1) t / 2) / sin(t / 2),
    in memory proportional to the samples alone.

    Args:
        f0: (batch, 1, frames) in Hz, 0 = unvoiced; held constant within a frame.
        phase: (batch, 1, 1), cycles: the phase at the first sample; 0 when not given.
    Returns: float32 (batch, 1, frames * hop_length)
    """
    nyquist = spec.sample_rate / 2
    device = f0.device
    if device.type == "mps":  # has no float64
        f0, phase = f0.cpu(), None if phase is None else phase.cpu()
    voiced = f0 > 0
    f0 = torch.where(voiced, f0, torch.ones_like(f0)).double()
    count = torch.floor(nyquist / f0)
    amplitude = torch.where(voiced, torch.sqrt(2.0 * f0 / nyquist), torch.zeros_like(f0))

    # Whole numbers and tensors: another Python number would be rounded to float32 on its way into an ONNX graph.
    cycles = torch.where(voiced, f0, torch.zeros_like(f0)) * spec.hop_length / spec.sample_rate
    start = (cycles.cumsum(-1) - cycles).remainder(1.0)
    if phase is not None:
        start = start + phase
    # The first sample of a frame already carries one increment, as a running sum over samples would have it.
    step = torch.arange(1, spec.hop_length + 1, dtype=torch.float64, device=f0.device) / spec.sample_rate
    cycles = start.unsqueeze(-1) + f0.unsqueeze(-1) * step  # (batch, 1, frames, hop_length)
    pi = torch.tensor(math.pi, dtype=torch.float64, device=f0.device)
    half = pi * (cycles - cycles.round())  # t / 2 in [-pi / 2, pi / 2], where the sum is well conditioned
    count = count.unsqueeze(-1)
    denominator = torch.sin(half)
    tiny = denominator.abs() < 1e-9
    total = (
        torch.sin(count * half) * torch.sin((count + 1) * half) / torch.where(tiny, torch.ones_like(half), denominator)
    )
    total = torch.where(tiny, torch.zeros_like(total), total)
    return (total * amplitude.unsqueeze(-1)).flatten(-2).float().to(device)


class PitchConfig(Config):
    """Size of a PitchEstimator and the range of F0 it can answer."""

    channels: Channels = 96
    blocks: Count = 6
    expansion: Count = 2
    kernel_size: OddSize = 7
    bins_per_octave: int = Field(48, ge=12, le=1200)
    bins: int = Field(212, gt=0, le=12000, description="48 an octave from 55 Hz: up to 1163 Hz")
    fmin: float = Field(55.0, gt=0, le=1000, description="Hz")
    voicing_threshold: float = Field(0.5, description="logit above which a frame is voiced")


class PitchEstimator(nn.Module):
    """F0 and voicing from a log-mel: classification over log-spaced pitches, as CREPE does from audio
    (Kim et al. 2018, arXiv 1802.06182), with a ConvNeXt over frames.
    """

    frequencies: Tensor

    def __init__(self, config: PitchConfig, mel_spec: MelSpec) -> None:
        super().__init__()
        self.config = config
        self.mel_spec = mel_spec
        self.input = nn.Conv1d(mel_spec.n_mels, config.channels, 5, padding=2)
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
    def receptive_field(self) -> int:
        """Frames on each side that an estimate depends on."""
        return 2 + self.config.blocks * (self.config.kernel_size // 2)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel (batch, n_mels, frames) -> pitch logits (batch, bins, frames), voicing logit (batch, 1, frames).

        In float32 at least, also inside autocast.
        """
        x = self.input(mel / 4 + 1)
        x = self.input_norm(x.transpose(1, 2)).transpose(1, 2)
        x = self.output(self.output_norm(self.blocks(x).transpose(1, 2))).transpose(1, 2)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return x[:, :-1], x[:, -1:]

    def decode(self, pitch: Tensor, voicing: Tensor) -> Tensor:
        """Logits as forward gives them -> F0 (batch, 1, frames) in Hz, 0 where unvoiced.

        The expectation of log-F0 over the bins within a semitone and a half of the most likely one.
        """
        best = pitch.argmax(1, keepdim=True)
        reach = self.config.bins_per_octave // 8
        index = torch.arange(self.config.bins, device=pitch.device)[None, :, None]
        near = (index - best).abs() <= reach
        weight = torch.where(near, pitch, torch.full_like(pitch, -torch.inf)).softmax(1)
        f0 = (weight * self.frequencies.log()[None, :, None]).sum(1, keepdim=True).exp()
        return torch.where(voicing > self.config.voicing_threshold, f0, torch.zeros_like(f0))

    def estimate(self, mel: Tensor) -> Tensor:
        """Log-mel (batch, n_mels, frames) -> F0 float32 (batch, 1, frames) in Hz, 0 where unvoiced.

        Computed where the estimator lies and in its dtype, whatever those of the mel.
        """
        return self.decode(*self(mel.to(self.frequencies))).float().to(mel.device)
