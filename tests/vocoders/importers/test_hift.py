"""The importer of HiFT: configurations, files, and what it refuses. Its parity stands in test_parity.py."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.support import models
from tests.support.published import golden, hift_layout, refused, write
from vocoders import Vocoder, VocoderError, load_checkpoint, save_checkpoint
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.f0_estimator import ConvF0Estimator, build_f0_estimator
from vocoders.generators import build_generator
from vocoders.generators.hift import HiFT
from vocoders.importers import import_checkpoint
from vocoders.importers.hift import HIFT

# As in examples/libritts/cosyvoice2/conf/cosyvoice2.yaml, where the tag of the class stands before the mapping
COSYVOICE_2: dict[str, Any] = {
    "!": "new:cosyvoice.hifigan.generator.HiFTGenerator",
    "sampling_rate": "!ref <sample_rate>",
    "upsample_rates": [8, 5, 3],
    "upsample_kernel_sizes": [16, 11, 7],
    "source_resblock_kernel_sizes": [7, 7, 11],
    "source_resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "f0_predictor": {"!": "new:cosyvoice.hifigan.f0_predictor.ConvRNNF0Predictor", "cond_channels": 512},
}
FEATURES = {"!": "name:matcha.utils.audio.mel_spectrogram", "num_mels": 80, "fmin": 0, "center": False}


def features(n_fft: int, hop: int, fmax: float | None) -> dict[str, Any]:
    sizes = {"n_fft": n_fft, "win_size": n_fft, "hop_size": hop, "fmax": fmax}
    return FEATURES | sizes | {"sampling_rate": "!ref <sample_rate>"}


@pytest.mark.parametrize("fmax", [8000, None])
def test_the_published_configurations(fmax: float | None) -> None:
    config = {"sample_rate": 24000, "hift": COSYVOICE_2, "feat_extractor": features(1920, 480, fmax)}
    imported = HIFT.read(config, {}, None, Path("x"))
    expected = MEL_CONFIGS["cosyvoice2-24k"].model_copy(update={"fmax": fmax or 12000.0})
    assert imported.mel_config == expected
    assert build_generator("hift", imported.config, expected).config == HiFT.configs["cosyvoice2"]
    causal = COSYVOICE_2 | {
        "!": "new:cosyvoice.hifigan.generator.CausalHiFTGenerator",
        "conv_pre_look_right": 4,
        "f0_predictor": {"!": "new:cosyvoice.hifigan.f0_predictor.CausalConvRNNF0Predictor"},
    }
    imported = HIFT.read(config | {"hift": causal}, {}, None, Path("x"))
    assert build_generator("hift", imported.config, expected).config == HiFT.configs["cosyvoice3"]
    assert imported.f0_estimator is not None
    assert imported.f0_estimator[0] == {"kind": "conv", "channels": 512, "causal": True}
    with pytest.raises(VocoderError, match="HiFT with conv_pre_look_right 3 is not supported, only 4"):
        HIFT.read(config | {"hift": causal | {"conv_pre_look_right": 3}}, {}, None, Path("x"))
    # What version 1 states are the defaults of the class.
    config = {"sample_rate": 22050, "hift": {"!": COSYVOICE_2["!"]}, "feat_extractor": features(1024, 256, 8000)}
    imported = HIFT.read(config, {}, None, Path("x"))
    assert imported.mel_config == MEL_CONFIGS["hifigan-22k"]
    assert build_generator("hift", imported.config, imported.mel_config).config == HiFT.configs["cosyvoice1"]
    assert imported.f0_estimator is not None
    estimator = build_f0_estimator(imported.f0_estimator[0], imported.mel_config)
    assert isinstance(estimator, ConvF0Estimator)
    assert estimator.config.channels == 512


@pytest.mark.parametrize("part", ["hift-1", "hift-2", "hift-3"])
def test_audio_from_the_mel_alone_is_that_of_the_public_code(part: str, tmp_path: Path) -> None:
    """With F0 of the model's own estimator, of the imported checkpoint and of the one that is saved."""
    arrays = {key: torch.from_numpy(value) for key, value in golden(part).items() if value.dtype == np.float32}
    imported = import_checkpoint(**write(tmp_path, part))
    save_checkpoint(imported, tmp_path / "model.safetensors")
    for checkpoint in (imported, load_checkpoint(tmp_path / "model.safetensors")):
        voc = Vocoder(checkpoint)
        assert voc.facts.estimated == ("f0",)
        torch.testing.assert_close(voc.estimates(arrays["mel"]), arrays["f0"], atol=1e-3, rtol=0)
        audio = voc.generate(arrays["mel"], noise=arrays["noise"])
        assert float((audio - arrays["audio"]).abs().max() / arrays["audio"].std()) < 1e-4
        generator = models.generator_of(checkpoint)
        assert isinstance(generator, HiFT)
        source = generator.source_signal(arrays["f0"], arrays["noise"], None)
        assert float((source - arrays["source"]).abs().max() / arrays["source"].std()) < 2e-5


def test_the_other_files_with_the_same_weights(tmp_path: Path) -> None:
    """With the prefix of a training, beside discriminators; and by the name of CosyVoice's configuration."""
    arguments = write(tmp_path, "hift-1")
    expected = import_checkpoint(**arguments)
    weights = torch.load(tmp_path / "checkpoint.pkl")
    training = {f"generator.{key}": value for key, value in weights.items()}
    torch.save(training | {"discriminator.mpd.weight": torch.zeros(1), "step": 3}, tmp_path / "hift.pt")
    (tmp_path / "config.yml").rename(tmp_path / "cosyvoice.yaml")
    result = import_checkpoint("hift", tmp_path / "hift.pt")
    for ours, theirs in (
        (models.generator_of(result), models.generator_of(expected)),
        (models.f0_estimator_of(result), models.f0_estimator_of(expected)),
    ):
        assert all(torch.equal(ours.state_dict()[key], value) for key, value in theirs.state_dict().items())


def test_chatterbox_needs_no_configuration(tmp_path: Path) -> None:
    """Its sizes are those of CosyVoice 2, its sine generator is that of CosyVoice 1; here on shapes without values."""
    mel_config = MEL_CONFIGS["cosyvoice2-24k"]
    with torch.device("meta"):
        generator = build_generator("hift", HiFT.configs["chatterbox"], mel_config)
        estimator = build_f0_estimator({"kind": "conv"}, mel_config)
    content = {f"mel2wav.{key}": value for key, value in hift_layout(generator, estimator, 3).items()}
    content["flow.input_embedding.weight"] = torch.zeros(1)
    imported = HIFT.read({}, content, None, tmp_path)
    assert imported.mel_config == mel_config
    assert build_generator("hift", imported.config, mel_config).config == HiFT.configs["chatterbox"]
    assert imported.f0_estimator is not None
    for expected, weights in ((generator, imported.weights), (estimator, imported.f0_estimator[1])):
        assert {k: v.shape for k, v in weights.items()} == {k: v.shape for k, v in expected.state_dict().items()}
    # Where a file of it is incomplete, that is what is said, and not that it lacks a configuration.
    save_file({"mel2wav.conv_pre.weight": torch.zeros(1)}, tmp_path / "s3gen.safetensors")
    with pytest.raises(VocoderError, match=r"s3gen\.safetensors does not fit its configuration, it lacks: conv_post"):
        import_checkpoint("hift", tmp_path / "s3gen.safetensors")


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        ("generator.HiFTGenerator", "generator.HiFiGan", "the hift HiFiGan is not supported, only HiFTGenerator and C"),
        (
            "generator.HiFTGenerator",
            "generator.CausalHiFTGenerator",
            "the f0_predictor ConvRNNF0Predictor is not",
        ),
        ("f0_predictor.Conv", "f0_predictor.CausalConv", "CausalConvRNNF0Predictor is not supported, only ConvRNN"),
        ("audio.mel_spectrogram", "audio.log_mel", "the feat_extractor log_mel is not supported, only mel_spectrogram"),
        ("lrelu_slope: 0.1", "lrelu_slope: 0.2", r"lrelu_slope 0\.2 is not supported, only 0\.1"),
        ("num_class: 1", "num_class: 2", "num_class 2 is not supported, only 1"),
        ("n_fft: 16\n", "n_fft: 20\n", "n_fft 20 is not supported, only 16"),
        ("audio_limit", "conv_pre_look_right", "the configuration has hift.conv_pre_look_right, which the"),
        ("center: False", "center: True", "a feat_extractor with center True is not supported"),
        (
            "sampling_rate: !ref <sample_rate>",
            "sampling_rate: 24000",
            "mel is 22050, that of the generator 24000",
        ),
        ("sample_rate: 22050", "rate: 22050", "lacks 'sample_rate', which hift has"),
        ("hop_size: 32", "hop_size: 30", "4 x 2 x 4 = 32 must equal the hop_length of the mel, 30"),
        ("cond_channels: 6", "cond_channels: 7", r"convs\.0\.weight has the shape \(6, 8, 3\) instead of \(7, 8, 3\)"),
        ("nb_harmonics: 8", "nb_harmonics: 7", r"source\.linear\.weight has the shape \(1, 9\) instead of \(1, 8\)"),
        (r"upsample_rates: \[4, 2\]", "upsample_rates: [4]", "as many upsample_kernel_sizes, got 2"),
        (
            r"source_resblock_kernel_sizes: \[3, 5\]",
            "source_resblock_kernel_sizes: [3]",
            "2 upsample_rates, .*got 1 and 2",
        ),
        ("hift: !new", "voc: !new", "the configuration has no 'hift'; give that of CosyVoice"),
        (
            "istft_params:\n.*\n.*\n",
            "istft_params: 3\n",
            "'istft_params' of the .* it is 3",
        ),
    ],
)
def test_models_that_are_refused(pattern: str, replacement: str, message: str, tmp_path: Path) -> None:
    arguments = write(tmp_path, "hift-1")
    text = (tmp_path / "config.yml").read_text()
    changed = re.sub(pattern, replacement, text, count=1)
    assert changed != text
    (tmp_path / "config.yml").write_text(changed)
    refused(message, **arguments)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    refused(r"it lacks: source\.linear\.bias$", **write(tmp_path, "hift-1", drop="m_source.l_linear.bias"))
    refused(r"it lacks: output\.bias$", **write(tmp_path, "hift-1", drop="f0_predictor.classifier.bias"))
    refused(r"it also holds: trunk\.surprise$", **write(tmp_path, "hift-1", extra="surprise"))
    arguments = write(tmp_path, "hift-1")
    refused("contradicts --mel-config vocos-24k: ", **arguments | {"mel_config": "vocos-24k"})
    text = (tmp_path / "config.yml").read_text()
    (tmp_path / "config.yml").write_text(text[: text.index("feat_extractor")])
    refused("does not state the mel config of the model; give --mel-config", **arguments)
    (tmp_path / "config.yml").unlink()
    refused(r"the configuration has no 'hift'; give that of CosyVoice, such as cosyvoice2\.yaml: --config", **arguments)


def test_a_tag_never_builds_an_object(tmp_path: Path) -> None:
    arguments = write(tmp_path, "hift-1")
    harmful = "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path [{}]]"
    for tag in (harmful.format(tmp_path / "made"), harmful.replace("!!python/object/apply", "!apply")):
        (tmp_path / "config.yml").write_text(f"a: {tag}")
        with pytest.raises(VocoderError, match=r"not a readable configuration|has no 'hift'"):
            import_checkpoint(**arguments)
        assert not (tmp_path / "made").exists()
