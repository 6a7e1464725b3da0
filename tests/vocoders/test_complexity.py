"""Costs against the published figures, and configurations for any rate."""

import json

import pytest
import yaml

from vocoders import MelConfig, VocoderError
from vocoders.cli.vocoders import vocoders as vocoders_command
from vocoders.complexity import build_on_meta, design, macs_per_second
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators import GENERATORS, build_generator
from vocoders.generators.hifigan import HIFIGAN_CONFIGS
from vocoders.generators.istftnet import ISTFTNET_CONFIGS
from vocoders.generators.parallel_wavegan import PARALLEL_WAVEGAN_CONFIGS
from vocoders.generators.wavehax import WAVEHAX_CONFIGS

MEL_CONFIG = MEL_CONFIGS["hifigan-22k"]
WAVEHAX = MEL_CONFIGS["wavehax-24k"]
FULL_BAND = WAVEHAX.model_copy(update={"sample_rate": 48000, "hop_length": 480, "n_fft": 2048, "win_length": 2048})


@pytest.mark.parametrize(
    ("name", "config", "mel_config", "published", "framing"),
    [
        ("hifigan", HIFIGAN_CONFIGS["v1"].model_dump(), MEL_CONFIG, 26.4, 0),
        ("hifigan", HIFIGAN_CONFIGS["v2"].model_dump(), MEL_CONFIG, 1.66, 0),
        ("hifigan", HIFIGAN_CONFIGS["v3"].model_dump(), MEL_CONFIG, 1.94, 0),
        ("istftnet", ISTFTNET_CONFIGS["v1-c8c8i"].model_dump(), MEL_CONFIG, 17.7, 0),
        ("parallel-wavegan", PARALLEL_WAVEGAN_CONFIGS["v1-24k"].model_dump(), MEL_CONFIGS["espnet-24k"], 31.1, 0),
        # The published implementation cuts frames and adds them up by convolutions with identity kernels, three times
        # n_fft x n_fft a frame; they count in these figures and are not done here.
        ("wavehax", WAVEHAX_CONFIGS["v1"].model_dump(), WAVEHAX, 1.26, 3 * 480**2 * 100),
        ("wavehax", WAVEHAX_CONFIGS["v2"].model_dump(), WAVEHAX, 0.75, 3 * 480**2 * 100),
        ("wavehax", WAVEHAX_CONFIGS["fullband"].model_dump(), FULL_BAND, 3.24, 0),
        ("multi-stream-wavehax", {}, WAVEHAX, 1.01, 3 * 120**2 * 100 * 4),
    ],
)
def test_work_as_published(name: str, config: dict, mel_config: MelConfig, published: float, framing: float) -> None:
    found = (macs_per_second(build_on_meta(name, config, mel_config)) + framing) / 1e9
    assert found == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize(("rate", "hop"), [(8000, 80), (16000, 200), (24000, 300), (44100, 441), (48000, 480)])
def test_any_rate_can_be_designed_for(name: str, rate: int, hop: int) -> None:
    config, mel_config = design(name, rate, hop)
    assert (mel_config.sample_rate, mel_config.hop_length, mel_config.fmax) == (rate, hop, rate / 2)
    assert mel_config.win_length >= 4 * hop
    model = build_on_meta(name, config, mel_config)
    assert macs_per_second(model) > 1e8


@pytest.mark.parametrize("name", GENERATORS)
def test_what_is_printed_is_a_recipe(name: str, capsys: pytest.CaptureFixture) -> None:
    assert vocoders_command(["design", "--generator", name, "--sample-rate", "48000", "--hop", "480"]) == 0
    printed = capsys.readouterr().out
    for fact in ("# parameters", "GMAC per second", "# receptive field"):
        assert fact in printed
    values = yaml.safe_load(printed)
    mel_config = MelConfig(**values["mel"])
    assert mel_config == MelConfig(**json.loads(printed.splitlines()[1].removeprefix("mel: ")))
    build_generator(values["generator"]["name"], values["generator"]["config"], mel_config)


def test_what_cannot_be_designed(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(VocoderError, match="unknown generator 'hifi'; known: hnmask"):
        design("hifi", 22050, 256)
    with pytest.raises(VocoderError, match="no upsampling rates up to 16 multiply to 257; choose another hop"):
        design("hifigan", 22050, 257)
    command = ["design", "--generator", "wavehax", "--sample-rate", "0", "--hop", "480"]
    assert vocoders_command(command) == 2
    assert capsys.readouterr().err.count("\n") == 1
