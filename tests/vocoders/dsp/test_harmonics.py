"""Phase of the harmonics."""

import torch

from tests.support.models import MEL_CONFIG
from vocoders.dsp.harmonics import frame_phase, sample_phase

HOP, RATE = MEL_CONFIG.hop_length, MEL_CONFIG.sample_rate


def test_the_phase_at_each_sample_is_the_running_sum_of_the_frequency() -> None:
    f0 = torch.tensor([[[0.0, 110.0, 113.0, 0.0, 2500.0]]])
    phase = torch.full((1, 1, 1), 0.3, dtype=torch.float64)
    expected = 0.3 + (f0.double().repeat_interleave(HOP, -1) / RATE).cumsum(-1)
    difference = sample_phase(f0, MEL_CONFIG, phase).flatten(-2) - expected
    torch.testing.assert_close(difference, difference.round(), atol=1e-12, rtol=0)


def test_the_phase_of_a_frame_counts_the_next_frame_by_its_share() -> None:
    f0 = torch.tensor([[[100.0, 200.0, 0.0, 60.0]]])
    means = torch.tensor([125.0, 150.0, 15.0, 60.0], dtype=torch.float64)  # the last frame has no next one
    expected = torch.cat([torch.zeros(1), (means * HOP / RATE).cumsum(0).remainder(1)])
    torch.testing.assert_close(frame_phase(f0, MEL_CONFIG, 0.25)[0, 0], expected, atol=1e-12, rtol=0)
