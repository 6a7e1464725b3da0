"""The harmonic prior against its definition, and the F0 estimator."""

import math

import numpy as np
import pytest
import torch

from tests.support import models, signals
from vocoders import VocoderError, load
from vocoders.dsp.harmonics import frame_phase, harmonic_prior
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.f0_estimator import F0Estimator, F0EstimatorConfig, build_f0_estimator, describe_f0_estimator

MEL_CONFIG = MEL_CONFIGS["hifigan-22k"]


def sum_of_sines(f0: np.ndarray, sample_rate: int, hop: int) -> np.ndarray:
    """The prior as the Wavehax paper defines it: one sinusoid per harmonic. f0 (frames,), without the factor 0.1."""
    held = np.repeat(f0.astype(np.float64), hop)
    phase = 2 * np.pi * np.cumsum(held / sample_rate)
    total = np.zeros_like(held)
    for k in range(1, int(sample_rate / 2 / f0[f0 > 0].min()) + 1):
        total += np.sin(k * phase) * (k * held <= sample_rate / 2)
    return total * np.sqrt(2 * held / (sample_rate / 2)) * (held > 0)


def test_the_closed_form_is_the_sum_of_sines() -> None:
    f0 = np.array([0, 80.5, 81, 233.3, 0, 0, 1000.1, 523.25, 60, 0, 441.0, 11025.0], dtype=np.float32)
    prior = harmonic_prior(torch.from_numpy(f0)[None, None], MEL_CONFIG)[0, 0].numpy()
    np.testing.assert_allclose(prior, sum_of_sines(f0, 22050, 256), atol=2e-5)


def test_where_the_denominator_vanishes() -> None:
    """At a divisor of the sample rate, sin(t / 2) is exactly zero at every period."""
    f0 = np.full(8, 22050 / 64, dtype=np.float32)
    prior = harmonic_prior(torch.from_numpy(f0)[None, None], MEL_CONFIG)[0, 0].numpy()
    np.testing.assert_allclose(prior, sum_of_sines(f0, 22050, 256), atol=2e-5)


@pytest.mark.parametrize("hz", [70.0, 220.0, 900.0])
def test_power_is_one_for_any_f0(hz: float) -> None:
    prior = harmonic_prior(torch.full((1, 1, 400), hz), MEL_CONFIG)
    assert float(prior.square().mean()) == pytest.approx(1.0, abs=0.05)


def test_unvoiced_frames_are_silent_and_items_independent() -> None:
    f0 = torch.stack([models.f0(12)[0], torch.zeros(1, 12)])
    prior = harmonic_prior(f0, MEL_CONFIG)
    assert prior.shape == (2, 1, 12 * 256)
    assert (prior[1] == 0).all()
    assert (prior[0, 0, 3 * 256 : 5 * 256] == 0).all()
    assert torch.equal(prior[:1], harmonic_prior(f0[:1], MEL_CONFIG))


def test_phase_carries_over_chunks() -> None:
    f0 = models.f0(40)
    phase = frame_phase(f0, MEL_CONFIG)
    assert phase.shape == (1, 1, 41)
    whole = harmonic_prior(f0, MEL_CONFIG)
    parts = [harmonic_prior(f0[..., a:b], MEL_CONFIG, phase[..., a : a + 1]) for a, b in ((0, 1), (1, 17), (17, 40))]
    torch.testing.assert_close(torch.cat(parts, -1), whole, atol=1e-5, rtol=0)


def test_memory_does_not_grow_with_the_number_of_harmonics() -> None:
    """An hour would need gigabytes per harmonic; here 20 s at 55 Hz have 200 harmonics and 440 000 samples."""
    from torch.profiler import ProfilerActivity, profile

    f0 = torch.full((1, 1, 1723), 55.0)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        harmonic_prior(f0, MEL_CONFIG)
    largest = max(event.self_cpu_memory_usage for event in recorded.events())
    assert 4 * 1723 * 256 <= largest <= 16 * 1723 * 256  # two float64 signals; a (harmonics x samples) tensor has 200


def test_decoding_finds_the_expected_frequency_between_bins() -> None:
    estimator = F0Estimator(F0EstimatorConfig(), models.MEL_CONFIG)
    target = 48 * math.log2(200 / 55)  # in bins: 89.4
    bins = torch.arange(212.0)
    logits = (-0.5 * ((bins - target) / 1.7) ** 2)[None, :, None].expand(1, 212, 2).clone()
    logits[0, 200, :] = -1.0  # a distant second peak does not matter
    f0 = estimator.decode(logits, torch.tensor([[[1.0, -1.0]]]))
    assert float(f0[0, 0, 0]) == pytest.approx(200, rel=1e-3)
    assert float(f0[0, 0, 1]) == 0


def test_the_estimate_depends_on_its_receptive_field_alone() -> None:
    estimator = models.f0_estimator()
    mel = models.mel(41)
    changed = mel.clone()
    changed[..., 20] += 3
    with torch.no_grad():
        moved = [(a != b).any(1)[0] for a, b in zip(estimator(mel), estimator(changed), strict=True)]
    where = torch.nonzero(moved[0] | moved[1]).flatten().tolist()
    assert where[0] == 20 - estimator.context
    assert where[-1] == 20 + estimator.context


@pytest.mark.parametrize(("causal", "reach"), [(False, (5, 5)), (True, (8, 3))])
def test_the_estimate_of_convolutions_depends_on_its_receptive_field_alone(
    causal: bool, reach: tuple[int, int]
) -> None:
    estimator, mel = models.conv_f0_estimator(causal=causal), models.mel(41)
    changed = mel.clone()
    changed[..., 20] += 3
    moved = torch.nonzero((estimator.estimate(mel) != estimator.estimate(changed))[0, 0]).flatten().tolist()
    assert estimator.context == max(reach)
    assert moved == list(range(20 - reach[1], 20 + reach[0] + 1))


def test_kinds_of_estimators() -> None:
    """What is stored of the first kind is its configuration alone, as in files of earlier releases."""
    first, other = models.f0_estimator(), models.conv_f0_estimator()
    assert describe_f0_estimator(first) == first.config.model_dump(mode="json")
    assert describe_f0_estimator(other) == {"kind": "conv", "channels": 8, "causal": False}
    for estimator in (first, other):
        built = build_f0_estimator(describe_f0_estimator(estimator), models.MEL_CONFIG)
        assert (type(built), built.config) == (type(estimator), estimator.config)
    with pytest.raises(VocoderError, match="unknown f0_estimator 'crepe'; known: convnext, conv"):
        build_f0_estimator({"kind": "crepe"}, models.MEL_CONFIG)
    with pytest.raises(VocoderError, match=r"f0_estimator 'conv': unknown key 'bins' \(known keys: channels, causal\)"):
        build_f0_estimator({"kind": "conv", "bins": 3}, models.MEL_CONFIG)


@pytest.mark.parametrize("hz", [100.0, 180.0, 320.0, 600.0])
def test_the_built_in_estimator_finds_the_f0_of_a_vowel(hz: float) -> None:
    voc = load(backend="torch")
    audio = signals.voice(22050, 1.0, f0=hz, glide=0.0)
    f0 = models.f0_estimator_of(voc).estimate(torch.from_numpy(voc.analyze(audio, 22050))[None])[0, 0, 10:-10]
    assert float((f0 > 0).float().mean()) > 0.95
    assert abs(1200 * math.log2(float(f0[f0 > 0].median()) / hz)) < 30


def test_the_built_in_estimator_takes_noise_as_unvoiced() -> None:
    voc = load(backend="torch")
    f0 = models.f0_estimator_of(voc).estimate(torch.from_numpy(voc.analyze(signals.noise(22050, 1.0), 22050))[None])
    assert float((f0 > 0).float().mean()) < 0.05
