"""The constant-Q transform: its definition in float64, librosa, laws, gradients, and clear refusals."""

from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import pytest
import torch

from losses.cqt import CQT
from tests.support import signals
from vocoders import VocoderError

Setting = tuple[int, int, int, float | None, int | None]
SETTINGS: list[Setting] = [  # sample_rate, hop_length, bins_per_octave, fmin, n_octaves
    (16000, 200, 12, None, None),
    (22050, 256, 24, 65.4, 7),
    (24000, 251, 36, None, None),
    (24000, 240, 48, 100.0, None),
    (44100, 441, 96, None, 5),
    (48000, 512, 24, None, None),
]
every_setting = pytest.mark.parametrize("setting", SETTINGS, ids=str)


def built(setting: Setting, **options: Any) -> CQT:
    rate, hop, bins_per_octave, fmin, n_octaves = setting
    return CQT(rate, hop, bins_per_octave=bins_per_octave, fmin=fmin, n_octaves=n_octaves, **options)


def definition(audio: np.ndarray, cqt: CQT, bins: list[int], frames: list[int]) -> np.ndarray:
    """The formula of the docstring for some bins and frames: (bins, frames)."""
    result = np.zeros((len(bins), len(frames)), complex)
    for i, k in enumerate(bins):
        frequency = cqt.frequencies[k].item()
        length = cqt.lengths[k].item()
        half = int(np.ceil(length / 2))
        n = np.arange(-half, half + 1)
        window = np.where(np.abs(n) <= length / 2, 0.5 + 0.5 * np.cos(2 * np.pi * n / length), 0)
        kernel = window * np.exp(-2j * np.pi * frequency * n / cqt.sample_rate) * np.sqrt(length) / window.sum()
        padded = np.pad(audio, half + 1)
        for j, t in enumerate(frames):
            centre = t * cqt.hop_length + half + 1
            result[i, j] = padded[centre - half : centre + half + 1] @ kernel
    return result


@every_setting
@pytest.mark.parametrize("signal", [signals.noise, signals.chirp, signals.voice])
def test_equals_its_definition(setting: Setting, signal: Callable[[int, float], np.ndarray]) -> None:
    audio = signal(setting[0], 1.0)
    sizes: tuple[dict[str, Any], ...] = ({"partial_kernels": True}, {"max_kernel": 6000})
    for options in sizes:
        cqt = built(setting, dtype=torch.float64, **options)
        result = cqt(torch.from_numpy(audio)).numpy()
        assert result.shape == (cqt.n_bins, len(audio) // cqt.hop_length + 1)
        bins = sorted({*range(0, cqt.n_bins, max(1, cqt.n_bins // 40)), cqt.n_bins - 1})
        frames = [0, 1, result.shape[1] // 2, result.shape[1] - 1]
        expected = definition(audio, cqt, bins, frames)
        error = result[np.ix_(bins, frames)] - expected
        assert np.abs(error).max() < 1e-3 * np.abs(result).max()
        assert np.linalg.norm(error) < 1e-3 * np.linalg.norm(expected)


@pytest.mark.parametrize(("rate", "bins_per_octave"), [(16000, 12), (22050, 24), (24000, 48), (48000, 36), (44100, 96)])
@pytest.mark.parametrize("kind", ["tone", "chirp", "voice"])
def test_agrees_with_librosa(rate: int, bins_per_octave: int, kind: str) -> None:
    audio = {
        "tone": lambda: 0.5 * np.sin(2 * np.pi * 440 * np.arange(4 * rate) / rate),
        "chirp": lambda: signals.chirp(rate, 4.0),
        "voice": lambda: signals.voice(rate, 4.0),
    }[kind]()
    cqt = CQT(rate, 256, bins_per_octave=bins_per_octave, fmin=55.0, n_octaves=6)
    ours = cqt(torch.from_numpy(audio).float()).numpy()
    theirs = librosa.cqt(
        audio, sr=rate, hop_length=256, fmin=55.0, n_bins=cqt.n_bins, bins_per_octave=bins_per_octave, sparsity=0
    )
    assert ours.shape == theirs.shape
    magnitudes = np.abs(ours), np.abs(theirs)
    assert np.corrcoef(magnitudes[0].ravel(), magnitudes[1].ravel())[0, 1] > 0.999
    loud = magnitudes[1] > 0.01 * magnitudes[1].max()  # -40 dB
    assert np.median(magnitudes[0][loud] / magnitudes[1][loud]) == pytest.approx(1, abs=0.01)
    # librosa rounds its kernels to whole samples of each octave's own rate: it is 2 % off the definition itself.
    phase = np.abs(np.angle(ours[loud] * theirs[loud].conj()))
    assert phase.mean() < 0.1
    assert np.quantile(phase, 0.95) < 0.35


def test_a_tone_by_hand() -> None:
    """Amplitude a at the centre of a bin: a / 2 * sqrt(N), with the phase of the tone at the centre of the frame."""
    cqt = CQT(24000, 300, fmin=100.0, n_octaves=6)
    k = 70
    hz, length = cqt.frequencies[k].item(), cqt.lengths[k].item()
    time = torch.arange(24000, dtype=torch.float64) / 24000
    result = cqt(0.8 * torch.cos(2 * torch.pi * hz * time + 0.7))[k, 20:60]
    assert result.abs().numpy() == pytest.approx(0.4 * np.sqrt(length), rel=1e-3)
    expected = 2 * np.pi * hz * np.arange(20, 60) * 300 / 24000 + 0.7
    assert np.angle(result.numpy() * np.exp(-1j * expected)) == pytest.approx(0, abs=2e-3)


@pytest.mark.parametrize(("k", "delay"), [(70, 3.5), (100, 0.5), (140, 0.0)])
def test_the_phase_of_nnaudio_by_hand(k: int, delay: float) -> None:
    """Each halving of the rate delays an octave by half a sample of the rate it had: (2^halvings - 1) / 2 in all."""
    cqt, slipped = (CQT(24000, 300, fmin=100.0, n_octaves=6, nnaudio_phase=on) for on in (False, True))
    tone = torch.cos(2 * torch.pi * cqt.frequencies[k] * torch.arange(24000, dtype=torch.float64) / 24000)
    turned = torch.angle(slipped(tone)[k, 30:50] * cqt(tone)[k, 30:50].conj())
    assert turned.numpy() == pytest.approx(2 * np.pi * float(cqt.frequencies[k]) * delay / 24000, abs=1e-4)


def test_octaves_come_from_the_rate() -> None:
    for rate, octaves in ((16000, 7), (22050, 8), (24000, 8), (44100, 9), (48000, 9)):
        cqt = CQT(rate, 256)
        assert cqt.n_octaves == octaves
        assert cqt.fmin * 2**octaves == rate / 2
        assert cqt.fmin >= 32.7
        assert cqt.frequencies[-1] < rate / 2
    assert CQT(24000, 256, fmin=100.0).n_octaves == 6
    assert CQT(24000, 256, n_octaves=3).fmin == 1500


@every_setting
def test_linear_batched_and_deterministic(setting: Setting) -> None:
    cqt = built(setting, partial_kernels=True)
    x = torch.randn(3, 2, 4000, generator=torch.Generator().manual_seed(0))
    together = cqt(x)
    assert together.shape == (3, 2, cqt.n_bins, 4000 // cqt.hop_length + 1)
    torch.testing.assert_close(together[1, 1], cqt(x[1, 1]), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(cqt(x[0] - 2 * x[1]), together[0] - 2 * together[1], rtol=1e-3, atol=1e-3)
    assert torch.equal(together, cqt(x))
    assert torch.equal(cqt(torch.zeros(4000)), torch.zeros_like(together[0, 0]))


def test_a_shift_by_a_hop_is_a_shift_by_a_frame() -> None:
    cqt = CQT(24000, 250, max_kernel=2000, dtype=torch.float64)
    audio = torch.zeros(8000, dtype=torch.float64)
    audio[3000:5000] = torch.from_numpy(signals.noise(24000, 0.2)[:2000])
    torch.testing.assert_close(cqt(audio.roll(500))[:, 2:], cqt(audio)[:, :-2], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_gradcheck() -> None:
    cqt = CQT(16000, 77, bins_per_octave=12, n_octaves=3, dtype=torch.float64)
    audio = torch.randn(2, 400, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(cqt, (audio,), fast_mode=False)


def test_float32_inside_autocast_and_finite_gradients_on_silence() -> None:
    cqt = CQT(24000, 256, max_kernel=2048)
    audio = torch.zeros(1, 4096, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        result = cqt(audio.bfloat16())
    assert result.dtype == torch.complex64
    torch.view_as_real(result).square().sum().backward()
    assert audio.grad is not None
    assert torch.isfinite(audio.grad).all()


def test_it_adds_nothing_to_checkpoints() -> None:
    assert CQT(24000, 256).state_dict() == {}


def test_refusals_give_the_numbers() -> None:
    with pytest.raises(VocoderError, match=r"9 octaves from 32\.7 Hz reach 16742\.4 Hz, but half .* is 8000 Hz: .* 7"):
        CQT(16000, 256, fmin=32.7, n_octaves=9)
    with pytest.raises(VocoderError, match="bins_per_octave must be from 12 to 96, got 8"):
        CQT(24000, 256, bins_per_octave=8)
    with pytest.raises(VocoderError, match="must be positive, got 24000 and 0"):
        CQT(24000, 0)
    with pytest.raises(VocoderError, match="fmin must be from 0 to 6000 Hz at 24000 Hz, got 20000"):
        CQT(24000, 256, fmin=20000.0)
    with pytest.raises(VocoderError, match="0 octaves"):
        CQT(24000, 256, n_octaves=0)
    cqt = CQT(24000, 256, fmin=60.0)
    with pytest.raises(
        VocoderError, match=r"8192 samples are fewer than the 1\d{4} of the longest kernel, that of 60\.0"
    ):
        cqt(torch.zeros(8192))
    with pytest.raises(VocoderError, match="0 samples"):
        CQT(24000, 256, partial_kernels=True)(torch.zeros(0))
