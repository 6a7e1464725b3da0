"""Spectral losses: their formulas in float64 by librosa, laws, and finite gradients where logarithms are steep."""

from collections.abc import Sequence
from typing import Any

import librosa
import numpy as np
import pytest
import torch

from losses import LOSSES, FullBandMelLoss, MelLoss, MultiResolutionSTFTLoss, MultiScaleMelLoss
from losses.spectral.base import RESOLUTIONS
from tests.support import signals
from vocoders.dsp.mel import MEL_CONFIGS

MEL_CONFIG = MEL_CONFIGS["hifigan-22k"]
EVERY: list[Any] = [kind.for_mel_config(MEL_CONFIG) for kind in LOSSES.values()]  # which are modules as well


def reference(fake: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Equations 4 to 6 of the Parallel WaveGAN paper, float64."""
    convergence, log_magnitude = [], []
    for n_fft, hop, win in RESOLUTIONS:
        x, y = (
            np.sqrt(
                np.maximum(
                    np.abs(librosa.stft(s, n_fft=n_fft, hop_length=hop, win_length=win, pad_mode="reflect")) ** 2, 1e-7
                )
            )
            for s in (fake, real)
        )
        convergence.append(np.linalg.norm(y - x) / np.linalg.norm(y))
        log_magnitude.append(np.mean(np.abs(np.log(y) - np.log(x))))
    return float(np.mean(convergence)), float(np.mean(log_magnitude))


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(signals.noise(22050, 0.4)).float(), torch.from_numpy(signals.voice(22050, 0.4)).float()


def test_equals_the_formula_in_float64() -> None:
    fake, real = pair()
    result = MultiResolutionSTFTLoss()(fake, real)
    expected = reference(fake.double().numpy(), real.double().numpy())
    assert float(result.spectral_convergence) == pytest.approx(expected[0], rel=1e-4)
    assert float(result.log_magnitude) == pytest.approx(expected[1], rel=1e-4)


def test_the_full_band_covers_what_the_mel_config_does_not() -> None:
    real = torch.from_numpy(signals.noise(22050, 0.4)).float()
    spectrum = torch.fft.rfft(real)
    spectrum[round(0.4 * 9000) :] = 0
    muffled = torch.fft.irfft(spectrum, n=len(real))
    assert float(FullBandMelLoss(MEL_CONFIG)(muffled, real)) > 10 * float(MelLoss(MEL_CONFIG)(muffled, real))


def test_a_value_derived_by_hand() -> None:
    """Twice the amplitude: the magnitudes differ by the reference itself, their logarithms by ln 2."""
    real, _ = pair()  # noise, none of it near the smallest magnitude
    result = MultiResolutionSTFTLoss()(2 * real, real)
    assert float(result.spectral_convergence) == pytest.approx(1.0, rel=1e-4)
    assert float(result.log_magnitude) == pytest.approx(np.log(2), rel=1e-4)
    assert float(MelLoss(MEL_CONFIG)(2 * real, real)) == pytest.approx(np.log(2), rel=1e-4)
    assert float(MultiScaleMelLoss(22050, [(512, 40), (256, 20)])(2 * real, real)) == pytest.approx(
        2 * np.log10(2), rel=1e-4
    )


def test_zero_at_equality_and_positive_elsewhere() -> None:
    fake, real = pair()
    for loss in EVERY:
        assert float(torch.stack(_terms(loss(real, real))).sum()) == 0
        assert all(float(term) > 0.01 for term in _terms(loss(fake, real)))


@pytest.mark.parametrize("which", ["silence", "equal", "full scale"])
@pytest.mark.parametrize("autocast", [False, True])
def test_finite_in_float32_with_finite_gradients(which: str, autocast: bool) -> None:
    _, real = pair()
    real = {"silence": torch.zeros_like(real), "equal": real, "full scale": real.sign()}[which]
    fake = (real if which == "equal" else torch.zeros_like(real)).clone().requires_grad_()
    for loss in EVERY:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            terms = _terms(loss(fake, real))
        for term in terms:
            assert term.dtype == torch.float32
            assert torch.isfinite(term)
            (gradient,) = torch.autograd.grad(term, fake, retain_graph=True)
            assert torch.isfinite(gradient).all()


def test_a_step_along_the_gradient_lowers_the_loss() -> None:
    fake, real = pair()
    for loss in EVERY:
        fake = fake.clone().requires_grad_()
        before = torch.stack(_terms(loss(fake, real))).sum()
        (gradient,) = torch.autograd.grad(before, fake)
        after = torch.stack(_terms(loss(fake - 1e-3 * gradient / gradient.norm(), real))).sum()
        assert float(after.detach()) < float(before.detach())


def test_the_distance_has_the_stated_terms() -> None:
    """``forward`` is the distance of the transforms."""
    fake, real = pair()
    for loss in EVERY:
        values = loss.distance(loss.transform(fake), loss.transform(real))
        assert len(values) == len(loss.terms)
        assert all(torch.equal(a, b) for a, b in zip(values, _terms(loss(fake, real)), strict=True))
    terms = [term for kind in LOSSES.values() for term in kind.terms]
    assert len(set(terms)) == len(terms)


def test_resolutions_reach_the_losses_that_have_any() -> None:
    built = MultiResolutionSTFTLoss.for_mel_config(MEL_CONFIG, [(256, 64, 256)])
    assert [stft.n_fft for stft in built.stfts] == [256]


def _terms(value: torch.Tensor | Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    return (value,) if isinstance(value, torch.Tensor) else tuple(value)
