"""STFT: parity with torch.stft, exact inversion, short signals."""

import numpy as np
import pytest
import torch

from vocoders.config import Padding
from vocoders.dsp.stft import STFT, reflect_pad


@pytest.mark.parametrize(("n_fft", "hop", "win"), [(512, 128, 512), (1024, 256, 800), (480, 240, 480), (300, 77, 211)])
def test_center_padding_equals_torch(n_fft: int, hop: int, win: int) -> None:
    audio = torch.randn(2, 3000, dtype=torch.float64)
    window = torch.hann_window(win, dtype=torch.float64)
    expected = torch.stft(audio, n_fft, hop, win, window, center=True, pad_mode="reflect", return_complex=True)
    torch.testing.assert_close(STFT(n_fft, hop, win, "center", torch.float64)(audio), expected)


@pytest.mark.parametrize("padding", ["same", "same-zeros", "center"])
@pytest.mark.parametrize(
    ("n_fft", "hop", "win"), [(512, 128, 512), (1024, 256, 1024), (480, 240, 480), (2048, 300, 1200)]
)
def test_the_inverse_restores_the_signal(padding: Padding, n_fft: int, hop: int, win: int) -> None:
    stft = STFT(n_fft, hop, win, padding, torch.float64)
    audio = torch.randn(2, 20 * hop, dtype=torch.float64)
    back = stft.inverse(stft(audio))
    assert back.shape == audio.shape
    torch.testing.assert_close(back, audio, atol=1e-7, rtol=0)


def test_the_inverse_is_the_least_squares_one() -> None:
    """For a spectrum that no signal has, the STFT of the inverse is nearer than that of any signal close to it."""
    stft = STFT(64, 16, dtype=torch.float64)
    spectrum = torch.randn(33, 12, dtype=torch.complex128)
    spectrum[0].imag.zero_()
    spectrum[-1].imag.zero_()
    audio = stft.inverse(spectrum)

    def distance(signal: torch.Tensor) -> float:
        frames = lambda s: torch.fft.irfft(s.T, n=64)  # noqa: E731 - one-sided bins count twice, frames do not
        return float((frames(stft(signal)) - frames(spectrum)).square().sum())

    inner = slice(64, -64)  # away from the reflected ends
    for seed in range(5):
        change = torch.zeros_like(audio)
        change[inner] = 0.01 * torch.randn(audio[inner].shape, generator=torch.Generator().manual_seed(seed))
        assert distance(audio + change) > distance(audio)


def test_reflect_pad_equals_numpy_for_any_length() -> None:
    for length in (1, 2, 3, 5, 40):
        x = torch.randn(3, length)
        expected = np.pad(x.numpy(), ((0, 0), (7, 9)), mode="reflect")
        np.testing.assert_array_equal(reflect_pad(x, 7, 9).numpy(), expected)
        np.testing.assert_array_equal(reflect_pad(x.T, 7, 9, 0).numpy(), expected.T)


def test_autocast_and_half_precision_input_keep_float32() -> None:
    stft = STFT(64, 16)
    with torch.autocast("cpu", torch.bfloat16):
        spectrum = stft(torch.randn(320).bfloat16())
        assert spectrum.dtype == torch.complex64
        assert stft.inverse(spectrum).dtype == torch.float32


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="win_length 2048, n_fft 1024"):
        STFT(1024, 256, 2048)
    with pytest.raises(ValueError, match="n_fft must be even, got 1023"):
        STFT(1023, 256)
