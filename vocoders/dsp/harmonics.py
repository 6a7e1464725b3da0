"""Harmonic source: sines at multiples of F0, and their phase."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vocoders.dsp.mel import MelConfig


def frame_phase(f0: Tensor, mel_config: MelConfig, next_f0_share: float = 0.0) -> Tensor:
    """Compute the phase of the first harmonic at the start of each frame.

    Args:
        f0: (batch, 1, frames) in Hz, 0 = unvoiced.
        mel_config: gives rate and hop.
        next_f0_share: share of the next frame's F0 in a frame's mean F0; 0 for constant F0 within frames. The last
            frame keeps its own.

    Returns:
        float64 (batch, 1, frames + 1), cycles; the last value starts the next chunk.
    """
    f0 = _in_float64(f0)
    if next_f0_share:
        f0 = f0 + next_f0_share * f0.diff(append=f0[..., -1:])
    total = (f0 * (mel_config.hop_length / mel_config.sample_rate)).cumsum(-1).remainder(1.0)
    return torch.cat([torch.zeros_like(total[..., :1]), total], dim=-1)


def sample_phase(f0: Tensor, mel_config: MelConfig, phase: Tensor | None = None) -> Tensor:
    """Compute the phase of the first harmonic at each sample, for F0 constant within frames.

    Args:
        f0: (batch, 1, frames) in Hz; the phase stands still where unvoiced (0).
        mel_config: gives rate and hop.
        phase: phase at the first sample, (batch, 1, 1), in cycles. Default: 0.

    Returns:
        float64 (batch, 1, frames, hop_length), cycles, not reduced. A frame's first sample carries one increment, as in
        a running sum.
    """
    f0 = _in_float64(f0)
    # Integers and tensors only: an ONNX graph rounds other Python numbers to float32.
    start = _starts(f0 * mel_config.hop_length / mel_config.sample_rate, phase)
    step = torch.arange(1, mel_config.hop_length + 1, dtype=torch.float64, device=f0.device) / mel_config.sample_rate
    return start + f0.unsqueeze(-1) * step


def gliding_phase(f0: Tensor, mel_config: MelConfig, samples: int, phase: Tensor | None = None) -> Tensor:
    """Compute the phase of the first harmonic, for F0 gliding linearly to the next frame's.

    From a frame's start to its sample n = 1 ... ``samples`` it advances by s n + d n (n - 1) / (2 samples), with F0 s
    in cycles per sample and the difference d to the next frame's. The last frame keeps its F0.

    Args:
        f0: (batch, 1, frames) in Hz; 0 is a frequency like others.
        mel_config: gives rate and hop.
        samples: samples of a frame of the source, which may have a lower rate than the audio.
        phase: as for ``sample_phase``.

    Returns:
        float64 (batch, 1, frames, samples), cycles, not reduced. ``frame_phase`` with ``glide_share`` gives frame
        starts.
    """
    pairs = F.pad(_in_float64(f0), (0, 1), mode="replicate").unfold(-1, 2, 1)
    here, after = pairs.split(1, dim=-1)  # (batch, 1, frames, 1)
    n = torch.arange(1, samples + 1, dtype=torch.float64, device=here.device)
    cycles = here * n + (after - here) * (n * (n - 1) / (2 * samples))
    cycles = cycles * mel_config.hop_length / (mel_config.sample_rate * samples)
    return _starts(cycles[..., -1], phase) + cycles


def glide_share(samples: int) -> float:
    """Return ``next_f0_share`` of ``gliding_phase``."""
    return (samples - 1) / (2 * samples)


def _starts(cycles: Tensor, phase: Tensor | None) -> Tensor:
    """Return the phase at frame starts, (..., frames, 1), from the cycles of each frame, (..., frames)."""
    start = (cycles.cumsum(-1) - cycles).remainder(1.0)
    return (start if phase is None else start + phase.to(start.device)).unsqueeze(-1)


def _in_float64(f0: Tensor) -> Tensor:
    """Return F0 in float64, on the CPU if on "mps", which has none."""
    return (f0.cpu() if f0.device.type == "mps" else f0).double()


def harmonic_prior(f0: Tensor, mel_config: MelConfig, phase: Tensor | None = None) -> Tensor:
    """Compute the sum of all harmonics below half the sample rate: unit power where voiced, else zero.

    The pseudo-constant-power harmonics of Wavehax (Yoneyama et al. 2024, arXiv 2411.06807) without its factor 0.1: each
    has amplitude sqrt(2 / (sample_rate / 2 / f0)), so the power does not depend on F0. Closed form: sum_{k=1..K} sin(k
    t) = sin(K t / 2) sin((K + 1) t / 2) / sin(t / 2).

    Args:
        f0: (batch, 1, frames) in Hz, 0 = unvoiced; constant within frames.
        mel_config: gives rate and hop.
        phase: phase at the first sample, (batch, 1, 1), in cycles. Default: 0.

    Returns:
        float32 (batch, 1, frames * hop_length).
    """
    nyquist = mel_config.sample_rate / 2
    device = f0.device
    if device.type == "mps":  # lacks float64
        f0, phase = f0.cpu(), None if phase is None else phase.cpu()
    voiced = f0 > 0
    f0 = torch.where(voiced, f0, torch.ones_like(f0)).double()
    count = torch.floor(nyquist / f0)
    amplitude = torch.where(voiced, torch.sqrt(2.0 * f0 / nyquist), torch.zeros_like(f0))

    cycles = sample_phase(torch.where(voiced, f0, torch.zeros_like(f0)), mel_config, phase)
    pi = torch.full((), math.pi, dtype=torch.float64, device=f0.device)
    half = pi * (cycles - cycles.round())  # t / 2 in [-pi / 2, pi / 2]: well conditioned
    count = count.unsqueeze(-1)
    denominator = torch.sin(half)
    tiny = denominator.abs() < 1e-9
    total = (
        torch.sin(count * half) * torch.sin((count + 1) * half) / torch.where(tiny, torch.ones_like(half), denominator)
    )
    total = torch.where(tiny, torch.zeros_like(total), total)
    return (total * amplitude.unsqueeze(-1)).flatten(-2).float().to(device)
