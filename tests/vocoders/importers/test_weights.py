"""Weights and statistics of other projects as they come: alone, under prefixes, damaged, or made to harm."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.models import generator_of
from tests.support.published import PARTS, golden, refused, write, write_tar
from vocoders import VocoderError, load
from vocoders.importers import import_checkpoint
from vocoders.importers.files import read_stats

HIFI_GAN = "hifi-gan-1"
FIRST = {family: part for part, (family, *_) in reversed(PARTS.items())}  # one of each family
LAYOUTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "alone": lambda weights: weights,
    "module": lambda weights: {f"module.{key}": value for key, value in weights.items()},
    "compiled": lambda weights: {f"_orig_mod.{key}": value for key, value in weights.items()},
    "both, in a training": lambda w: {"model": {"generator": {f"module._orig_mod.{k}": v for k, v in w.items()}}},
    "a part compiled": lambda w: {"generator": {k.replace(".", "._orig_mod.", 1): v for k, v in w.items()}},
    "beside discriminators": lambda w: {
        "state_dict": {f"generator.{k}": v for k, v in w.items()} | {"discriminator.weight": torch.zeros(1)}
    },
}


def weights_of(part: str) -> dict[str, torch.Tensor]:
    return {
        k.removeprefix("weights/"): torch.from_numpy(v) for k, v in golden(part).items() if k.startswith("weights/")
    }


def save(content: Any, arguments: dict[str, Any]) -> None:
    """Write a checkpoint in the place of the golden one; a new file, because the old one is mapped."""
    path = arguments["checkpoint"] = arguments["checkpoint"].with_name(f"new-{arguments['checkpoint'].name}")
    torch.save(content, path)
    if arguments["family"] == "nemo":
        torch.save(content, path.with_name("inside"))
        write_tar(path, {"model_config.yaml": "config.yml", "model_weights.ckpt": "inside"})


@pytest.mark.parametrize("family", sorted(FIRST.keys() - {"ltx2-single-file"}))
def test_weights_load_alone_and_under_every_prefix(family: str, tmp_path: Path) -> None:
    arguments = write(tmp_path, FIRST[family])
    expected = generator_of(import_checkpoint(**arguments)).state_dict()
    weights = {key.removeprefix("generator."): value for key, value in weights_of(FIRST[family]).items()}
    for name, layout in LAYOUTS.items():
        save(layout(weights), arguments)
        result = generator_of(import_checkpoint(**arguments)).state_dict()
        assert result.keys() == expected.keys(), name
        assert all(torch.equal(result[key], value) for key, value in expected.items()), name


@pytest.mark.parametrize(
    ("part", "text", "number"),
    [
        ("hifi-gan-2", '"resblock": "2"', '"resblock": 1'),  # whatever is not "1" is kind 2 there
        ("hifi-gan-1", '"resblock": "1"', '"resblock": 1'),
        ("nsf-hifigan-harmonics", '"resblock": "1"', '"resblock": 1'),
        ("bigvgan-2", '"resblock": "2"', '"resblock": 2'),
        ("istftnet", '"resblock": "1"', '"resblock": 1'),
        ("amphion", '"resblock": "2"', '"resblock": 1'),
        ("coqui-1", '"resblock_type": "1"', '"resblock_type": 1'),
        ("coqui-2", '"resblock_type": "2"', '"resblock_type": 1'),
        ("hifi-gan-2", "[[1, 2], [2, 6]]", "[[1, 2, 5], [2, 6, 9]]"),  # of which kind 2 uses two
    ],
)
def test_the_kind_of_blocks_is_that_of_the_weights(part: str, text: str, number: str, tmp_path: Path) -> None:
    arguments = write(tmp_path, part)
    (path,) = [p for p in tmp_path.iterdir() if p.suffix in (".yml", ".json")]
    expected = generator_of(import_checkpoint(**arguments))
    assert text in path.read_text()
    path.write_text(path.read_text().replace(text, number))
    result = generator_of(import_checkpoint(**arguments))
    assert result.config == expected.config
    assert all(torch.equal(result.state_dict()[key], value) for key, value in expected.state_dict().items())


def not_finite(weights: dict[str, Any]) -> None:
    weights["conv_post.bias"] = torch.full_like(weights["conv_post.bias"], torch.nan)


def no_direction(weights: dict[str, Any]) -> None:
    weights["conv_pre.weight_v"] = torch.zeros_like(weights["conv_pre.weight_v"])  # 0 / 0


def expanded(weights: dict[str, Any]) -> None:
    weights["conv_pre.weight_v"] = torch.ones(1, 1, 1).expand(16, 80, 7)


def shared(weights: dict[str, Any]) -> None:
    one = torch.ones(1 << 16)
    weights |= {f"extra.{i}": one for i in range(100)}


def put(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda weights: weights.update({"conv_pre.bias": value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (not_finite, r"is damaged, or its training failed: conv_post\.bias is not finite everywhere"),
        (no_direction, r"trunk\.conv_pre\.weight is not finite everywhere"),
        (expanded, r"claim \d+ bytes, it holds \d+"),
        (shared, r"claim \d+ bytes, it holds \d+"),
        (put(3), r"conv_pre\.bias in .* is no tensor as weights are, but a int"),
        (put([1.0] * 16), r"but a list"),
        (put(None), r"but a NoneType"),
        (put({"weight": torch.zeros(16)}), r"but a dict"),
        (put(torch.zeros(16).to_sparse()), r"is no tensor as weights are"),
        (put(torch.zeros(16, dtype=torch.int8)), r"trunk\.conv_pre\.bias holds int8, not floats"),
        (put(torch.zeros(16, dtype=torch.complex64)), r"holds complex64, not floats"),
        (put(torch.zeros(())), r"trunk\.conv_pre\.bias has the shape \(\) instead of \(16,\)"),
    ],
)
def test_weights_that_are_none(change: Callable[[dict[str, Any]], None], message: str, tmp_path: Path) -> None:
    arguments, weights = write(tmp_path, HIFI_GAN), dict(weights_of(HIFI_GAN))
    change(weights)
    save({"generator": weights}, arguments)
    refused(message, **arguments)


def test_scalars_and_integers_before_weight_norm(tmp_path: Path) -> None:
    for value in (torch.tensor(1.0), torch.ones(16, 80, 7, dtype=torch.int64), torch.ones(0)):
        arguments = write(tmp_path, HIFI_GAN)
        save({"generator": weights_of(HIFI_GAN) | {"conv_pre.weight_v": value}}, arguments)
        with pytest.raises(VocoderError) as caught:
            import_checkpoint(**arguments)
        assert "\n" not in str(caught.value)


def test_a_long_list_of_keys_is_cut(tmp_path: Path) -> None:
    arguments = write(tmp_path, HIFI_GAN)
    save({"generator": {}}, arguments)
    refused(r"it lacks: conv_post\.bias, conv_post\.weight, trunk\.[^,]+, [^,]+, [^,]+ and \d+ more$", **arguments)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_cut_checkpoint_is_a_sentence_at_every_length(zipped: bool, tmp_path: Path) -> None:
    arguments, buffer = write(tmp_path, HIFI_GAN), io.BytesIO()
    content = {"generator": {"conv_pre.bias": torch.zeros(3)}, "steps": 7}
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    data = buffer.getvalue()
    for length in range(1, len(data), 5):
        arguments["checkpoint"].write_bytes(data[:length])
        with pytest.raises(
            VocoderError, match=r"is not a readable checkpoint \(.+\)$|holds more than tensors"
        ) as caught:
            import_checkpoint(**arguments)
        assert "\n" not in str(caught.value)


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    """Torch stores them as they are; a compressed one may become a thousand times as large."""
    arguments = write(tmp_path, HIFI_GAN)
    path = tmp_path / "compressed.pkl"
    with zipfile.ZipFile(arguments["checkpoint"]) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    refused("its members are compressed or overlap", **arguments | {"checkpoint": path})


def test_nothing_is_kept_of_a_model_that_is_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("VOCODERS_CACHE", str(cache))
    arguments, weights = write(tmp_path, HIFI_GAN), dict(weights_of(HIFI_GAN))
    not_finite(weights)
    torch.save({"generator": weights}, tmp_path / "g_1")
    arguments["checkpoint"].unlink()
    with pytest.raises(VocoderError, match="not finite"):
        load(tmp_path)
    assert not cache.exists()


def test_statistics_that_claim_or_name_what_is_not_in_the_file(tmp_path: Path) -> None:
    """A size that the file does not hold, and other files of the machine by links, storage and virtual data."""
    h5py = pytest.importorskip("h5py")
    other, raw = tmp_path / "other.h5", tmp_path / "secret"
    with h5py.File(other, "w") as file:
        file["mean"] = np.ones(4)
    np.ones(4).tofile(raw)
    virtual = h5py.VirtualLayout((4,), "f8")
    virtual[:] = h5py.VirtualSource(str(other), "mean", shape=(4,))
    cases: dict[str, Callable[[Any], Any]] = {
        "large": lambda f: f.create_dataset("mean", (1 << 29,), "f8", chunks=(1 << 10,)),
        "large chunks": lambda f: f.create_dataset("mean", (4,), "f8", maxshape=(None,), chunks=(1 << 26,)),
        "external storage": lambda f: f.create_dataset("mean", (4,), "f8", external=[(str(raw), 0, 32)]),
        "external link": lambda f: f.__setitem__("mean", h5py.ExternalLink(str(other), "mean")),
        "soft link": lambda f: (
            f.__setitem__("x", h5py.ExternalLink(str(other), "mean")),
            f.__setitem__("mean", h5py.SoftLink("/x")),
        ),
        "virtual": lambda f: f.create_virtual_dataset("mean", virtual),
        "text": lambda f: f.create_dataset("mean", data=["a", "b", "c", "d"]),
        "group": lambda f: f.create_group("mean"),
    }
    for make in cases.values():
        path = tmp_path / "stats.h5"
        with h5py.File(path, "w") as file:
            file["scale"] = np.ones(4)
            make(file)
        with pytest.raises(VocoderError, match=r"stats\.h5 does not hold mean and scale \(.+\)$"):
            read_stats(path, 4)
    with h5py.File(path, "w") as file:
        file["mean"], file["scale"] = np.ones(4), [1.0, 1.0, 0.0, 1.0]
    with pytest.raises(VocoderError, match=r"stats\.h5 must hold finite means, and scales above 0"):
        read_stats(path, 4)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(VocoderError, match=r"stats\.h5 does not hold mean and scale"):
        read_stats(path, 4)
