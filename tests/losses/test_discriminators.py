"""The contract of all discriminators. Parity with the public implementations stands in test_parity.py."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from losses.adversarial import discriminator_loss, feature_matching, generator_loss
from losses.discriminators import DISCRIMINATORS, DiscriminatorOutput, build_discriminator
from losses.discriminators.multi_scale import ScaleDiscriminator
from tests.support import models
from vocoders import VocoderError

RATE = 24000
every = pytest.mark.parametrize("name", DISCRIMINATORS)


def small(name: str, rate: int = RATE) -> Any:
    torch.manual_seed(3)
    return build_discriminator(name, models.SMALL_DISCRIMINATORS[name], rate).eval()


def noise(batch: int = 2, samples: int = 2048, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(seed))


def flat(outputs: list[DiscriminatorOutput]) -> list[Tensor]:
    return [tensor for output in outputs for tensor in (output.scores, *output.feature_maps)]


@every
def test_shapes_and_determinism(name: str) -> None:
    discriminator = small(name)
    outputs = discriminator(noise())
    assert outputs
    for output in outputs:
        assert output.scores.shape[0] == 2
        assert len(output.feature_maps) >= 2
        assert all(m.shape[0] == 2 for m in output.feature_maps)
    again = flat(discriminator(noise()))
    assert all(torch.equal(a, b) for a, b in zip(flat(outputs), again, strict=True))


@every
def test_an_item_is_scored_as_it_would_be_alone(name: str) -> None:
    discriminator = small(name)
    audio = noise(3)
    together, alone = flat(discriminator(audio)), flat(discriminator(audio[1:2]))
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[1:2], b, rtol=1e-4, atol=1e-5)


@every
def test_gradients_reach_all_weights_and_the_audio(name: str) -> None:
    discriminator = small(name).train()
    fake = noise(seed=1).requires_grad_()
    real_outputs, fake_outputs = discriminator(noise()), discriminator(fake)
    loss = discriminator_loss(real_outputs, fake_outputs)
    loss.backward(inputs=list(discriminator.parameters()), retain_graph=True)
    for key, parameter in discriminator.named_parameters():
        if "conv_post" not in key or "bias" not in key:
            assert (parameter.grad != 0).any(), key
        assert torch.isfinite(parameter.grad).all(), key
    (generator_loss(fake_outputs) + feature_matching(fake_outputs, real_outputs)).backward(inputs=[fake])
    assert fake.grad is not None
    assert torch.isfinite(fake.grad).all()
    assert (fake.grad != 0).float().mean() > 0.5


@every
@pytest.mark.parametrize("generator_name", models.NAMES)
def test_every_generator_learns_from_it(name: str, generator_name: str) -> None:
    generator = models.generator(generator_name).train()
    discriminator = small(name, models.MEL_CONFIG.sample_rate)
    fake = generator(models.mel(64), f0=models.f0(64))
    generator_loss(discriminator(fake)).backward()
    without = []
    for key, parameter in generator.named_parameters():
        if parameter.grad is None:
            without.append(key)
        else:
            assert torch.isfinite(parameter.grad).all(), key
            assert (parameter.grad != 0).any() or "bias" in key, key
    # The residual output of Parallel WaveGAN's last layer leads nowhere, in the paper as well; the strength of HNMask's
    # projection has a loss of its own.
    assert all("conv1x1_out" in key or key.startswith("strength.") for key in without), without


@every
@pytest.mark.parametrize("kind", ["silence", "full scale", "equal"])
def test_hard_signals_in_bfloat16_and_float32(name: str, kind: str) -> None:
    real = {"silence": torch.zeros(2, 1, 2048), "full scale": noise().sign(), "equal": noise()}[kind]
    for autocast in (False, True):
        discriminator = small(name).train()
        fake = real.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            real_outputs, fake_outputs = discriminator(real), discriminator(fake)
            loss = discriminator_loss(real_outputs, fake_outputs)
            loss = loss + generator_loss(fake_outputs) + feature_matching(fake_outputs, real_outputs)
        assert loss.dtype == torch.float32
        loss.backward()
        assert torch.isfinite(loss)
        assert fake.grad is not None
        assert torch.isfinite(fake.grad).all()
        assert all(torch.isfinite(p.grad).all() for p in discriminator.parameters())


@every
@pytest.mark.slow
def test_it_learns_to_distinguish_noise_from_a_tone(name: str) -> None:
    discriminator = small(name).train()
    optimizer = torch.optim.AdamW(discriminator.parameters(), 1e-2)
    time = torch.arange(2048) / RATE
    losses = []
    for step in range(60):
        hz = 200 * (1 + torch.rand(4, 1, 1, generator=torch.Generator().manual_seed(step)))
        real = 0.3 * torch.sin(2 * torch.pi * hz * time)
        loss = discriminator_loss(discriminator(real), discriminator(noise(4, seed=step)), "hinge")
        losses.append(float(loss.detach()) / len(discriminator(real)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


@every
def test_wrong_audio_is_refused_with_the_numbers(name: str) -> None:
    discriminator = small(name)
    with pytest.raises(VocoderError, match=r"takes mono audio of shape \(batch, 1, samples\), got \(2, 2, 2048\)"):
        discriminator(noise().expand(-1, 2, -1))
    with pytest.raises(VocoderError, match=r"mono .* got \(2, 2048\)"):
        discriminator(noise().squeeze(1))
    least = discriminator.min_samples
    assert flat(discriminator(noise(samples=least)))
    if least > 1:
        with pytest.raises(VocoderError, match=rf"at least {least} samples at 24000 Hz, got {least - 1}; take longer"):
            discriminator(noise(samples=least - 1))
    else:
        with pytest.raises(VocoderError, match=r"at least 1 samples at 24000 Hz, got 0"):
            discriminator(noise(samples=0))


def test_names_and_keys_are_checked() -> None:
    with pytest.raises(VocoderError, match="unknown discriminator 'multi-periods'; known: multi-period, "):
        build_discriminator("multi-periods", {}, RATE)
    with pytest.raises(VocoderError, match=r"unknown key 'period' \(did you mean 'periods'\?\)"):
        build_discriminator("multi-period", {"period": [2]}, RATE)
    with pytest.raises(VocoderError, match=r"discriminator 'multi-scale': .*divisible by groups"):
        build_discriminator("multi-scale", {"channels": [10, 16, 16, 16]}, RATE)
    with pytest.raises(VocoderError, match=r"must pair up and be positive, got \(1024,\) and \(256, 512\)"):
        build_discriminator("multi-scale-stft", {"n_ffts": [1024], "hop_lengths": [256, 512]}, RATE)
    with pytest.raises(VocoderError, match="must pair up"):
        build_discriminator("multi-scale-subband-cqt", {"bins_per_octave": [24]}, RATE)
    with pytest.raises(VocoderError, match=r"9 octaves from 32\.7 Hz reach 16742\.4 Hz, but half the sample rate is"):
        build_discriminator("multi-scale-subband-cqt", {"n_octaves": 9, "fmin": 32.7}, RATE)


def test_the_scales_are_pooled_one_after_the_other() -> None:
    discriminator = small("multi-scale")
    pooled = nn.functional.avg_pool1d(noise(), 4, 2, padding=2)
    expected = discriminator.discriminators[1](pooled).scores
    assert torch.equal(discriminator(noise())[1].scores, expected)


def test_spectral_norm_of_the_first_scale() -> None:
    scale = ScaleDiscriminator((16, 16, 16, 16), use_spectral_norm=True).train()
    for _ in range(200):  # each evaluation in training is one step of the power iteration
        weights: list[Any] = [conv.weight for conv in scale.convs]
    largest = [torch.linalg.matrix_norm(weight.flatten(1), 2) for weight in weights]
    assert torch.stack(largest).detach() == pytest.approx(torch.ones(7), abs=0.02)
