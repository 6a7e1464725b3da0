"""Several utterances in one pass: each sounds as it does alone."""

import numpy as np
import pytest

from tests.support import models
from vocoders.checkpoint import Checkpoint
from vocoders.errors import VocoderError
from vocoders.generators import GENERATORS
from vocoders.inference.batching import synthesize_batch
from vocoders.inference.vocoder import Vocoder

VOCODERS = {name: Vocoder(models.checkpoint(name)) for name in GENERATORS}
VOCODERS["whole"] = Vocoder(
    Checkpoint(models.MEL_CONFIG, models.generator("wavehax", framewise_norm=False), models.f0_estimator())
)


def mel(frames: int, seed: int) -> np.ndarray:
    return models.mel(frames, seed=seed)[0].numpy()


@pytest.mark.parametrize("name", VOCODERS)
def test_together_as_alone(name: str) -> None:
    voc = VOCODERS[name]
    lengths = [1, 100, 3, 100, 88, 3, 150, 117, 129, 513, 101, 512]
    mels = [mel(length, seed) for seed, length in enumerate(lengths)]
    found = synthesize_batch(voc, mels, range(len(mels)))
    for seed, (item, audio) in enumerate(zip(mels, found, strict=True)):
        expected = voc(item, seed=seed)
        np.testing.assert_allclose(audio, expected, atol=1e-5 * np.abs(expected).max() + 1e-7)


@pytest.mark.parametrize(
    ("name", "lengths", "passes"),
    [
        ("hnmask", [100, 100, 100], [(3, 100)]),
        ("hnmask", [130, 100, 120], [(3, 100), (2, 30 + 2 * 12)]),  # 12 frames of context
        ("hnmask", [100, 177, 176], [(2, 100), (1, 100), (1, 177)]),  # 177 - 100 + 24 frames would be too many
        ("whole", [100, 101, 100], [(2, 100), (1, 101)]),
    ],
)
def test_how_many_passes_it_takes(name: str, lengths: list[int], passes: list, monkeypatch: pytest.MonkeyPatch) -> None:
    voc = VOCODERS[name]
    seen = []
    whole = voc.generator.synthesize

    def watched(mel, *rest):
        seen.append((mel.shape[0], mel.shape[2]))
        return whole(mel, *rest)

    monkeypatch.setattr(voc.generator, "synthesize", watched)
    synthesize_batch(voc, [mel(length, 0) for length in lengths], [0] * len(lengths))
    assert seen == passes


def test_what_does_not_fit_is_said() -> None:
    good = mel(100, 0)
    with pytest.raises(VocoderError, match="NaN or infinite"):
        synthesize_batch(VOCODERS["hnmask"], [good, np.full_like(good, np.nan)], [0, 0])
    with pytest.raises(VocoderError, match="not finite"):
        synthesize_batch(VOCODERS["hnmask"], [good, np.full_like(good, 1e38)], [0, 0])
