"""Wavehax: statistics, and the published sizes; its parity stands in test_parity.py."""

import pytest
import torch

from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators import build_generator
from vocoders.generators.wavehax import Wavehax


def test_statistics_standardise_the_mel() -> None:
    model = build_generator("wavehax", {}, MEL_CONFIGS["wavehax-24k"])
    assert isinstance(model, Wavehax)
    mel, f0 = torch.randn(1, 100, 5), torch.full((1, 1, 5), 200.0)
    plain = model(mel, f0=f0)
    model.standardize.mean.fill_(-5.0)
    model.standardize.scale.fill_(2.0)
    torch.testing.assert_close(model(mel * 2 - 5, f0=f0), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("version", "millions"), [("v1", 0.623), ("v2", 0.601), ("fullband", 2.02)])
@pytest.mark.parametrize("framewise", [False, True])
def test_published_sizes(version: str, millions: float, framewise: bool) -> None:
    config = Wavehax.configs[version].model_dump() | {"framewise_norm": framewise}
    mel_config = MEL_CONFIGS["wavehax-24k"]
    if version == "fullband":
        mel_config = mel_config.model_copy(
            update={"sample_rate": 48000, "hop_length": 480, "n_fft": 2048, "win_length": 2048}
        )
    model = build_generator("wavehax", config, mel_config)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert (model.context is not None) == framewise
