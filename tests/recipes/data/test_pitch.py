"""Mels of another pitch: of a synthetic voice they are those of that voice at that pitch."""

import numpy as np
import pytest
import torch

from recipes.data.config import Augmentation
from recipes.data.pitch import transpose_mel, transpose_share
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MEL_CONFIGS

MEL = LogMelSpectrogram(MEL_CONFIGS["openvpi-44k"])
RATE, HOP, FRAMES = 44100, 512, 40


def voice(f0: float) -> torch.Tensor:
    """Harmonics below 16 kHz under one smooth envelope, of the same power in a band whatever F0 is: (1, samples)."""
    time = np.arange(FRAMES * HOP) / RATE
    audio = np.zeros(len(time))
    for k in range(1, int(16000 / f0)):
        level = np.exp(-k * f0 / 4000) * (1 + 0.8 * np.cos(2 * np.pi * k * f0 / 1500))
        audio += level * np.sqrt(f0) * np.cos(2 * np.pi * k * f0 * time + 0.7 * k * k)
    return torch.from_numpy(2e-4 * audio).float()[None]


def f0_of(value: float) -> torch.Tensor:
    return torch.full((1, 1, FRAMES), value)


@pytest.mark.parametrize("semitones", [-12, -5, 7, 12])
def test_harmonics_move_and_formants_stay(semitones: int) -> None:
    ratio = 2 ** (semitones / 12)
    moved = transpose_mel(voice(220.0), f0_of(220.0), ratio, MEL)
    target, same = MEL(voice(220.0 * ratio)), MEL(voice(220.0))
    below = slice(0, 90 if ratio < 1 else 110)  # up to 7 and 12 kHz: played slower, a recording has no highs
    inner = slice(6, -6)
    error = (moved - target)[:, below, inner].abs()
    assert float(error.mean()) < 0.35
    assert float(error.mean()) < 0.2 * float((same - target)[:, below, inner].abs().mean())


def test_a_ratio_of_one_changes_nothing() -> None:
    noise = 0.1 * torch.randn(2, FRAMES * HOP, generator=torch.Generator().manual_seed(0))
    f0 = torch.cat([f0_of(0.0), f0_of(300.0)])
    torch.testing.assert_close(transpose_mel(noise, f0, 1.0, MEL), MEL(noise), atol=1e-4, rtol=0)


def test_half_of_the_mels_are_transposed_within_the_range() -> None:
    audio, f0 = voice(220.0).expand(4, -1), f0_of(220.0).expand(4, -1, -1)
    mel = MEL(audio)
    uniform = torch.tensor([[0.75, 0.1, 0], [0.2, 0.9, 0], [0.1, 0.49, 0], [0.9, 0.51, 0]])
    shares = Augmentation(pitch=1.0, semitones=(-10, 6))
    given = transpose_share(mel, audio, f0, shares, uniform, MEL)
    changed = transpose_mel(audio[:1], f0[:1], 2 ** (2 / 12), MEL)[0]  # three quarters of the way from -10 to 6
    for i, expected in enumerate((changed, mel[1], changed, mel[3])):
        torch.testing.assert_close(given[i], expected)
