"""Wavehax: parity with the authors' implementation, and the published sizes.

data/wavehax_golden.npz was made by running chomeyama/wavehax (WavehaxGenerator with 8 mels, 6 channels, 2 blocks,
kernel 5 x 3, n_fft 48, hop 24, 2400 Hz, random weights) with its random numbers replaced: the noise by the one stored,
the initial phase by zero. Weights are stored under our names: depthwise kernels with bins and frames swapped, 1 x 1
convolutions as matrices.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from vocoders import MelSpec
from vocoders.generators import build_generator
from vocoders.generators.wavehax import WAVEHAX_CONFIGS, Wavehax
from vocoders.mel import CONVENTIONS

GOLDEN = Path(__file__).parent.parent / "data" / "wavehax_golden.npz"


@pytest.mark.parametrize("norm", ["utterance", "framewise"])
def test_parity_with_the_published_implementation(norm: str) -> None:
    with np.load(GOLDEN) as stored:
        golden = {k.removeprefix(f"{norm}/"): torch.from_numpy(stored[k]) for k in stored.files if k.startswith(norm)}
    spec = MelSpec(sample_rate=2400, n_fft=96, hop_length=24, win_length=96, n_mels=8, fmin=0, fmax=1200)
    config = {"n_fft": 48, "channels": 6, "blocks": 2, "kernel_size": [5, 3], "framewise_norm": norm == "framewise"}
    model = build_generator("wavehax", config, spec)
    assert isinstance(model, Wavehax)
    weights = {k.removeprefix("weights/"): v for k, v in golden.items() if k.startswith("weights/")}
    assert model.load_state_dict(weights, strict=False).missing_keys == ["standardize.mean", "standardize.scale"]
    with torch.no_grad():
        audio = model(golden["mel"], f0=golden["f0"], noise=golden["noise"])
        prior = model.prior(golden["f0"], golden["noise"], None)
    assert float((prior - golden["prior"]).abs().max() / golden["prior"].std()) < 1e-4
    assert float((audio - golden["audio"]).abs().max() / golden["audio"].std()) < 1e-4


def test_statistics_standardise_the_mel() -> None:
    model = build_generator("wavehax", {}, CONVENTIONS["wavehax-24k"])
    mel, f0 = torch.randn(1, 100, 5), torch.full((1, 1, 5), 200.0)
    plain = model(mel, f0=f0)
    model.standardize.mean.fill_(-5.0)
    model.standardize.scale.fill_(2.0)
    torch.testing.assert_close(model(mel * 2 - 5, f0=f0), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("version", "millions"), [("v1", 0.623), ("v2", 0.601), ("fullband", 2.02)])
@pytest.mark.parametrize("framewise", [False, True])
def test_published_sizes(version: str, millions: float, framewise: bool) -> None:
    config = WAVEHAX_CONFIGS[version].model_dump() | {"framewise_norm": framewise}
    spec = CONVENTIONS["wavehax-24k"]
    if version == "fullband":
        spec = spec.model_copy(update={"sample_rate": 48000, "hop_length": 480, "n_fft": 2048, "win_length": 2048})
    model = build_generator("wavehax", config, spec)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert (model.receptive_field is not None) == framewise
