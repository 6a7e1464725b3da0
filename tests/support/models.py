"""Small models for the tests: every generator and discriminator, quick to run."""

import torch

from losses.discriminators import DISCRIMINATORS
from vocoders import MelConfig
from vocoders.checkpoint import Checkpoint
from vocoders.f0_estimator import F0Estimator, F0EstimatorConfig
from vocoders.generators import GENERATORS, build_generator
from vocoders.generators.base import Generator

MEL_CONFIG = MelConfig(sample_rate=8000, n_fft=128, hop_length=32, win_length=128, n_mels=20, fmin=0, fmax=4000)

SMALL = {
    "hnmask": {
        "n_fft": 64,
        "backbone_channels": 16,
        "backbone_blocks": 1,
        "channels": 6,
        "blocks": 2,
        "kernel_size": [5, 3],
    },
    "hifigan": {
        "channels": 16,
        "upsample_rates": [8, 4],
        "upsample_kernel_sizes": [16, 8],
        "resblock_kernel_sizes": [3, 5],
        "resblock_dilations": [[1, 3], [1, 2]],
    },
    "istftnet": {
        "channels": 16,
        "upsample_rates": [8],
        "upsample_kernel_sizes": [16],
        "istft_hop": 4,
        "resblock_kernel_sizes": [3],
        "resblock_dilations": [[1, 3]],
    },
    "parallel-wavegan": {
        "layers": 6,
        "stacks": 2,
        "residual_channels": 8,
        "gate_channels": 8,
        "skip_channels": 8,
        "upsample_rates": [4, 8],
    },
    "multi-stream-wavehax": {"streams": 2, "n_fft": 32, "channels": 6, "blocks": 2, "kernel_size": [5, 3]},
    "wavehax": {"n_fft": 64, "channels": 6, "blocks": 2, "kernel_size": [5, 3], "framewise_norm": True},
}
assert set(SMALL) == set(GENERATORS)

SMALL_DISCRIMINATORS = {name: kind.small_config.model_dump(mode="json") for name, kind in DISCRIMINATORS.items()}
SOME_DISCRIMINATORS = {
    name: SMALL_DISCRIMINATORS[name] for name in ("multi-scale", "multi-scale-stft", "multi-scale-subband-cqt")
}


def fitted(name: str, hop: int) -> dict:
    """A small configuration for a hop length that 4 divides."""
    if name in ("hnmask", "wavehax"):
        return SMALL[name] | {"n_fft": 2 * hop}
    if name == "multi-stream-wavehax":
        return SMALL[name] | {"n_fft": hop}
    if name == "istftnet":
        return SMALL[name] | {"upsample_rates": [hop // 4], "upsample_kernel_sizes": [hop // 2]}
    rates = {"upsample_rates": [hop // 4, 4]}
    return SMALL[name] | rates | ({"upsample_kernel_sizes": [hop // 2, 8]} if name == "hifigan" else {})


def generator(name: str, mel_config: MelConfig = MEL_CONFIG, **changes) -> Generator:
    """A small generator with weights large enough that everything acts."""
    torch.manual_seed(1)
    model = build_generator(name, SMALL[name] | changes, mel_config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def f0_estimator(mel_config: MelConfig = MEL_CONFIG) -> F0Estimator:
    torch.manual_seed(2)
    return F0Estimator(F0EstimatorConfig(channels=16, blocks=1, bins=96, bins_per_octave=24), mel_config).eval()


def checkpoint(name: str = "hnmask", mel_config: MelConfig = MEL_CONFIG) -> Checkpoint:
    return Checkpoint(mel_config, generator(name, mel_config), f0_estimator(mel_config), {"data": "none"})


def mel(frames: int, batch: int = 1, mel_config: MelConfig = MEL_CONFIG, seed: int = 0) -> torch.Tensor:
    """(batch, n_mels, frames), in the range of log-mels of speech."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(batch, mel_config.n_mels, frames, generator=source) * 1.2 - 6.5


def f0(frames: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """(batch, 1, frames) in Hz with unvoiced stretches."""
    source = torch.Generator().manual_seed(seed)
    track = 90 + 200 * torch.rand(batch, 1, frames, generator=source)
    track[..., 3:5] = 0
    return track
