"""Sizes and configurations of the published generators; their parity stands in test_parity.py."""

from typing import Any

import pytest
import torch

from vocoders import MelConfig, VocoderError
from vocoders.config import Config
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators import build_generator
from vocoders.generators.bigvgan import BigVGAN
from vocoders.generators.hifigan import HiFiGAN
from vocoders.generators.hift import HiFT
from vocoders.generators.istftnet import ISTFTNet
from vocoders.generators.parallel_wavegan import ParallelWaveGAN
from vocoders.generators.vocos import Vocos

MEL_CONFIG = MEL_CONFIGS["hifigan-22k"]


@pytest.mark.parametrize(
    ("name", "config", "mel_config", "millions"),
    [
        ("hifigan", HiFiGAN.configs["v1"], MEL_CONFIG, 13.93),
        ("hifigan", HiFiGAN.configs["v2"], MEL_CONFIG, 0.926),
        ("hifigan", HiFiGAN.configs["v3"], MEL_CONFIG, 1.46),
        ("istftnet", ISTFTNet.configs["v1-c8c8i"], MEL_CONFIG, 13.25),
        ("parallel-wavegan", ParallelWaveGAN.configs["v1"], MEL_CONFIGS["pwg-ljspeech-22k"], 1.33),
        ("parallel-wavegan", ParallelWaveGAN.configs["v1-24k"], MEL_CONFIGS["espnet-24k"], 1.33),
        ("vocos", Vocos.configs["v1"], MEL_CONFIGS["vocos-24k"], 13.53),
        ("bigvgan", BigVGAN.configs["base"], MEL_CONFIGS["bigvgan-24k"], 14.0),
        ("hift", HiFT.configs["cosyvoice1"], MEL_CONFIG, 17.18),
        ("hift", HiFT.configs["cosyvoice2"], MEL_CONFIGS["cosyvoice2-24k"], 17.53),
    ],
)
def test_published_sizes(name: str, config: Config, mel_config: MelConfig, millions: float) -> None:
    model = build_generator(name, config.model_dump(), mel_config)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.005)


@pytest.mark.parametrize("variant", ISTFTNet.configs)
def test_variants_of_istftnet_fit_a_hop_of_256(variant: str) -> None:
    model = build_generator("istftnet", ISTFTNet.configs[variant].model_dump(), MEL_CONFIG)
    with torch.no_grad():
        assert model(torch.full((1, 80, 3), -5.0)).shape == (1, 1, 768)


@pytest.mark.parametrize("rates", [(5, 3), (4, 5), (7, 2), (3, 6)])
@pytest.mark.parametrize("extra", [0, 1, 2, 5])
def test_any_rate_and_kernel_give_the_exact_length(rates: tuple[int, int], extra: int) -> None:
    hop = rates[0] * rates[1]
    mel_config = MEL_CONFIG.model_copy(update={"hop_length": hop})
    config = {"channels": 8, "upsample_rates": rates, "upsample_kernel_sizes": [rate + extra for rate in rates]}
    model = build_generator("hifigan", config, mel_config)
    for frames in (1, 2, 7):
        assert model(torch.zeros(1, 80, frames)).shape == (1, 1, frames * hop)


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("hifigan", {"upsample_rates": [8, 8, 2], "upsample_kernel_sizes": [16, 16, 4]}, r"8 x 8 x 2 = 128 .*, 256"),
        ("hifigan", {"upsample_rates": [8, 8, 4]}, "3 upsample_rates need as many upsample_kernel_sizes, got 4"),
        ("hifigan", {"upsample_kernel_sizes": [4, 16, 4, 4]}, "upsampling by 8 with kernel 4 leaves gaps"),
        (
            "hifigan",
            {"resblock_kernel_sizes": [3, 7]},
            "2 resblock_kernel_sizes need as many resblock_dilations, got 3",
        ),
        ("hifigan", {"upsample_rates": [8, 8, 4, 1]}, "without upsampling needs an odd kernel, got 4"),
        ("hifigan", {"channels": 24}, "24 channels cannot be halved 4 times"),
        ("istftnet", {"istft_hop": 8}, r"8 x 8 x 8 = 512 .*, 256"),
        ("parallel-wavegan", {"upsample_rates": [4, 4]}, r"4 x 4 = 16 .*, 256"),
        ("parallel-wavegan", {"layers": 31}, "31 layers cannot be divided into 3 stacks"),
        ("vocos", {"n_fft": 510}, "twice the hop_length of the mel, 256; got 510"),
        ("parallel-wavegan", {"gate_channels": 7}, "gate_channels must be even, got 7"),
    ],
)
def test_configurations_that_do_not_fit(name: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(VocoderError, match=message):
        build_generator(name, config, MEL_CONFIG)
