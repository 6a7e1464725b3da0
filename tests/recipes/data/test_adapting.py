"""Random mel configs for the training on approximated mels."""

import torch

from recipes.data.adapting import random_mel_config
from vocoders import MEL_CONFIGS

TARGET = MEL_CONFIGS["bigvgan-24k"]


def test_random_mel_configs_cover_the_ranges() -> None:
    torch.manual_seed(0)
    drawn = [random_mel_config(TARGET, torch.rand(9)) for _ in range(400)]
    for mel_config in drawn:  # valid, or the constructor had refused it
        assert mel_config.sample_rate == 24000
        assert 0.005 <= mel_config.hop_length / 24000 <= 0.0211
        assert 2 * mel_config.hop_length <= mel_config.win_length <= 0.0855 * 24000
        assert 64 <= mel_config.n_mels <= 128
    for field in ("mel_scale", "mel_norm", "power", "floor"):
        assert len({getattr(mel_config, field) for mel_config in drawn}) >= 2
    assert {mel_config.fmin > 0 for mel_config in drawn} == {True, False}
    assert min(mel_config.fmax for mel_config in drawn) == 7600
    assert max(mel_config.fmax for mel_config in drawn) > 11900


def test_the_same_numbers_draw_the_same_mel_config() -> None:
    uniform = torch.rand(9)
    assert random_mel_config(TARGET, uniform) == random_mel_config(TARGET, uniform)
