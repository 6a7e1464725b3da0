"""The importer of NeMo: its archive, and what it refuses. Its parity stands in test_parity.py."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import models
from tests.support.published import golden, write, write_tar
from vocoders import VocoderError
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.importers import files, import_checkpoint
from vocoders.importers.nemo import NEMO

CONFIG: dict[str, Any] = json.loads(str(golden("nemo")["config"]))
INSIDE = {"model_config.yaml": "config.yml", "model_weights.ckpt": "weights.ckpt"}


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder with what such an archive holds: config.yml and weights.ckpt."""
    weights = {k.removeprefix("weights/"): torch.from_numpy(v) for k, v in golden("nemo").items() if "weights/" in k}
    extra = {"mpd.discriminators.0.bias": torch.zeros(1), "audio_to_melspec_precessor.window": torch.zeros(4)}
    torch.save(weights | extra, tmp_path / "weights.ckpt")
    (tmp_path / "config.yml").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_compressed_archive_with_discriminators(parts: Path) -> None:
    write_tar(parts / "model.nemo", INSIDE, "w:gz")
    before = set(parts.iterdir())
    result = models.generator_of(import_checkpoint("nemo", parts / "model.nemo")).state_dict()
    assert set(parts.iterdir()) == before
    expected = models.generator_of(import_checkpoint(**write(parts, "nemo"))).state_dict()
    assert all(torch.equal(result[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (
            "nemo-22k",
            {"sample_rate": 22050, "n_fft": 1024, "n_window_size": 1024, "n_window_stride": 256, "highfreq": 8000},
        ),
        (
            "nemo-44k",
            {"sample_rate": 44100, "n_fft": None, "n_window_size": 2048, "n_window_stride": 512, "highfreq": None},
        ),
    ],
)
def test_the_mel_config_is_that_of_the_preprocessor(name: str, changes: dict[str, Any]) -> None:
    changes |= {"nfilt": 80, "highfreq": 8000 if name == "nemo-22k" else None}
    config = CONFIG | {"preprocessor": CONFIG["preprocessor"] | changes}
    assert NEMO.read(config, {}, None, Path("x")).mel_config == MEL_CONFIGS[name]


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("preprocessor", {"window": "hamming"}, "FilterbankFeatures with window hamming is not supported, only hann"),
        ("preprocessor", {"normalize": "per_feature"}, "with normalize per_feature is not supported, only None"),
        ("preprocessor", {"exact_pad": False}, "with exact_pad False is not supported, only True"),
        ("preprocessor", {"log_zero_guard_type": "add"}, "with log_zero_guard_type add is not supported, only clamp"),
        ("preprocessor", {"log_zero_guard_value": "tiny"}, "floor"),
        ("preprocessor", {"mag_power": 1.5}, "power"),
        (
            "preprocessor",
            {"_target_": "nemo.x.AudioToMFCC"},
            "the preprocessor x.AudioToMFCC of NeMo is not",
        ),
        (
            "generator",
            {"_target_": "nemo.x.UnivNet"},
            "the generator x.UnivNet of NeMo is not",
        ),
        ("generator", {"upsample_rates": [4, 4]}, r"4 x 4 = 16 must equal the hop_length of the mel, 8"),
    ],
)
def test_what_is_refused(part: str, changes: dict[str, Any], message: str, parts: Path) -> None:
    (parts / "config.yml").write_text(json.dumps(CONFIG | {part: CONFIG[part] | changes}))
    write_tar(parts / "model.nemo", INSIDE)
    with pytest.raises(VocoderError, match=message) as caught:
        import_checkpoint("nemo", parts / "model.nemo")
    assert "\n" not in str(caught.value)


def test_archives_that_are_refused(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parts / "model.nemo"

    def refused(message: str) -> None:
        with pytest.raises(VocoderError, match=message) as caught:
            import_checkpoint("nemo", path)
        assert "\n" not in str(caught.value)

    path.write_bytes(b"nonsense")
    refused(r"model\.nemo is not a readable archive")
    write_tar(path, {"model_config.yaml": "config.yml", "../model_weights.ckpt": "weights.ckpt"})
    refused(r"model\.nemo does not hold model_weights\.ckpt$")
    with tarfile.open(path, "w") as archive:
        for name, target in (
            ("model_config.yaml", parts / "config.yml"),
            ("model_weights.ckpt", parts / "weights.ckpt"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, str(target)
            archive.addfile(member)
    refused(r"does not hold model_config\.yaml and model_weights\.ckpt$")
    write_tar(path, INSIDE, "w:gz")
    path.write_bytes(path.read_bytes()[:-2000])
    refused(r"model\.nemo is not a readable archive")
    write_tar(path, INSIDE)
    monkeypatch.setattr(files, "_LARGEST_MEMBER", 100)
    refused(r"model_config\.yaml in .*model\.nemo is larger than")
    monkeypatch.undo()
    (parts / "config.yml").write_text("{")
    write_tar(path, INSIDE)
    refused(r"model_config\.yaml in .*model\.nemo is not a readable configuration")
    (parts / "weights.ckpt").write_bytes(b"nonsense")
    (parts / "config.yml").write_text(json.dumps(CONFIG))
    write_tar(path, INSIDE)
    refused(r"model_weights\.ckpt in .*model\.nemo")
