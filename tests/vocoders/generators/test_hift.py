"""HiFT: what the contract of all generators does not cover. Its parity stands in test_parity.py."""

import math

import pytest
import torch

from tests.support import models
from vocoders.dsp.harmonics import frame_phase
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators.hift import HiFT, HiFTConfig

HOP, RATE = models.MEL_CONFIG.hop_length, models.MEL_CONFIG.sample_rate
both_sources = pytest.mark.parametrize("source", [1, 2])


def hift(source: int) -> HiFT:
    torch.manual_seed(0)
    config = HiFT.small_config(models.MEL_CONFIG).model_dump() | {"source": source, "harmonics": 8}
    return HiFT(HiFTConfig(**config), models.MEL_CONFIG).requires_grad_(False)


def sines_alone(f0: torch.Tensor, source: int, phase: torch.Tensor | None = None) -> torch.Tensor:
    """The signal before tanh, without noise and bias."""
    module = hift(source)
    module.source.linear.bias.zero_()
    return torch.atanh(module.source_signal(f0, torch.zeros(len(f0), 1, f0.shape[-1] * HOP), phase).double())


@pytest.mark.parametrize("name", ["cosyvoice2-24k", "hifigan-22k"])
def test_the_design_for_their_mel_configs_is_the_published_one(name: str) -> None:
    expected = HiFT.configs["cosyvoice2" if name == "cosyvoice2-24k" else "cosyvoice1"]
    assert HiFT.config_for(MEL_CONFIGS[name]) == expected.model_copy(update={"source": 2})


@pytest.mark.parametrize("hop", [7, 31, 97 * 4])
def test_hops_without_small_factors(hop: int) -> None:
    """A hop that the inverse STFT takes whole still has one stage, which upsamples nothing."""
    mel_config = models.MEL_CONFIG.model_copy(update={"hop_length": hop, "win_length": 512, "n_fft": 512})
    if hop > 31:
        with pytest.raises(ValueError, match="no upsampling rates up to 16 multiply to 97"):
            HiFT.config_for(mel_config)
        return
    model = HiFT(HiFT.small_config(mel_config), mel_config)
    assert model.config.upsample_rates == (1,)
    assert model(models.mel(3), f0=models.f0(3)).shape == (1, 1, 3 * hop)


def test_source_1_is_the_running_sum_of_the_frequency() -> None:
    f0 = torch.tensor([[[110.0, 113.0, 2.0, 250.0]]])
    turns = (f0.double().repeat_interleave(HOP, -1) / RATE).cumsum(-1) * 2 * math.pi
    weight = hift(1).source.linear.weight[0].double()
    voiced = (f0 > 10).repeat_interleave(HOP, -1)
    expected = 0.1 * voiced * sum(w * torch.sin((k + 1) * turns) for k, w in enumerate(weight))
    torch.testing.assert_close(sines_alone(f0, 1), expected, atol=1e-6, rtol=0)


def test_source_2_has_each_frequency_from_middle_to_middle() -> None:
    """Sample n is at n + 1/2; before the first middle and after the last one the phase stands still."""
    f0 = torch.tensor([[[110.0, 113.0, 2.0, 250.0]]])
    ends = (f0[0, 0].double() * HOP / RATE).cumsum(0)
    time = torch.arange(4 * HOP, dtype=torch.float64) + 0.5
    frame = (time / HOP - 0.5).clamp(0, 3)
    first = frame.floor().long().clamp(max=2)
    turns = (ends[first] + (frame - first) * (ends[first + 1] - ends[first])) * 2 * math.pi
    weight = hift(2).source.linear.weight[0].double()
    voiced = (f0 > 10).repeat_interleave(HOP, -1)
    expected = 0.1 * voiced * sum(w * torch.sin((k + 1) * turns) for k, w in enumerate(weight))
    torch.testing.assert_close(sines_alone(f0, 2), expected, atol=1e-6, rtol=0)


@both_sources
def test_chunks_with_their_phase_join_to_the_whole(source: int) -> None:
    """But for the ends of a chunk, where source 2 waits for the next frame; a generator gets context there."""
    f0 = models.f0(40)
    whole, phase = sines_alone(f0, source), frame_phase(f0, models.MEL_CONFIG)
    for first, last in ((0, 17), (9, 30), (30, 40)):
        part = sines_alone(f0[..., first:last], source, phase[..., first : first + 1])
        inner = slice(HOP, (last - first - 1) * HOP)
        expected = whole[..., first * HOP : last * HOP]
        torch.testing.assert_close(part[..., inner], expected[..., inner], atol=1e-6, rtol=0)


@both_sources
def test_phases_stay_exact_after_an_hour(source: int) -> None:
    frames = 3600 * RATE // HOP
    f0 = torch.full((1, 1, frames), 250.0)  # whole periods in a frame
    audio = sines_alone(f0, source)[0, 0].reshape(frames, HOP)
    torch.testing.assert_close(audio[-2], audio[1], atol=1e-6, rtol=0)


@both_sources
def test_noise_has_the_deviation_of_independent_draws_for_each_sine(source: int) -> None:
    module = hift(source)
    module.source.linear.bias.zero_()
    noise = torch.randn(1, 1, 2000 * HOP)
    for f0, deviation in ((9.0, 0.1 / 3), (200.0, 0.003)):
        track = torch.full((1, 1, 2000), f0)
        difference = torch.atanh(module.source_signal(track, noise, None)) - torch.atanh(
            module.source_signal(track, torch.zeros_like(noise), None)
        )
        expected = deviation * float(module.source.linear.weight.norm())
        assert float(difference.std()) == pytest.approx(expected, rel=0.02)


def test_magnitudes_and_audio_are_bounded() -> None:
    model = models.generator("hift")
    with torch.no_grad():
        model.get_parameter("conv_post.bias")[:9] = 1e4  # whose exponential is infinite
    audio = model(models.mel(9), f0=models.f0(9)).detach()
    assert torch.isfinite(audio).all()
    assert float(audio.abs().max()) == pytest.approx(0.99)


def test_snake_without_gradients_is_the_same() -> None:
    model, mel, f0 = models.generator("hift"), models.mel(9), models.f0(9)
    with torch.no_grad():
        audio = model(mel, f0=f0)
    torch.testing.assert_close(audio, model(mel, f0=f0), atol=1e-6, rtol=0)
