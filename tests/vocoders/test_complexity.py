"""Costs against the published figures, and configurations for any rate."""

import json
from typing import Any

import pytest
import yaml

from vocoders import MelConfig, VocoderError
from vocoders.cli.vocoders import vocoders as vocoders_command
from vocoders.complexity import build_on_meta, macs_per_second, mel_config_for
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators import GENERATORS, build_generator, generator_class
from vocoders.generators.hifigan import HiFiGAN
from vocoders.generators.istftnet import ISTFTNet
from vocoders.generators.parallel_wavegan import ParallelWaveGAN
from vocoders.generators.wavehax import Wavehax

MEL_CONFIG = MEL_CONFIGS["hifigan-22k"]
WAVEHAX = MEL_CONFIGS["wavehax-24k"]
FULL_BAND = WAVEHAX.model_copy(update={"sample_rate": 48000, "hop_length": 480, "n_fft": 2048, "win_length": 2048})


@pytest.mark.parametrize(
    ("name", "config", "mel_config", "published", "framing"),
    [
        ("hifigan", HiFiGAN.configs["v1"].model_dump(), MEL_CONFIG, 26.4, 0),
        ("hifigan", HiFiGAN.configs["v2"].model_dump(), MEL_CONFIG, 1.66, 0),
        ("hifigan", HiFiGAN.configs["v3"].model_dump(), MEL_CONFIG, 1.94, 0),
        ("istftnet", ISTFTNet.configs["v1-c8c8i"].model_dump(), MEL_CONFIG, 17.7, 0),
        ("parallel-wavegan", ParallelWaveGAN.configs["v1-24k"].model_dump(), MEL_CONFIGS["espnet-24k"], 31.1, 0),
        # The published implementation cuts frames and adds them up by convolutions with identity kernels, three times
        # n_fft x n_fft a frame; they count in these figures and are not done here.
        ("wavehax", Wavehax.configs["v1"].model_dump(), WAVEHAX, 1.26, 3 * 480**2 * 100),
        ("wavehax", Wavehax.configs["v2"].model_dump(), WAVEHAX, 0.75, 3 * 480**2 * 100),
        ("wavehax", Wavehax.configs["fullband"].model_dump(), FULL_BAND, 3.24, 0),
        ("multi-stream-wavehax", {}, WAVEHAX, 1.01, 3 * 120**2 * 100 * 4),
    ],
)
def test_work_as_published(
    name: str, config: dict[str, Any], mel_config: MelConfig, published: float, framing: float
) -> None:
    result = (macs_per_second(build_on_meta(name, config, mel_config)) + framing) / 1e9
    assert result == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize(("rate", "hop"), [(8000, 80), (16000, 200), (24000, 300), (44100, 441), (48000, 480)])
def test_every_generator_has_a_config_for_any_rate(name: str, rate: int, hop: int) -> None:
    mel_config = mel_config_for(rate, hop)
    assert (mel_config.sample_rate, mel_config.hop_length, mel_config.fmax) == (rate, hop, rate / 2)
    assert mel_config.win_length >= 4 * hop
    model = build_on_meta(name, GENERATORS[name].config_for(mel_config), mel_config)
    assert macs_per_second(model) > 0


def test_configs_for_48k() -> None:
    mel_config = mel_config_for(48000, 480)
    assert (mel_config.n_fft, mel_config.win_length, mel_config.n_mels) == (2048, 2048, 128)
    assert [mel_config_for(rate, 240).n_mels for rate in (16000, 22050, 24000, 44100)] == [80, 80, 100, 128]
    assert mel_config_for(16000, 200, n_mels=64).n_mels == 64
    expected = {
        "hnmask": {"n_fft": 960},
        "hifigan": {"channels": 512, "upsample_rates": (8, 6, 5, 2), "upsample_kernel_sizes": (16, 12, 10, 4)},
        "istftnet": {"upsample_rates": (10, 8), "upsample_kernel_sizes": (20, 16), "istft_hop": 6},
        "parallel-wavegan": {"upsample_rates": (5, 4, 4, 3, 2)},
        "multi-stream-wavehax": {"streams": 4, "n_fft": 240},
        "wavehax": {"n_fft": 960, "kernel_size": (15, 7)},
        "vocos": {"n_fft": 1920},
        "nsf-hifigan": {"channels": 512, "upsample_rates": (8, 6, 5, 2), "upsample_kernel_sizes": (16, 12, 10, 4)},
        "bigvgan": {"channels": 512, "upsample_rates": (8, 6, 5, 2), "upsample_kernel_sizes": (16, 12, 10, 4)},
    }
    for name, sizes in expected.items():
        assert GENERATORS[name].config_for(mel_config).model_dump(exclude_unset=True) == sizes


@pytest.mark.parametrize(
    ("name", "mel_config", "size"),
    [
        ("hifigan", "hifigan-22k", "v1"),
        ("istftnet", "hifigan-22k", "v1-c8c8i"),
        ("parallel-wavegan", "espnet-24k", "v1-24k"),
        ("vocos", "vocos-24k", "v1"),
        ("wavehax", "wavehax-24k", "v1"),
        ("bigvgan", "bigvgan-24k", "base"),
        ("nsf-hifigan", "openvpi-44k", "v1"),
    ],
)
def test_the_published_size_where_it_fits(name: str, mel_config: str, size: str) -> None:
    assert GENERATORS[name].config_for(MEL_CONFIGS[mel_config]) == GENERATORS[name].configs[size]


@pytest.mark.parametrize("name", GENERATORS)
def test_what_is_printed_is_a_recipe(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert vocoders_command(["config", "--generator", name, "--sample-rate", "48000", "--hop", "480"]) == 0
    printed = capsys.readouterr().out
    for fact in ("# parameters", "GMAC per second", "# receptive field"):
        assert fact in printed
    values = yaml.safe_load(printed)
    mel_config = MelConfig(**values["mel_config"])
    assert mel_config == MelConfig(**json.loads(printed.splitlines()[1].removeprefix("mel_config: ")))
    build_generator(values["generator"]["name"], values["generator"]["config"], mel_config)


def test_what_there_is_no_config_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(VocoderError, match="unknown generator 'hifi'; known: hnmask"):
        generator_class("hifi")
    with pytest.raises(VocoderError, match="no upsampling rates up to 16 multiply to 257; choose another hop"):
        HiFiGAN.config_for(mel_config_for(22050, 257))
    with pytest.raises(VocoderError, match="'sample_rate' = '0'"):
        mel_config_for(0, 0)
    command = ["config", "--generator", "wavehax", "--sample-rate", "2000000", "--hop", "480"]
    assert vocoders_command(command) == 2
    assert "'sample_rate' = " in capsys.readouterr().err
