"""The contract, for every generator: shapes, determinism, independence within a batch, bounded context, gradients."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import models
from tests.support.sizes import GENERATOR_SIZES
from vocoders import VocoderError
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.dsp.noise import white_noise
from vocoders.generators import GENERATORS, build_generator
from vocoders.generators.base import Generator
from vocoders.generators.hnmask import HNMask
from vocoders.inputs import F0, NOISE, PHASE

every_generator = pytest.mark.parametrize("name", models.NAMES)


def needed(model: Generator, frames: int, batch: int = 1) -> dict[str, torch.Tensor]:
    """What a caller has to give beside the mel: all inputs but noise, which is drawn, and the phase, which is 0."""
    values = models.inputs(model, frames, batch)
    return {item.name: values[item.name] for item in model.inputs if item not in (NOISE, PHASE)}


def shape(model: Generator, frames: int, batch: int = 1) -> tuple[int, int, int]:
    """Shape of the audio."""
    return batch, model.channels, frames * model.samples_per_frame


@every_generator
@pytest.mark.parametrize("frames", [1, 2, 3, 17])
def test_length(name: str, frames: int) -> None:
    model = models.generator(name)
    audio = model(models.mel(frames, 2), **needed(model, frames, 2))
    assert audio.shape == shape(model, frames, 2)
    assert audio.dtype == torch.float32
    assert torch.isfinite(audio).all()


@every_generator
def test_the_same_call_gives_the_same_audio_and_the_seed_matters(name: str) -> None:
    model = models.generator(name)
    given = needed(model, 9)
    first, again, other = (model(models.mel(9), **given, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert torch.equal(first, other) != (NOISE in model.inputs)
    torch.manual_seed(99)  # the global generator has no say
    assert torch.equal(first, model(models.mel(9), **given, seed=3))


@every_generator
def test_an_item_of_a_batch_sounds_as_alone(name: str) -> None:
    model = models.generator(name)
    mel, given = models.mel(23, 3), needed(model, 23, 3)
    batch = model(mel, **given)
    for i in range(3):
        alone = model(mel[i : i + 1], **{key: value[i : i + 1] for key, value in given.items()})
        torch.testing.assert_close(batch[i : i + 1], alone, atol=1e-5, rtol=0)


@every_generator
def test_given_noise_replaces_the_drawn_one(name: str) -> None:
    model = models.generator(name)
    given = needed(model, 9)
    drawn = model(models.mel(9), **given, seed=7)
    samples = 9 * model.samples_per_frame
    noise = {"noise": torch.from_numpy(white_noise(0, samples, 7))[None, None]} if NOISE in model.inputs else {}
    assert torch.equal(drawn, model(models.mel(9), **given, **noise, seed=0))


@pytest.mark.parametrize(
    ("name", "changes"), [*((name, {}) for name in models.STREAMING), ("hnmask", {"free_pitch": True})]
)
@pytest.mark.parametrize("moved", ["mel", "f0"])
@pytest.mark.parametrize("win_length", [128, 64])
def test_context_and_lookahead_are_what_a_perturbed_frame_shows(
    name: str, changes: dict[str, Any], moved: str, win_length: int
) -> None:
    model = models.generator(name, models.MEL_CONFIG.model_copy(update={"win_length": win_length}), **changes)
    if changes:
        model.get_parameter("strength.output.bias").data.zero_()  # far from 0 the strength hardly varies
    reach, ahead = model.context, model.lookahead
    assert reach is not None
    assert ahead is not None
    frames = 2 * reach + 21
    middle = frames // 2
    mel, given = models.mel(frames), needed(model, frames)
    if F0 in model.inputs:
        given["f0"] = torch.full((1, 1, frames), 250.0)
    other_mel, other = mel.clone(), dict(given)
    if moved == "mel":
        other_mel[..., middle] += 2.0
    elif F0 in model.inputs:
        other["f0"] = given["f0"].clone()
        other["f0"][..., middle] = 750.0  # both have whole periods in a frame of 32 samples at 8 kHz: later phases stay
    difference = (model(mel, **given) - model(other_mel, **other)).abs().amax(1).reshape(frames, -1).amax(1)
    reached = torch.nonzero(difference).flatten().tolist()
    if moved == "f0" and F0 not in model.inputs:
        assert not reached
        return
    changed = f"context is {reach}, lookahead {ahead}; frames {reached[0] - middle} to {reached[-1] - middle} change"
    assert middle - ahead <= reached[0], changed
    assert reached[-1] <= middle + reach, changed
    if moved == "mel":  # not merely large enough: what the mel does not pass through is at most one transform
        spare = 1 + (128 - win_length) // 32  # and the zeros around a window, for what has one
        spare += 2 * (name == "univnet")  # it convolves whole frames
        assert reached[0] <= middle - ahead + spare, changed
        assert reached[-1] >= middle + reach - spare, changed


@pytest.mark.parametrize(
    ("name", "changes"), [*((name, {}) for name in models.NAMES), ("hnmask", {"free_pitch": True})]
)
def test_gradients_reach_every_parameter_and_the_mel(name: str, changes: dict[str, Any]) -> None:
    model = models.generator(name, **changes).train()
    mel = models.mel(12).requires_grad_()
    outputs = model.outputs(mel, [needed(model, 12)])
    outputs["audio"][0].square().mean().backward()
    for loss in model.own_losses(mel.detach(), models.mel(12, seed=1), outputs).values():
        loss.backward()
    assert mel.grad is not None
    assert (mel.grad != 0).any()
    dead = [
        key for key, parameter in model.named_parameters() if parameter.grad is None or not (parameter.grad != 0).any()
    ]
    # The residual output of the last layer of Parallel WaveGAN goes nowhere; its published checkpoints hold it.
    assert [key for key in dead if not key.startswith("conv_layers.5.conv1x1_out.")] == []


@every_generator
def test_shapes_that_do_not_fit_are_refused(name: str) -> None:
    model = models.generator(name)
    with pytest.raises(ValueError, match=r"mel must be \(batch, 20, frames >= 1\), got \(1, 21, 4\)"):
        model(torch.zeros(1, 21, 4))
    with pytest.raises(ValueError, match="frames >= 1"):
        model(torch.zeros(1, 20, 0))
    if F0 in model.inputs:
        with pytest.raises(ValueError, match="needs f0"):
            model(models.mel(4))
        with pytest.raises(ValueError, match=r"f0 must be \(1, 1, 4\)"):
            model(models.mel(4), f0=models.f0(5))
    if NOISE in model.inputs:
        samples = 4 * model.samples_per_frame
        with pytest.raises(ValueError, match=rf"noise must be \(1, 1, {samples}\)"):
            model(models.mel(4), **needed(model, 4), noise=torch.zeros(1, 1, samples - 1))


@every_generator
def test_autocast_keeps_the_audio_float32(name: str) -> None:
    model = models.generator(name)
    with torch.autocast("cpu", torch.bfloat16):
        audio = model(models.mel(9), **needed(model, 9))
    assert audio.dtype == torch.float32
    assert torch.isfinite(audio).all()


@every_generator
def test_every_mel_config_can_be_built_for(name: str) -> None:
    for mel_config in MEL_CONFIGS.values():
        model = build_generator(name, models.small(name, mel_config), mel_config)
        audio = model(torch.full((1, mel_config.n_mels, 5), -4.0), **needed(model, 5))
        assert audio.shape == shape(model, 5)


@every_generator
def test_outputs_are_what_forward_gives_for_each_draw(name: str) -> None:
    model = models.generator(name)
    mel, given = models.mel(9, 2), models.inputs(model, 9, 2)
    other = given | {"noise": torch.randn(given["noise"].shape)} if NOISE in model.inputs else given
    outputs = model.outputs(mel, [given, other])
    assert tuple(outputs) == model.output_names
    for draws in outputs.values():
        assert [draw.shape for draw in draws] == [shape(model, 9, 2)] * 2
    for values, audio in zip([given, other], outputs["audio"], strict=True):
        assert torch.equal(audio, model(mel, **values))
    with pytest.raises(ValueError, match="frames >= 1"):
        model.outputs(mel[..., :0], [given])


@every_generator
def test_configs_are_valid_and_sizes_for_tests_small(name: str) -> None:
    kind = GENERATORS[name]
    assert kind.config_type() == next(iter(kind.configs.values()))  # the default
    assert name not in GENERATOR_SIZES or sum(p.numel() for p in models.generator(name).parameters()) < 50_000
    assert all(isinstance(config, kind.config_type) for config in kind.configs.values())


def test_the_draft_is_what_the_projection_starts_from() -> None:
    model = models.generator("hnmask")
    mel, f0 = models.mel(9), models.f0(9)
    outputs = model.outputs(mel, [{"f0": f0}])
    assert not torch.equal(outputs["draft"][0], outputs["audio"][0])
    unprojected = models.generator("hnmask", projections=0)
    assert isinstance(unprojected, HNMask)
    assert torch.equal(unprojected.fade_ends(outputs["draft"][0]), unprojected(mel, f0=f0))


@torch.no_grad()
def test_the_projection_goes_less_far_where_the_mel_seems_wrong() -> None:
    model, mel = models.generator("hnmask").train(), models.mel(9)  # in training it does not overshoot
    assert isinstance(model, HNMask)
    draft = model.outputs(mel, [{"f0": models.f0(9)}])["draft"][0]
    model.get_parameter("strength.output.weight").zero_()
    louder = model.mel(draft[:, 0]) + 1
    for share, expected in ((1e-6, 0.0), (0.5, 0.5), (1 - 1e-6, 1.0)):
        model.get_parameter("strength.output.bias").fill_(math.log(share / (1 - share)))
        for passes in (1, 3):  # more of them go no further
            audio = model.project(draft, louder, passes)
            torch.testing.assert_close(audio, draft * math.exp(expected), atol=1e-5, rtol=1e-4)


def test_the_strength_is_learned_from_the_error_of_the_mel() -> None:
    model, exact = models.generator("hnmask"), models.mel(9)
    losses = []
    for sign in (1, -1):
        last = model.get_parameter("strength.output.bias")
        last.data.fill_(sign * 3.0)
        losses.append(
            [float(model.own_losses(exact + error, exact, {})["strength"].detach()) for error in (0.0, 0.1, 2.0)]
        )
    trusting, doubting = losses
    assert trusting[0] < trusting[1] < trusting[2]
    assert doubting[0] > doubting[1] > doubting[2]
    assert models.generator("hnmask", adaptive_projection=False).own_losses(exact, exact, {}) == {}


def test_with_free_pitch_each_band_is_trusted_by_itself() -> None:
    model, exact = models.generator("hnmask", free_pitch=True).train(), models.mel(40)
    outputs = model.outputs(exact, [{"f0": models.f0(40)}])
    assert isinstance(model, HNMask)
    model.get_parameter("strength.output.weight").data.zero_()
    bias = model.get_parameter("strength.output.bias")
    wrong = exact.clone()
    wrong[:, :6] += 3.0  # of 20 bands; the two next to them are doubted as well
    for given, share in ((exact, 1.0), (wrong, 12 / 20)):
        losses = []
        for logit in (-3.0, 3.0):
            bias.data.fill_(logit)
            losses.append(float(model.own_losses(given, exact, outputs)["strength"].detach()))
        # Cross-entropy of both logits differs by what their difference weighs of the targets' mean.
        assert (losses[0] - losses[1]) / 6 + 0.5 == pytest.approx(share, abs=1e-3)


def test_audio_is_faded_at_its_ends_alone() -> None:
    model, samples = models.generator("hnmask"), 9 * models.MEL_CONFIG.hop_length
    assert isinstance(model, HNMask)
    faded = model.fade_ends(torch.ones(1, 1, samples))[0, 0]
    edge = round(0.001 * models.MEL_CONFIG.sample_rate)
    assert torch.all(faded[: edge + 1].diff() > 0)
    torch.testing.assert_close(faded[edge:-edge], torch.ones(samples - 2 * edge))
    torch.testing.assert_close(faded, faded.flip(0))
    assert float(faded[0]) < 2 / edge


def test_unknown_names_and_values_are_refused() -> None:
    with pytest.raises(VocoderError, match=r"unknown generator 'wavehx'; known: .*hnmask.* wavehax"):
        build_generator("wavehx", {}, models.MEL_CONFIG)
    with pytest.raises(VocoderError, match="did you mean 'channels'"):
        build_generator("wavehax", {"chanels": 3}, models.MEL_CONFIG)
    with pytest.raises(VocoderError, match=r"kernel_size.*must be odd"):
        build_generator("wavehax", {"kernel_size": [4, 7]}, models.MEL_CONFIG)
    with pytest.raises(VocoderError, match=r"kernel_size.*must be odd"):
        build_generator("hnmask", {"kernel_size": [6, 5]}, models.MEL_CONFIG)
    with pytest.raises(VocoderError, match="twice the hop_length of the mel, 256; got 480"):
        build_generator("wavehax", {}, MEL_CONFIGS["hifigan-22k"])


def test_any_part_of_the_noise_is_that_part_of_the_whole() -> None:
    whole = white_noise(0, 70_000, 5)
    for start, stop in ((0, 1), (0, 16_384), (16_383, 16_385), (40_001, 70_000), (3, 3)):
        np.testing.assert_array_equal(white_noise(start, stop, 5), whole[start:stop])
    assert whole.dtype == np.float32
    assert float(whole.mean()) == pytest.approx(0, abs=0.02)
    assert float(whole.std()) == pytest.approx(1, abs=0.02)
    assert abs(np.corrcoef(whole[:16_384], whole[16_384:32_768])[0, 1]) < 0.03
    assert not np.array_equal(white_noise(0, 100, 6), whole[:100])
