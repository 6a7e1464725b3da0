"""NSF-HiFiGAN: what the contract of all generators does not cover. Its parity stands in test_parity.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import models
from vocoders import Vocoder, VocoderError
from vocoders.checkpoint import Checkpoint
from vocoders.dsp.harmonics import frame_phase
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators import build_generator
from vocoders.generators.nsf_hifigan import INITIAL_PHASES, NSFHiFiGAN, SineSource
from vocoders.inputs import NOISE
from vocoders.nn.layers import HarmonicSource
from vocoders.onnx.export import export_onnx
from vocoders.onnx.vocoder import OnnxVocoder

SINE: dict[str, Any] = {"source": "fundamental"}


@pytest.mark.parametrize(("version", "millions"), [("v1", 14.169), ("mini", 14.133)])
def test_published_sizes(version: str, millions: float) -> None:
    with torch.device("meta"):
        model = build_generator("nsf-hifigan", NSFHiFiGAN.configs[version].model_dump(), MEL_CONFIGS["openvpi-44k"])
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert (NOISE in model.inputs) == (version == "v1")


@pytest.mark.parametrize("config", [{}, SINE])
@pytest.mark.parametrize("hop", [30, 32])
def test_a_window_with_its_phase_is_a_part_of_the_whole(config: dict[str, Any], hop: int) -> None:
    """Also where the convolutions of the source have odd strides, as with a hop of 30."""
    mel_config = models.MEL_CONFIG.model_copy(update={"hop_length": hop})
    rates = [2, 5, 3] if hop == 30 else [4, 8]
    sizes = {"upsample_rates": rates, "upsample_kernel_sizes": [2 * rate for rate in rates]}
    model = models.generator("nsf-hifigan", mel_config, **sizes, **config)
    mel, f0 = models.mel(60), models.f0(60)
    noise = {"noise": torch.randn(1, 1, 60 * hop)} if NOISE in model.inputs else {}
    phase = frame_phase(f0, mel_config, model.next_f0_share)[..., 20:21]
    window, samples = slice(20, 50), slice(20 * hop, 50 * hop)
    part, other = (
        model(
            mel[..., window],
            f0=f0[..., window],
            phase=start,
            **{name: value[..., samples] for name, value in noise.items()},
        ).detach()
        for start in (phase, phase + 0.5)
    )
    reach = model.context
    assert isinstance(reach, int)
    whole = model(mel, f0=f0, **noise).detach()
    assert whole.shape == (1, 1, 60 * hop)
    inner = slice(reach * hop, -reach * hop)
    difference, another_phase = part - whole[..., samples], part - other
    assert float(difference[..., inner].abs().max() / another_phase.abs().max()) < 1e-3


def test_the_sine_glides_from_frame_to_frame() -> None:
    source = SineSource(models.MEL_CONFIG, 32)
    f0 = torch.tensor([[[200.0, 300.0, 250.0]]])
    increments = torch.cat(
        [torch.linspace(200, 300, 33)[:-1], torch.linspace(300, 250, 33)[:-1], torch.full((32,), 250.0)]
    )
    expected = torch.sin(2 * torch.pi * (increments.double() / 8000).cumsum(0)).float()
    torch.testing.assert_close(source(f0, None)[0, 0], expected, atol=1e-5, rtol=0)


def test_the_sine_reaches_the_frame_before_as_far_as_it_glides() -> None:
    source = SineSource(models.MEL_CONFIG, 32)
    f0 = torch.full((1, 1, 9), 250.0)
    other = f0.clone()
    other[..., 4] = 750.0  # whole periods in the two frames that it takes part in
    changed = torch.nonzero((source(f0, None) - source(other, None)).abs().reshape(9, 32).amax(1) > 1e-4)
    assert changed.flatten().tolist() == [3, 4]


def test_the_source_of_harmonics_is_the_sum_of_its_sines_and_their_noise() -> None:
    source = HarmonicSource(INITIAL_PHASES)
    weight, bias = source.linear.weight[0].double(), source.linear.bias.double()
    f0, generator = torch.tensor([[[200.0, 0.0]]]), torch.Generator().manual_seed(0)
    noise = torch.randn(1, 1, 64, generator=generator)
    cycles = torch.arange(1, 65, dtype=torch.float64).reshape(1, 1, 2, 32) * 200 / 8000
    theirs = torch.zeros(64, dtype=torch.float64)
    for k, start in enumerate(INITIAL_PHASES):
        sine = torch.sin(2 * torch.pi * ((k + 1) * cycles.flatten(-2) + start)) * 0.1
        theirs = theirs + weight[k] * torch.where(torch.arange(64) < 32, sine, 0.0)
    deviation = torch.where(torch.arange(64) < 32, 0.003, 0.1 / 3) * weight.square().sum().sqrt()
    expected = torch.tanh(theirs + deviation * noise + bias).float()
    torch.testing.assert_close(source(cycles, f0 > 0, noise), expected, atol=1e-6, rtol=0)


def test_the_phase_stays_exact_in_long_audio() -> None:
    model = models.generator("nsf-hifigan", **SINE)
    mel, f0 = models.mel(20), torch.full((1, 1, 20), 250.0)  # whole periods in a frame
    later = torch.full((1, 1, 1), 1e6, dtype=torch.float64)
    torch.testing.assert_close(model(mel, f0=f0, phase=later), model(mel, f0=f0), atol=1e-6, rtol=0)


def test_one_sine_exports_and_streams(tmp_path: Path) -> None:
    checkpoint = Checkpoint(models.MEL_CONFIG, models.generator("nsf-hifigan", **SINE))
    export_onnx(checkpoint, tmp_path / "model.onnx")
    voc, mel, f0 = OnnxVocoder(tmp_path / "model.onnx"), models.mel(70)[0].numpy(), models.f0(70)[0, 0].numpy()
    whole = Vocoder(checkpoint)(mel, f0)
    assert NOISE not in voc.facts.inputs
    np.testing.assert_allclose(voc(mel, f0), whole, atol=1e-5)
    pieces = list(voc.stream(np.split(mel, [1, 25], 1), np.split(f0, [1, 25])))
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)


def test_one_sine_in_a_batch_of_several_lengths_is_as_alone() -> None:
    voc = Vocoder(Checkpoint(models.MEL_CONFIG, models.generator("nsf-hifigan", **SINE)))
    mels = [models.mel(frames, seed=frames)[0].numpy() for frames in (150, 90, 148)]
    f0s = [models.f0(mel.shape[1], seed=i)[0, 0].numpy() for i, mel in enumerate(mels)]
    for audio, mel, f0 in zip(voc.synthesize_batch(mels, f0s), mels, f0s, strict=True):
        np.testing.assert_allclose(audio, voc(mel, f0), atol=1e-5)


def test_one_sine_needs_a_second_stage() -> None:
    with pytest.raises(VocoderError, match=r"'fundamental' needs two upsample_rates or more, got \(8,\)"):
        build_generator(
            "nsf-hifigan",
            {"source": "fundamental", "upsample_rates": [8], "upsample_kernel_sizes": [16]},
            models.MEL_CONFIG.model_copy(update={"hop_length": 8}),
        )
