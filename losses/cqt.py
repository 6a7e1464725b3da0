"""Differentiable constant-Q transform."""

from __future__ import annotations

import math
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vocoders.dsp.stft import full_precision
from vocoders.errors import VocoderError

LOWEST = 32.703196  # Hz, the note C1
# The spectrum of a Hann window is below -80 dB beyond this many bandwidths (sample_rate / kernel length) from its
# centre.
_GUARD = 10


class CQT(nn.Module):
    """Constant-Q transform: bins spaced geometrically, each with a Hann kernel of Q periods of its frequency.

    X[k, t] = sqrt(N_k) / sum(w_k) * sum_n x[t * hop_length + n] w_k[n] exp(-2 pi i f_k n / sample_rate), with f_k =
    fmin * 2^(k / bins_per_octave), Q = 1 / (2^(1 / bins_per_octave) - 1), N_k = Q * sample_rate / f_k and w_k a Hann
    window of N_k samples around n = 0 (Brown 1991; the scale is librosa's). The audio is zero-padded.

    All octaves share one Fourier transform. The inverse transform of its lower bins is the audio at a lower rate, where
    an octave's kernels are short (after Schoerkhuber and Klapuri 2010).

    Args:
        sample_rate: Hz.
        hop_length: samples between frames.
        bins_per_octave: 12 to 96.
        fmin: lowest frequency in Hz. Default: ``n_octaves`` below half the sample rate, or all above C1 (32.7 Hz).
        n_octaves: number of octaves. Default: all from fmin to half the sample rate.
        max_kernel: longest kernel in samples; low bins then have a constant bandwidth (variable-Q transform).
        partial_kernels: whether to accept audio shorter than the longest kernel.
        nnaudio_phase: whether to delay octaves as nnAudio's CQT2010v2: X[k, t] is turned by -2 pi f (2^k - 1) / 2 /
            sample_rate after k halvings of the rate.
        dtype: type of the computation, also inside autocast.

    Attributes:
        frequencies: Hz, float64 (n_bins,).
        lengths: kernel lengths in samples, float64 (n_bins,).
        min_samples: the longest kernel, rounded up.

    Raises:
        VocoderError: when octaves do not fit the rate, or bins_per_octave is out of range.
    """

    def __init__(
        self,
        sample_rate: int,
        hop_length: int,
        *,
        bins_per_octave: int = 24,
        fmin: float | None = None,
        n_octaves: int | None = None,
        max_kernel: int | None = None,
        partial_kernels: bool = False,
        nnaudio_phase: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if hop_length < 1 or sample_rate < 1:
            raise VocoderError(f"CQT: sample_rate and hop_length must be positive, got {sample_rate} and {hop_length}")
        if not 12 <= bins_per_octave <= 96:
            raise VocoderError(f"CQT: bins_per_octave must be from 12 to 96, got {bins_per_octave}")
        if max_kernel is not None and max_kernel < 2:
            raise VocoderError(f"CQT: max_kernel must be at least 2 samples, got {max_kernel}")
        fmin, n_octaves = _octaves(sample_rate, fmin, n_octaves)
        self.sample_rate, self.hop_length, self.bins_per_octave = sample_rate, hop_length, bins_per_octave
        self.fmin, self.n_octaves, self.partial_kernels, self.dtype = fmin, n_octaves, partial_kernels, dtype

        on_cpu = torch.device("cpu")  # also when built on "meta"
        bins = torch.arange(n_octaves * bins_per_octave, dtype=torch.float64, device=on_cpu)
        self.frequencies = fmin * 2.0 ** (bins / bins_per_octave)
        ratio = 4.0 ** (1 / bins_per_octave)
        lengths = sample_rate * (ratio + 1) / (ratio - 1) / self.frequencies
        self.lengths = lengths if max_kernel is None else lengths.clamp_max(max_kernel)
        self.min_samples = math.ceil(self.lengths[0])
        self._margin = math.ceil(self.min_samples / 2 / hop_length) + 1  # silent frames at the end

        self._rates: list[int] = []  # samples per frame of each octave
        for octave in range(n_octaves):
            chosen = slice(octave * bins_per_octave, (octave + 1) * bins_per_octave)
            frequencies, lengths = self.frequencies[chosen], self.lengths[chosen]
            highest = float((frequencies + _GUARD * sample_rate / lengths).max())
            rate = math.ceil(2 * highest / sample_rate * hop_length)
            rate = rate if rate <= hop_length / 2 else hop_length  # longer kernels cost less than transforms
            self._rates.append(rate)
            # The factor corrects irfft, which divides by its own length, not by that of rfft.
            delay = (2 ** (n_octaves - 1 - octave) - 1) / 2 if nnaudio_phase else 0.0
            kernel = _kernels(frequencies / sample_rate, lengths, hop_length / rate, delay) * (rate / hop_length)
            self.register_buffer(f"kernel{octave}", kernel.to(dtype), persistent=False)

    @property
    def n_bins(self) -> int:
        """Number of bins."""
        return self.n_octaves * self.bins_per_octave

    def forward(self, audio: Tensor) -> Tensor:
        """Transform audio.

        Args:
            audio: (..., samples).

        Returns:
            Complex (..., n_bins, samples // hop_length + 1), lowest frequency first.

        Raises:
            VocoderError: when the audio is shorter than the longest kernel, unless ``partial_kernels``.
        """
        samples = audio.shape[-1]
        if samples < 1 or (samples < self.min_samples and not self.partial_kernels):
            raise VocoderError(
                f"CQT: {samples} samples are fewer than the {self.min_samples} of the longest kernel, that of "
                f"{self.fmin:.1f} Hz with {self.bins_per_octave} bins per octave at {self.sample_rate} Hz; take longer "
                f"segments, a higher fmin, fewer bins_per_octave, or max_kernel={samples}"
            )
        frames = samples // self.hop_length + 1
        total = _smooth(frames + self._margin)
        octaves = []
        with full_precision(audio):
            audio = F.pad(audio.to(self.dtype), (0, total * self.hop_length - samples))
            spectrum = torch.fft.rfft(audio)
            for octave in reversed(range(self.n_octaves)):
                rate = self._rates[octave]
                spectrum = spectrum[..., : total * rate // 2 + 1]
                if rate < self.hop_length:
                    audio = torch.fft.irfft(spectrum, n=total * rate)
                octaves.append(self._octave(octave, audio, frames))
            return torch.cat(octaves[::-1], dim=-1).transpose(-1, -2)

    def _octave(self, octave: int, audio: Tensor, frames: int) -> Tensor:
        """Transform audio at the octave's rate -> complex (..., frames, bins_per_octave)."""
        kernel = self.get_buffer(f"kernel{octave}")
        taps, rate = kernel.shape[0], self._rates[octave]
        # Periodic audio: the silence at its end also precedes it.
        around = torch.cat([audio[..., -(taps // 2) :], audio[..., : (frames - 1) * rate + taps // 2 + 1]], dim=-1)
        windows = around.unfold(-1, taps, rate)
        return torch.view_as_complex((windows @ kernel).unflatten(-1, (self.bins_per_octave, 2)))


def _octaves(sample_rate: int, fmin: float | None, n_octaves: int | None) -> tuple[float, int]:
    """Check fmin and n_octaves, and set defaults."""
    nyquist = sample_rate / 2
    if fmin is not None and not 0 < fmin <= nyquist / 2:
        raise VocoderError(f"CQT: fmin must be from 0 to {nyquist / 2:g} Hz at {sample_rate} Hz, got {fmin:g}")
    fit = math.floor(math.log2(nyquist / (fmin or LOWEST)) + 1e-9)
    chosen = fit if n_octaves is None else n_octaves
    if chosen < 1 or (fmin is not None and chosen > fit):
        lowest = fmin or nyquist / 2.0**chosen
        raise VocoderError(
            f"CQT: {chosen} octaves from {lowest:g} Hz reach {lowest * 2.0**chosen:g} Hz, but half the sample rate is "
            f"{nyquist:g} Hz: at {sample_rate} Hz {max(fit, 0)} octaves fit above {fmin or LOWEST:g} Hz"
        )
    return (fmin if fmin is not None else nyquist / 2.0**chosen), chosen


def _kernels(frequencies: Tensor, lengths: Tensor, step: float, delay: float) -> Tensor:
    """Compute an octave's kernels at every ``step`` samples: (taps, 2 * bins), real and imaginary parts in turn.

    ``frequencies`` in cycles per sample, ``lengths`` and ``delay`` in samples.
    """
    half = math.ceil(float(lengths.max()) / 2 / step)
    time = torch.arange(-half, half + 1, dtype=torch.float64, device=lengths.device)[:, None] * step
    window = torch.where(time.abs() <= lengths / 2, 0.5 + 0.5 * torch.cos(2 * math.pi * time / lengths), 0.0)
    window = window * (lengths.sqrt() / window.sum(0))
    phase = -2 * math.pi * frequencies * (time - delay)
    return torch.stack([window * phase.cos(), window * phase.sin()], dim=-1).flatten(1)


def _smooth(number: int) -> int:
    """Return the next number without prime factors above 5."""
    for candidate in count(number):
        rest = candidate
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return candidate
    raise AssertionError
