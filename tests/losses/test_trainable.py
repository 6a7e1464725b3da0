"""Front-ends with trainable bases: they start as the fixed ones, and learn."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from losses.cqt import CQT
from vocoders import LogMelSpectrogram, MelConfig
from vocoders.dsp.stft import STFT

MEL_CONFIG = MelConfig(sample_rate=8000, n_fft=128, hop_length=32, win_length=96, n_mels=20, fmin=0, fmax=4000)
FRONT_ENDS: dict[str, Callable[[bool], nn.Module]] = {
    "stft": lambda trainable: STFT(128, 32, 96, trainable=trainable),
    "mel": lambda trainable: LogMelSpectrogram(MEL_CONFIG, trainable=trainable),
    "cqt": lambda trainable: CQT(8000, 40, bins_per_octave=12, n_octaves=4, trainable=trainable),
}
every = pytest.mark.parametrize("name", FRONT_ENDS)


def noise(seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(4, 1600, generator=torch.Generator().manual_seed(seed))


def real(values: Tensor) -> Tensor:
    return torch.view_as_real(values) if values.is_complex() else values


@every
def test_it_starts_as_the_fixed_one(name: str) -> None:
    fixed, trainable = FRONT_ENDS[name](False), FRONT_ENDS[name](True)
    assert list(fixed.parameters()) == []
    assert list(trainable.parameters()) != []
    torch.testing.assert_close(real(trainable(noise())), real(fixed(noise())), rtol=1e-4, atol=1e-4)


@every
def test_a_few_steps_move_the_bases_and_lower_a_loss(name: str) -> None:
    """It learns what the fixed front-end shows of the audio behind an equaliser it does not know."""
    fixed, trainable = FRONT_ENDS[name](False), FRONT_ENDS[name](True)
    before = [p.detach().clone() for p in trainable.parameters()]
    optimizer = torch.optim.Adam(trainable.parameters(), 1e-4 if name == "mel" else 1e-3)
    losses = []
    for step in range(60):
        audio = noise(step)
        behind = F.conv1d(audio[:, None], torch.tensor([[[0.3, 1.0, -0.4]]]), padding=1)[:, 0]
        loss = F.mse_loss(real(trainable(audio)), real(fixed(behind)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(not torch.equal(a, b) for a, b in zip(before, trainable.parameters(), strict=True))
    assert losses[-1] < 0.8 * losses[0]


def test_a_trainable_stft_has_no_inverse() -> None:
    stft = STFT(128, 32, trainable=True)
    with pytest.raises(RuntimeError, match="no inverse"):
        stft.inverse(stft(noise()))


@pytest.mark.parametrize("padding", ["same", "same-zeros", "center"])
def test_trainable_stft_in_every_padding(padding: str) -> None:
    fixed, trainable = (STFT(128, 32, 96, padding, torch.float64, t) for t in (False, True))
    torch.testing.assert_close(trainable(noise()), fixed(noise()))
