"""What a program has set in torch, its default dtype or inference mode, changes neither weights nor audio."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import models
from tests.support.published import PARTS, write
from vocoders import load, save_checkpoint
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.f0_estimator import build_f0_estimator
from vocoders.importers import import_checkpoint
from vocoders.inference.vocoder import Vocoder

MEL, F0 = models.mel(40)[0].numpy(), models.f0(40)[0, 0].numpy()
ONE_OF_EACH_FAMILY = {family: part for part, (family, *_) in PARTS.items()}.values()


@pytest.fixture
def default_dtype_restored() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


def audio(vocoder: Vocoder) -> list[np.ndarray]:
    """The whole of an utterance, and the same streamed if it can be."""
    mel, f0 = MEL, F0 if "f0" in [item.name for item in vocoder.facts.inputs] else None
    if vocoder.lookahead is None:
        return [vocoder(mel, f0)]
    parts = [slice(0, 25), slice(25, 40)]
    streamed = vocoder.stream([mel[:, p] for p in parts], None if f0 is None else [f0[p] for p in parts])
    return [vocoder(mel, f0), *streamed]


@pytest.mark.parametrize(
    ("name", "dtype"), [*((name, torch.bfloat16) for name in models.NAMES), ("nsf-hifigan", torch.float64)]
)
@pytest.mark.usefixtures("default_dtype_restored")
def test_the_default_dtype_changes_nothing(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(models.checkpoint(name), path)
    expected = audio(load(path, backend="torch"))
    torch.set_default_dtype(dtype)
    vocoder = load(path, backend="torch")
    assert {value.dtype for value in vocoder.generator.state_dict().values()} == {torch.float32}
    for got, right in zip(audio(vocoder), expected, strict=True):
        np.testing.assert_allclose(got, right, rtol=0, atol=1e-6 * np.abs(right).max())
    built = [models.generator(name), build_f0_estimator({"kind": "conv"}, models.MEL_CONFIG)]
    assert {value.dtype for model in built for value in model.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("part", ONE_OF_EACH_FAMILY)
@pytest.mark.usefixtures("default_dtype_restored")
def test_imports_are_float32_whatever_the_default_dtype(part: str, tmp_path: Path) -> None:
    arguments = write(tmp_path, part)
    expected = models.generator_of(import_checkpoint(**arguments)).state_dict()
    torch.set_default_dtype(torch.bfloat16)
    imported = models.generator_of(import_checkpoint(**arguments)).state_dict()
    for key, value in expected.items():
        assert value.dtype == torch.float32
        assert torch.equal(imported[key], value)


@pytest.mark.usefixtures("default_dtype_restored")
def test_log_mels_are_the_same_whatever_the_default_dtype() -> None:
    recording = torch.rand(1, 4000, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    expected = LogMelSpectrogram(models.MEL_CONFIG)(recording)
    torch.set_default_dtype(torch.bfloat16)
    assert torch.equal(LogMelSpectrogram(models.MEL_CONFIG)(recording), expected)


@pytest.mark.parametrize("name", models.NAMES)
def test_gradients_after_loading_in_inference_mode(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(models.checkpoint(name), path)
    with torch.inference_mode():
        vocoder = load(path, backend="torch")
        spectrogram = LogMelSpectrogram(models.MEL_CONFIG)
    model = vocoder.generator.requires_grad_()
    made = model(models.mel(12), f0=models.f0(12))
    spectrogram(made).square().mean().backward()
    weights = [value.grad for value in model.parameters() if value.grad is not None]
    assert any((gradient != 0).any() for gradient in weights)
    if vocoder.f0_estimator is not None:
        assert not any(value.is_inference() for value in vocoder.f0_estimator.state_dict().values())
