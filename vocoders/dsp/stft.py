"""Short-time Fourier transform and its inverse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import wrap_torch_function

from vocoders.config import Padding, Window


def full_precision(x: Tensor) -> torch.autocast:
    """Return a context without autocast on the device of ``x``, also on "meta"."""
    return torch.autocast("cpu" if x.device.type == "meta" else x.device.type, enabled=False)


@contextmanager
def float32_weights() -> Iterator[None]:
    """Make networks with trainable float32 weights, whatever dtype and mode the caller set."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False):
            yield
    finally:
        torch.set_default_dtype(default)


@wrap_torch_function(lambda x, *_, **__: (x,))
def reflect_pad(x: Tensor, left: int, right: int, dim: int = -1) -> Tensor:
    """Mirror both ends of ``dim`` without repeating the edge, adding ``left`` and ``right`` elements.

    Takes any length, as ``numpy.pad(mode="reflect")``: a short axis is mirrored repeatedly, one of length 1 repeated.
    """
    length = x.shape[dim]
    index = torch.arange(-left, length + right, device=x.device)
    # No branch for a length of 1, so that an exported graph fits every length.
    period = torch.full_like(index[:1], 2 * (length - 1)).clamp_min(1)
    index = index.remainder(period)
    return x.index_select(dim, torch.minimum(index, period - index))


@wrap_torch_function(lambda frames, *_: (frames,))
def overlap_add(frames: Tensor, hop_length: int, left: int, right: int) -> Tensor:
    """Add up frames (..., frames, size) ``hop_length`` apart; cut off ``left`` and ``right`` samples.

    Returns:
        (..., (frames - 1) * hop_length + size - left - right).
    """
    count, size = frames.shape[-2:]
    # Frames are cut into pieces of hop_length; pieces of one index form a shifted copy of the signal.
    pieces = -(-size // hop_length)
    frames = F.pad(frames, (0, pieces * hop_length - size)).unflatten(-1, (pieces, hop_length))
    right += pieces * hop_length - size
    if torch.compiler.is_exporting():  # ONNX cannot add in place
        first, *others = (F.pad(frames[..., i, :], (0, 0, i, pieces - 1 - i)) for i in range(pieces))
        return sum(others, first).flatten(-2)[..., left : -right or None]
    audio = torch.zeros(*frames.shape[:-3], count + pieces - 1, hop_length, dtype=frames.dtype, device=frames.device)
    for i in range(pieces):
        audio[..., i : i + count, :] += frames[..., i, :]
    return audio.flatten(-2)[..., left : -right or None]


class STFT(nn.Module):
    """STFT with a Hann window, and its exact inverse.

    Computed in ``dtype``, also inside autocast. Unlike ``torch.stft`` it takes short signals, and windows shorter than
    n_fft with all paddings.

    Args:
        n_fft: size of the Fourier transform in samples, even.
        hop_length: samples between frames.
        win_length: window length in samples, centred in n_fft. Default: n_fft.
        padding: padding of the audio. "same": (n_fft - hop) / 2 samples by reflection, as in HiFi-GAN; frames = samples
            // hop, and frame t stands for samples t * hop ... (t + 1) * hop. "same-zeros": as many zeros, as in
            Wavehax. "center": n_fft / 2 samples by reflection, as in librosa, Tacotron 2 and ESPnet; frames = samples
            // hop + 1, frame t centred on sample t * hop.
        dtype: floating-point type of the computation.
        window: "hann", periodic, or "hann-symmetric".

    Raises:
        ValueError: when the sizes do not fit each other.
    """

    window: Tensor

    def __init__(
        self,
        n_fft: int,
        hop_length: int,
        win_length: int | None = None,
        padding: Padding = "same",
        dtype: torch.dtype = torch.float32,
        window: Window = "hann",
    ) -> None:
        super().__init__()
        win_length = win_length or n_fft
        if not 0 < hop_length <= win_length <= n_fft:
            raise ValueError(
                f"need 0 < hop_length <= win_length <= n_fft, got hop_length {hop_length}, win_length {win_length}, "
                f"n_fft {n_fft}"
            )
        if n_fft % 2:
            raise ValueError(f"n_fft must be even, got {n_fft}")
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.padding = padding
        total = n_fft if padding == "center" else n_fft - hop_length
        self.pad = (total // 2, total - total // 2)
        values = torch.hann_window(
            win_length, periodic=window == "hann", dtype=torch.float64, device="cpu"
        )  # also for models on "meta"
        margin = n_fft - win_length
        values = F.pad(values, (margin // 2, margin - margin // 2))
        self.register_buffer("window", values.to(dtype), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Transform audio (..., samples) -> complex (..., n_fft // 2 + 1, frames)."""
        frames = self.pad_ends(audio.to(self.window.dtype)).unfold(-1, self.n_fft, self.hop_length)
        return torch.fft.rfft(frames * self.window).transpose(-1, -2)

    def pad_ends(self, audio: Tensor) -> Tensor:
        """Pad audio (..., samples) at both ends."""
        left, right = self.pad
        return F.pad(audio, (left, right)) if self.padding == "same-zeros" else reflect_pad(audio, left, right)

    def inverse(self, spectrum: Tensor) -> Tensor:
        """Compute the least-squares inverse of Griffin and Lim (1984), the audio with the nearest transform.

        Args:
            spectrum: complex (..., n_fft // 2 + 1, frames).

        Returns:
            (..., samples): frames * hop_length, or (frames - 1) * hop_length with "center" padding.
        """
        return self.join(torch.fft.irfft(spectrum.transpose(-1, -2), n=self.n_fft))

    def join(self, frames: Tensor) -> Tensor:
        """Join frames (..., frames, n_fft), the inverse transforms of spectra, to audio (..., samples)."""
        frames = frames * self.window
        one = frames[(0,) * (frames.dim() - 2)]  # the squared windows sum up equally in all signals
        envelope = overlap_add(self.squares(one), self.hop_length, *self.pad)
        return overlap_add(frames, self.hop_length, *self.pad) / envelope.clamp_min(1e-8)

    def squares(self, frames: Tensor) -> Tensor:
        """Return the squared window for each frame of (frames, n_fft)."""
        return self.window.square().expand_as(frames)
