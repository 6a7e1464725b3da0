"""The importer of SpeechBrain: its YAML, and what it refuses. Its parity stands in test_parity.py."""

from pathlib import Path

import pytest
import torch

from tests.support import models
from tests.support.published import golden, refused, write
from vocoders import VocoderError
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.importers import import_checkpoint
from vocoders.importers.files import read_config
from vocoders.importers.speechbrain import SPEECHBRAIN

YAML = str(golden("speechbrain-1")["config"])


def test_tags_are_plain_values_and_build_nothing(tmp_path: Path) -> None:
    path = tmp_path / "hyperparams.yaml"
    path.write_text(f"a: !apply:os.mkdir [{tmp_path / 'made'}]\nb: !new:os.Thing\n  c: !ref <a>\nd: !PLACEHOLDER\n")
    assert read_config(path) == {
        "a": [str(tmp_path / "made")],
        "b": {"!": "new:os.Thing", "c": "!ref <a>"},
        "d": "!PLACEHOLDER ",
    }
    assert not (tmp_path / "made").exists()
    path.write_text("a: !!python/object/apply:os.mkdir [made]")
    with pytest.raises(VocoderError, match="is not a readable configuration"):
        read_config(path)


def test_the_mel_config_of_a_training(tmp_path: Path) -> None:
    """As in recipes/LibriTTS/vocoder/hifigan at 16 kHz, and at the rate of LJ Speech."""
    arguments = write(tmp_path, "speechbrain-1")
    changes = {
        "sample_rate: 8000": "sample_rate: 16000",
        "in_channels: 4": "in_channels: 80",
        "f_max: 4000": "f_max: 8000",
    }
    changes |= {"hop_length: 8": "hop_length: 256", "win_length: 64": "win_length: 1024", "n_fft: 64": "n_fft: 1024"}
    text = YAML
    for old, new in changes.items():
        text = text.replace(old, new)
    for rate, name in ((16000, "speechbrain-16k"), (22050, "tacotron2-22k")):
        (tmp_path / "hyperparams.yaml").write_text(text.replace("sample_rate: 16000", f"sample_rate: {rate}"))
        weights = torch.load(arguments["checkpoint"])
        imported = SPEECHBRAIN.read(read_config(tmp_path / "hyperparams.yaml"), weights, None, Path("x"))
        assert imported.mel_config == MEL_CONFIGS[name]
        assert imported.config["edge_frames"] == 2


def test_a_configuration_without_the_mel_config_needs_one_stated(tmp_path: Path) -> None:
    """As of a file that only synthesises; with the rate and sizes of a recipe it has that of the recipe."""
    arguments = write(tmp_path, "speechbrain-1")
    (tmp_path / "hyperparams.yaml").write_text(YAML[: YAML.index("mel_spectogram:")])
    with pytest.raises(VocoderError, match=r"does not state the mel config .*; give --mel-config"):
        import_checkpoint(**arguments)
    stated = "tacotron2-22k:sample_rate=8000,n_fft=64,hop_length=8,win_length=64,n_mels=4,fmax=4000"
    model = models.generator_of(import_checkpoint(**arguments | {"mel_config": stated}))
    assert model(torch.zeros(1, 4, 3)).shape == (1, 1, 24)
    generator = {
        "!": "new:HifiGAN.HifiganGenerator",
        "in_channels": 80,
        "upsample_factors": [8, 8, 2, 2],
        "resblock_type": "1",
    }
    generator |= {"upsample_kernel_sizes": [16, 16, 4, 4], "upsample_initial_channel": 512}
    generator |= {"resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3, 5]]}
    for rate, name in ((16000, "speechbrain-16k"), (22050, "tacotron2-22k")):
        settings = {"sample_rate": rate, "generator": generator}
        assert SPEECHBRAIN.read(settings, {}, None, Path("x")).mel_config == MEL_CONFIGS[name]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HiFiGAN.HifiganGenerator", "HiFiGAN.UnitHifiganGenerator", "the generator UnitHifiganGenerator .* only Hifi"),
        ("cond_channels: 0", "cond_channels: 7", "with cond_channels 7 is not supported, only 0"),
        ("normalized: False", "normalized: True", "mel_spectogram with normalized True is not supported, only False"),
        ("upsample_factors: [4, 2]", "", "lacks 'upsample_factors', which speechbrain has"),
        ("!ref <channels>", "!ref <chanels>", "lacks 'chanels', which speechbrain has"),
        ("!new:speechbrain.lobes.models.HifiGAN.HifiganGenerator", "", "the generator without a class of SpeechBrain"),
        ("hop_length: 8", "hop_length: 16", r"4 x 2 = 8 must equal the hop_length of the mel, 16"),
    ],
)
def test_what_is_refused(old: str, new: str, message: str, tmp_path: Path) -> None:
    arguments = write(tmp_path, "speechbrain-1")
    text = YAML.replace("HifiGAN.HifiganGenerator", "HiFiGAN.HifiganGenerator") if "HiFiGAN" in old else YAML
    assert old in text
    (tmp_path / "hyperparams.yaml").write_text(text.replace(old, new))
    refused(message, **arguments)


def test_without_its_configuration(tmp_path: Path) -> None:
    arguments = write(tmp_path, "speechbrain-1")
    (tmp_path / "hyperparams.yaml").unlink()
    with pytest.raises(VocoderError, match=r"there is no hyperparams\.yaml beside .*; give --config"):
        import_checkpoint(**arguments)
