"""Several utterances in one pass: the audio of each is what it is alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests.support import models
from vocoders.checkpoint import Checkpoint
from vocoders.errors import VocoderError
from vocoders.inference.vocoder import Vocoder

VOCODERS = {name: Vocoder(models.checkpoint(name)) for name in models.NAMES}
VOCODERS["whole"] = Vocoder(
    Checkpoint(models.MEL_CONFIG, models.generator("wavehax", framewise_norm=False), models.f0_estimator())
)
LENGTHS = [1, 100, 3, 100, 88, 3, 150, 117, 129, 513, 101, 512]


def mel(frames: int, seed: int) -> np.ndarray:
    return models.mel(frames, seed=seed)[0].numpy()


def mels_of(lengths: Sequence[int]) -> list[np.ndarray]:
    return [mel(length, seed) for seed, length in enumerate(lengths)]


def passes_of(voc: Vocoder, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The (batch, frames) of each pass of the network, to be filled."""
    seen: list[tuple[int, int]] = []
    whole = voc.generator.synthesize

    def recorded(mel: torch.Tensor, **rest: Any) -> torch.Tensor:
        seen.append((mel.shape[0], mel.shape[2]))
        return whole(mel, **rest)

    monkeypatch.setattr(voc.generator, "synthesize", recorded)
    return seen


@pytest.mark.parametrize("name", VOCODERS)
def test_batched_as_alone(name: str) -> None:
    voc, mels = VOCODERS[name], mels_of(LENGTHS)
    batched = voc.synthesize_batch(mels, seeds=range(len(mels)))
    for seed, (item, audio) in enumerate(zip(mels, batched, strict=True)):
        expected = voc(item, seed=seed)
        np.testing.assert_allclose(audio, expected, atol=1e-5 * np.abs(expected).max() + 1e-7)


def test_f0_that_is_given_for_some() -> None:
    voc, mels = VOCODERS["hnmask"], mels_of(LENGTHS)
    f0s = [None if length == 88 else models.f0(length, seed=length)[0, 0].numpy() for length in LENGTHS]
    for item, f0, audio in zip(mels, f0s, voc.synthesize_batch(mels, f0s), strict=True):
        np.testing.assert_allclose(audio, voc(item, f0), atol=1e-5)
    without = Vocoder(Checkpoint(models.MEL_CONFIG, models.generator("hnmask")))
    mels, f0s = [mel(60, 0), mel(61, 1)], [np.full(60, 150.0), np.full(61, 150.0)]
    np.testing.assert_allclose(without.synthesize_batch(mels, f0s)[1], without(mels[1], f0s[1]), atol=1e-5)
    with pytest.raises(VocoderError, match="needs f0 and has no estimator"):
        without.synthesize_batch(mels, [f0s[0], None])


@pytest.mark.parametrize("name", ["hnmask", "hifigan"])
def test_a_batch_has_the_precision_of_the_vocoder(name: str) -> None:
    exact, rounded = VOCODERS[name], Vocoder(models.checkpoint(name), precision="bfloat16")
    mels = mels_of([100, 110, 100])
    for item, audio in zip(mels, rounded.synthesize_batch(mels), strict=True):
        alone, error = rounded(item), np.abs(rounded(item) - exact(item)).max()
        assert error > 1e-4 * np.abs(alone).max()  # bfloat16 is seen
        assert np.abs(audio - alone).max() < 0.5 * error
        assert np.abs(audio - exact(item)).max() > 0.5 * error


@pytest.mark.parametrize(
    ("name", "lengths", "passes"),
    [
        ("hnmask", [100, 100, 100], [(3, 100)]),
        ("hnmask", [130, 100, 120], [(3, 100), (2, 30 + 2 * 12)]),  # 12 frames of context
        ("hnmask", [100, 177, 176], [(2, 100), (1, 100), (1, 177)]),  # 177 - 100 + 24 frames would be too many
        ("whole", [100, 101, 100], [(2, 100), (1, 101)]),
    ],
)
def test_how_many_passes_it_takes(
    name: str, lengths: list[int], passes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    voc = VOCODERS[name]
    seen = passes_of(voc, monkeypatch)
    voc.synthesize_batch([mel(length, 0) for length in lengths])
    assert seen == passes


def test_a_pass_is_bounded_whatever_the_number_of_utterances(monkeypatch: pytest.MonkeyPatch) -> None:
    voc = VOCODERS["hnmask"]
    seen = passes_of(voc, monkeypatch)
    monkeypatch.setattr("vocoders.inference.batching.PASS_FRAMES", 350)
    voc.synthesize_batch(mels_of([100] * 7))
    assert seen == [(3, 100), (3, 100), (1, 100)]


def test_a_list_is_a_batch_where_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    voc, mels = VOCODERS["hnmask"], mels_of([100, 120, 130])
    f0s: list[Any] = [None, np.full(120, 150.0), torch.full((130,), 150.0)]
    assert not voc.batching_pays
    each = voc(mels, f0s, seed=4)
    seen = passes_of(voc, monkeypatch)
    monkeypatch.setattr(Vocoder, "batching_pays", True)  # as on a GPU
    mixed: list[Any] = [torch.from_numpy(mels[0]), *mels[1:]]
    for audio, expected in zip(voc(mixed, f0s, seed=4), each, strict=True):
        np.testing.assert_allclose(audio, expected, atol=1e-5)
    assert seen == [(3, 100), (2, 30 + 2 * 12)]
    monkeypatch.undo()
    monkeypatch.setattr(Vocoder, "device", torch.device("cuda"))
    assert voc.batching_pays


def test_bad_batches_are_refused() -> None:
    good, voc = mel(100, 0), VOCODERS["hnmask"]
    for bad, message in ((np.full_like(good, np.nan), "NaN or infinite"), (np.full_like(good, 1e38), "not finite")):
        with pytest.raises(VocoderError, match=message):
            voc.synthesize_batch([good, bad])
    with pytest.raises(VocoderError, match=r"each mel must be \(n_mels, frames\), this one is \(1, 20, 100\)"):
        voc.synthesize_batch([good, good[None]])
    with pytest.raises(VocoderError, match="2 mels, but 1 seeds"):
        voc.synthesize_batch([good, good], seeds=[1])
