"""HiFT: what the contract of all generators does not cover. Its parity stands in test_parity.py."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import models
from vocoders import Vocoder
from vocoders.checkpoint import Checkpoint
from vocoders.dsp.harmonics import frame_phase
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators.base import Generator
from vocoders.generators.hift import HiFT
from vocoders.generators.hift_trunk import HiFTConfig
from vocoders.onnx.export import export_onnx
from vocoders.onnx.vocoder import OnnxVocoder

HOP, RATE = models.MEL_CONFIG.hop_length, models.MEL_CONFIG.sample_rate
both_sources = pytest.mark.parametrize("source", [1, 2])


def hift(source: int) -> HiFT:
    torch.manual_seed(0)
    config = models.small("hift") | {"source": source, "harmonics": 8}
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
    model = models.generator("hift", mel_config)
    assert isinstance(model, HiFT)
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


def causal() -> Generator:
    """Of which little is clipped."""
    return models.generator("hift", causal=True, source=3, audio_limit=100.0)


def causal_checkpoint() -> Checkpoint:
    return Checkpoint(models.MEL_CONFIG, causal(), models.conv_f0_estimator(causal=True))


def test_the_causal_variant_depends_on_the_frames_that_it_states() -> None:
    model = causal()
    reach = model.context
    assert reach is not None
    frames = 2 * reach + 11
    mel, f0 = models.mel(frames), torch.full((1, 1, frames), 250.0)
    other_mel, other_f0 = mel.clone(), f0.clone()
    other_mel[..., reach + 5] += 2.0
    other_f0[..., reach + 5] = 0.0  # a period is whole in a frame: later phases stay
    audio, lasts = model(mel, f0=f0), []
    for changed in (model(other_mel, f0=f0), model(mel, f0=other_f0)):
        where = (changed != audio).reshape(frames, HOP).any(1).nonzero().flatten() - reach - 5
        assert int(where.min()) >= -5  # 4 frames ahead, and the window of the inverse STFT
        lasts.append(int(where.max()))
    assert reach - 1 <= max(lasts) <= reach


def test_the_causal_variant_streams_with_a_short_delay() -> None:
    """Its delay is less than ``lookahead``, which counts as many frames ahead as behind."""
    voc = Vocoder(causal_checkpoint())
    mel = models.mel(60)[0]
    stream = voc.open_stream()
    pieces = []
    for frame in range(60):
        pieces.append(stream.push(mel[:, frame : frame + 1]))
        assert sum(map(len, pieces)) >= (frame - 5) * HOP
    whole = voc(mel)
    tolerance = 1e-5 * float(whole.abs().max())
    torch.testing.assert_close(torch.cat([*pieces, stream.finish()]), whole, atol=tolerance, rtol=0)
    batched = voc.synthesize_batch([mel.numpy(), mel[:, :57].numpy()])
    torch.testing.assert_close(torch.from_numpy(batched[0]), whole, atol=tolerance, rtol=0)


@pytest.mark.slow
def test_the_causal_variant_exports(tmp_path: Path) -> None:
    checkpoint = causal_checkpoint()
    export_onnx(checkpoint, tmp_path / "model.onnx")
    voc, mel = OnnxVocoder(tmp_path / "model.onnx"), models.mel(80)[0].numpy()
    whole = Vocoder(checkpoint)(mel)
    tolerance = 1e-5 * np.abs(whole).max()
    np.testing.assert_allclose(voc(mel), whole, atol=tolerance)
    pieces = list(voc.stream([mel[:, :1], mel[:, 1:50], mel[:, 50:]]))
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=tolerance)


def test_source_3_holds_its_phase_in_each_frame() -> None:
    f0 = torch.tensor([[[110.0, 113.0, 2.0, 250.0]]])
    turns = ((f0[0, 0].double() * HOP / RATE).cumsum(0) * 2 * math.pi).repeat_interleave(HOP)
    weight = hift(3).source.linear.weight[0].double()
    voiced = (f0 > 10).repeat_interleave(HOP, -1)
    expected = 0.1 * voiced * sum(w * torch.sin((k + 1) * turns) for k, w in enumerate(weight))
    deviation = torch.where(voiced, 0.003, 0.1 / 3)
    torch.testing.assert_close(sines_alone(f0, 3), expected + deviation * weight.sum() / 2, atol=1e-6, rtol=0)


def test_snake_without_gradients_is_the_same() -> None:
    model, mel, f0 = models.generator("hift"), models.mel(9), models.f0(9)
    with torch.no_grad():
        audio = model(mel, f0=f0)
    torch.testing.assert_close(audio, model(mel, f0=f0), atol=1e-6, rtol=0)
