"""Importers: what they read, what they refuse, and the memory they take. Their parity stands in test_parity.py."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import models
from tests.support.published import PARTS, write
from vocoders import VocoderError, load
from vocoders.cli.vocoders import vocoders as vocoders_command
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators import build_generator
from vocoders.generators.hifigan import HiFiGAN
from vocoders.importers import IMPORTERS, import_checkpoint


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "parallel-wavegan-3")
    out = tmp_path / "model.safetensors"
    files = ["--config", str(tmp_path / "config.yml"), "--stats", str(tmp_path / "stats.npy"), "-o", str(out)]
    assert vocoders_command(["import", "parallel-wavegan", str(tmp_path / "checkpoint.pkl"), *files]) == 0
    assert "parallel-wavegan" in capsys.readouterr().out
    voc = load(out)
    assert voc.mel_config.padding == "center"
    assert voc.mel_config.log == "log10"
    assert voc(torch.full((10, 4), -2.0)).shape == (240,)
    assert voc.training["imported from"] == "parallel-wavegan"
    assert vocoders_command(["import", "melgan", "x.pt", "-o", str(out)]) == 2
    assert "cannot import 'melgan'; supported: hifi-gan, istftnet" in capsys.readouterr().err


def test_the_original_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = write(tmp_path, "parallel-wavegan-3")
    files = {
        "checkpoint": arguments["checkpoint"],
        "--config": tmp_path / "config.yml",
        "--stats": tmp_path / "stats.npy",
    }
    options = [text for name, path in files.items() for text in ([name, str(path)] if name[0] == "-" else [str(path)])]
    (tmp_path / "link.safetensors").symlink_to(files["checkpoint"])
    for output in (*files.values(), tmp_path / "link.safetensors"):
        before = output.read_bytes()
        assert vocoders_command(["import", "parallel-wavegan", *options, "-o", str(output)]) == 2
        message = "is both input and output" if output.suffix == ".safetensors" else "must end in .safetensors"
        assert message in capsys.readouterr().err
        assert output.read_bytes() == before


def _write_official_hifigan(folder: Path, channels: int) -> Path:
    """Write an untrained HiFi-GAN V1 of ``channels`` channels in the official layout."""
    folder.mkdir()
    size = HiFiGAN.configs["v1"].model_copy(update={"channels": channels})
    generator, weights = build_generator("hifigan", size.model_dump(), MEL_CONFIGS["hifigan-22k"]), {}
    for key, value in generator.state_dict().items():
        flat = re.sub(
            r"resblocks\.(\d)\.(\d)", lambda m: f"resblocks.{3 * int(m[1]) + int(m[2])}", key.removeprefix("trunk.")
        )
        if key.endswith("weight"):
            weights[f"{flat}_g"], weights[f"{flat}_v"] = torch.ones(len(value), *[1] * (value.dim() - 1)), value
        elif key.endswith("bias"):
            weights[flat] = value
    torch.save({"generator": weights}, folder / "generator_v1")
    config: dict[str, object] = {
        "resblock": "1",
        "upsample_rates": [8, 8, 2, 2],
        "upsample_kernel_sizes": [16, 16, 4, 4],
    }
    config |= {"upsample_initial_channel": channels, "resblock_kernel_sizes": [3, 7, 11], "num_mels": 80, "n_fft": 1024}
    config |= {"resblock_dilation_sizes": [[1, 3, 5]] * 3, "hop_size": 256, "win_size": 1024, "sampling_rate": 22050}
    (folder / "config.json").write_text(json.dumps(config | {"fmin": 0, "fmax": 8000}))
    return folder / "generator_v1"


@pytest.mark.slow
def test_memory_for_a_checkpoint_of_55_mb(tmp_path: Path) -> None:
    """HiFi-GAN V1 in the official layout: its weights are never held three times."""
    small, large = (_write_official_hifigan(tmp_path / str(channels), channels) for channels in (32, 512))
    size = large.stat().st_size
    assert 55e6 < size < 57e6
    code = f"""
import re
from pathlib import Path
from vocoders.importers import import_checkpoint
import_checkpoint("hifi-gan", Path({str(small)!r}))  # what is imported and allocated once
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
before = peak()
import_checkpoint("hifi-gan", Path({str(large)!r}))
print(peak() - before)
"""  # not ru_maxrss, which a process takes over from its parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert size / 2 < int(done.stdout) < 2.5 * size


def test_statistics_in_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    arguments = write(tmp_path, "parallel-wavegan-3")
    mean, scale = np.load(tmp_path / "stats.npy")
    with h5py.File(tmp_path / "stats.h5", "w") as file:
        file["mean"], file["scale"] = mean, scale
    (tmp_path / "stats.npy").rename(tmp_path / "mine.npy")
    generators: list[Any] = [
        import_checkpoint(**arguments | {"stats": stats}).generator for stats in (tmp_path / "mine.npy", None)
    ]
    one, other = generators
    assert torch.equal(one.standardize.mean, other.standardize.mean)
    assert torch.equal(one.standardize.scale, other.standardize.scale)


@pytest.mark.parametrize(
    ("part", "folder"),
    [
        ("parallel-wavegan-3", None),
        ("parallel-wavegan-3", "dump/train_nodev/norm"),
        ("parallel-wavegan-hifigan-1", "raw/dump/train_nodev/norm"),
        ("parallel-wavegan-hifigan-1", "mine"),
        ("wavehax-0", None),
    ],
)
def test_a_model_of_normalised_mels_is_refused_without_statistics(
    part: str, folder: str | None, tmp_path: Path
) -> None:
    arguments = write(tmp_path, part)
    (tmp_path / "stats.npy").unlink()
    config = json.loads((tmp_path / "config.yml").read_text())
    (tmp_path / "config.yml").write_text(json.dumps(config | {"train_dumpdir": folder}))
    with pytest.raises(VocoderError, match=r"there is no stats\.h5 or stats\.npy beside .*; give --stats"):
        import_checkpoint(**arguments)


def test_a_model_of_mels_as_they_are_takes_no_statistics(tmp_path: Path) -> None:
    arguments = write(tmp_path, "parallel-wavegan-hifigan-1")
    config = json.loads((tmp_path / "config.yml").read_text())
    (tmp_path / "config.yml").write_text(json.dumps(config | {"train_dumpdir": "dump/train_nodev/raw"}))
    state = models.generator_of(import_checkpoint(**arguments)).state_dict()
    assert bool((state["standardize.mean"] == 0).all())
    assert bool((state["standardize.scale"] == 1).all())


def test_keys_missing_or_left_over_are_listed(tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match=r"does not fit its configuration, it lacks: trunk\.conv_pre\.bias"):
        import_checkpoint(**write(tmp_path, "hifi-gan-1", drop="conv_pre.bias"))
    with pytest.raises(VocoderError, match=r"it also holds: trunk\.surprise"):
        import_checkpoint(**write(tmp_path, "hifi-gan-1", extra="surprise"))


def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    arguments = write(tmp_path, "hifi-gan-1")
    torch.save({"generator": Hostile()}, arguments["checkpoint"])
    with pytest.raises(VocoderError, match="holds more than tensors; unpickling it could run code"):
        import_checkpoint(**arguments)
    assert not (tmp_path / "owned").exists()


def test_the_format_of_torch_before_1_6(tmp_path: Path) -> None:
    """No zip archive, as jik876's first checkpoints are; what else it may hold is refused just the same."""

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "owned"),)

    arguments = write(tmp_path, "hifi-gan-1")
    expected = models.generator_of(import_checkpoint(**arguments)).state_dict()
    arguments["checkpoint"] = tmp_path / "legacy.pkl"  # another file: the weights just read are mapped from the first
    content = torch.load(tmp_path / "checkpoint.pkl")
    torch.save(content, arguments["checkpoint"], _use_new_zipfile_serialization=False)
    assert not zipfile.is_zipfile(arguments["checkpoint"])
    result = models.generator_of(import_checkpoint(**arguments)).state_dict()
    assert all(torch.equal(result[key], value) for key, value in expected.items())
    data = arguments["checkpoint"].read_bytes()
    arguments["checkpoint"].write_bytes(data[: len(data) // 2])
    with pytest.raises(VocoderError, match=r"legacy\.pkl is not a readable checkpoint"):
        import_checkpoint(**arguments)
    torch.save({"generator": Hostile()}, arguments["checkpoint"], _use_new_zipfile_serialization=False)
    with pytest.raises(VocoderError, match="holds more than tensors; unpickling it could run code"):
        import_checkpoint(**arguments)
    assert not (tmp_path / "owned").exists()


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    arguments = write(tmp_path, "hifi-gan-1")
    config = json.loads((tmp_path / "config.yml").read_text())

    def refused(message: str, **changes: object) -> None:
        with pytest.raises(VocoderError, match=message) as caught:
            import_checkpoint(**arguments | changes)
        assert "\n" not in str(caught.value)

    refused("there is no file", checkpoint=tmp_path / "gone.pt")
    refused("the configuration contradicts --mel-config .* n_mels 80 against 100", mel_config="bigvgan-24k")
    (tmp_path / "stats.joblib").write_bytes(b"\x80")
    refused("a joblib file is a pickle and is never loaded", stats=tmp_path / "stats.joblib")
    np.save(tmp_path / "short.npy", np.zeros((2, 79)))
    refused("must hold mean and scale of 80 bands", stats=tmp_path / "short.npy")
    (tmp_path / "config.yml").write_text(json.dumps(config | {"upsample_initial_channel": 32}))
    refused(r"has the shape \(16, 80, 7\) instead of \(32, 80, 7\)")
    (tmp_path / "config.yml").write_text(json.dumps(config | {"upsample_kernel_sizes": [7, 7, 4]}))
    refused(r"trunk\.ups\.0\.weight has the shape \(16, 8, 8\) instead of \(16, 8, 7\)")
    del config["hop_size"]
    (tmp_path / "config.yml").write_text(json.dumps(config))
    refused("lacks 'hop_size', which hifi-gan has")
    (tmp_path / "config.yml").write_text("{")
    refused("is not a readable configuration")
    (tmp_path / "config.yml").unlink()
    refused(r"there is no config\.json, config\.yml or config\.yaml beside")
    refused("there is no file .*gone.pt$", checkpoint=tmp_path / "gone.pt")
    refused("is a folder, not a checkpoint", checkpoint=tmp_path)
    arguments["checkpoint"].write_bytes(b"nonsense")
    (tmp_path / "config.yml").write_text("a: 1")
    refused(r"checkpoint\.pkl is not a readable checkpoint \(torch has written no such file\)")


def test_an_upsampling_that_is_longer_before_an_inverse_stft_is_refused(tmp_path: Path) -> None:
    arguments = write(tmp_path, "istftnet")
    config = json.loads((tmp_path / "config.yml").read_text())
    (tmp_path / "config.yml").write_text(json.dumps(config | {"upsample_kernel_sizes": [7, 4]}))
    with pytest.raises(VocoderError, match="an upsampling by 4 with kernel 7 gives no whole frames"):
        import_checkpoint(**arguments)


def test_a_mel_config_that_the_configuration_does_not_state_must_be_given(tmp_path: Path) -> None:
    arguments = write(tmp_path, "wavehax-0")
    with pytest.raises(VocoderError, match=r"does not state the mel config .*; give --mel-config"):
        import_checkpoint(**arguments | {"mel_config": None})


def test_parts_of_complex_weights_that_do_not_fit(tmp_path: Path) -> None:
    def refused(message: str, drop: str = "", extra: str = "") -> None:
        arguments = write(tmp_path, "complex-wavehax", drop=drop, extra=extra)
        with pytest.raises(VocoderError, match=message) as caught:
            import_checkpoint(**arguments)
        assert "\n" not in str(caught.value)

    refused(r"lacks 'blocks\.0\.pwconv1\.imag_conv\.bias', which wavehax has", drop="blocks.0.pwconv1.imag_conv.bias")
    refused(r"it lacks: blocks\.1\.gamma$", drop="blocks.1.gamma")
    refused(r"it also holds: blocks\.2\.dwconv\.imag_conv\.weight$", extra="blocks.2.dwconv.imag_conv.weight")
    part = "input_proj.imag_conv.weight"
    refused(r"the parts of input_proj\.weight differ in shape: \(3, 3, 1, 1\) and \(1,\)", drop=part, extra=part)


def test_every_family_is_shown_in_the_help_and_covered_by_parity(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        vocoders_command(["import", "--help"])
    assert stopped.value.code == 0
    helped = " ".join(capsys.readouterr().out.split())
    assert vocoders_command(["list"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    for name, importer in IMPORTERS.items():
        assert importer.name == name
        assert "\n" not in importer.description
        for text in (helped, listed):
            assert f"{name} {importer.description}" in text
    # MMAudio has the BigVGAN of version 1: no code of its own beyond the sizes
    assert {part[0] for part in PARTS.values()} | {"mmaudio"} == set(IMPORTERS)


def test_a_checkpoint_of_another_layout(tmp_path: Path) -> None:
    arguments = write(tmp_path, "hifi-gan-1")
    for content in ([1, 2], {"generator": [1]}, {"generator": {"conv_pre.weight": 3}}):
        torch.save(content, arguments["checkpoint"])
        with pytest.raises(VocoderError, match=r"checkpoint\.pkl"):
            import_checkpoint(**arguments)
    config = json.loads((tmp_path / "config.yml").read_text())
    for key, value in (("fmin", "low"), ("upsample_rates", 8), ("upsample_rates", [8, 8, 8, 8, 8])):
        (tmp_path / "config.yml").write_text(json.dumps(config | {key: value}))
        with pytest.raises(VocoderError) as caught:
            import_checkpoint(**arguments)
        assert "\n" not in str(caught.value)
