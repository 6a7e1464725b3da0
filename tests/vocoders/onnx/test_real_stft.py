"""Transforms by matrix products: they equal Fourier transforms, and leave nothing complex."""

import numpy as np
import pytest
import torch

from vocoders.config import Padding, Window
from vocoders.dsp.stft import STFT
from vocoders.onnx.pairs import Pair, PairArithmetic
from vocoders.onnx.real_stft import RealSTFT, fold, frame, unfold


@pytest.mark.parametrize(
    ("n_fft", "hop", "win"),
    [(64, 32, 64), (60, 16, 50), (16, 4, 16), (128, 30, 120), (50, 16, 50), (62, 31, 40), (4, 1, 4), (2, 1, 2)],
)
@pytest.mark.parametrize("padding", ["same", "same-zeros", "center"])
@pytest.mark.parametrize("window", ["hann", "hann-symmetric"])
def test_a_transform_by_matrices_is_the_transform(
    n_fft: int, hop: int, win: int, padding: Padding, window: Window
) -> None:
    stft = STFT(n_fft, hop, win, padding, window=window)
    real = RealSTFT(stft)
    for shape in ((2, 3, 40 * hop), (1, 9 * hop), (5 * hop,)):
        audio = torch.randn(shape)
        spectrum, pair = stft(audio), real(audio)
        torch.testing.assert_close(torch.complex(pair.real, pair.imag), spectrum, atol=2e-5, rtol=0)
        torch.testing.assert_close(real.inverse(pair), stft.inverse(spectrum), atol=2e-5, rtol=0)


def test_frames_are_the_windows_of_unfold() -> None:
    audio = torch.randn(2, 3, 7 * 5 + 16)
    for size, step in ((16, 5), (16, 7), (1, 5), (5, 5)):
        x = audio[..., : size + 5 * step]
        assert torch.equal(frame(x, size, step), x.unfold(-1, size, step).mT)


def test_what_is_unfolded_is_what_was_folded() -> None:
    x = torch.randn(2, 9, 4)
    even, odd = fold(x)
    both = unfold(even, odd) / 2
    torch.testing.assert_close(both[:, :4], x[:, :4])
    torch.testing.assert_close(both[:, 5:], x[:, 5:])
    torch.testing.assert_close(both[:, 4], x[:, 4])  # the middle is added to itself


def test_a_pair_does_what_a_complex_tensor_does() -> None:
    rng = np.random.default_rng(0)
    real, angle, gain = (torch.from_numpy(rng.standard_normal((2, 3, 4))) for _ in range(3))

    def evaluate() -> list[torch.Tensor]:
        x = torch.polar(gain, angle)
        y = torch.view_as_complex(torch.stack([real, angle], -1))
        z = gain * (torch.complex(real, gain) * x + y * gain) / 3
        turned = (z.transpose(1, 2).unsqueeze(0) * 2).permute(3, 2, 0, 1)
        return [z.real, z.imag, z.abs(), turned.real, torch.view_as_real(turned)]

    expected = evaluate()
    with PairArithmetic():
        assert isinstance(torch.polar(gain, angle), Pair)
        found = evaluate()
        with pytest.raises(TypeError, match="'angle' of a complex tensor cannot be exported"):
            torch.angle(torch.complex(real, gain))
        with pytest.raises(AttributeError, match="'conj' of a complex tensor cannot be exported"):
            torch.complex(real, gain).conj()
    for result, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(result, reference)
