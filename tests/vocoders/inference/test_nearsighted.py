"""Streams that look less far ahead than the model: each block is that of a mel that ends soon after it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import models
from tests.support.exported import Exported
from vocoders import Vocoder, VocoderError
from vocoders.checkpoint import Checkpoint

FRAMES, LOOKAHEAD, HOP = 60, 7, models.MEL_CONFIG.hop_length


def vocoder(name: str) -> Vocoder:
    return Vocoder(Checkpoint(models.MEL_CONFIG, models.generator(name), models.estimator_for(name, models.MEL_CONFIG)))


def stream(voc: Any, mel: np.ndarray, lengths: list[int], **options: Any) -> np.ndarray:
    return np.concatenate(list(voc.stream(np.split(mel, np.cumsum(lengths)[:-1], axis=1), **options)))


@pytest.mark.parametrize("name", models.STREAMING)
def test_a_block_is_that_of_a_mel_that_ends_after_the_lookahead(name: str) -> None:
    voc, mel = vocoder(name), models.mel(FRAMES)[0].numpy()
    assert voc.lookahead is not None
    lookahead = min(LOOKAHEAD, voc.lookahead - 1)
    if lookahead < 1:
        pytest.skip("less lookahead than it needs is not possible")
    audio = stream(voc, mel, [FRAMES], lookahead=lookahead)
    shorter, block = voc(mel[:, : lookahead + 1]), max(1, lookahead // 3) * HOP
    np.testing.assert_allclose(audio[:block], shorter[:block], atol=1e-5 * max(1, np.abs(shorter).max()))
    assert audio.shape == (FRAMES * HOP,)


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=8), lookahead=st.integers(1, 30))
def test_how_a_mel_is_cut_into_pushes_does_not_matter(lengths: list[int], lookahead: int) -> None:
    voc, mel = vocoder("hnmask"), models.mel(sum(lengths))[0].numpy()
    pieces = stream(voc, mel, lengths, lookahead=lookahead)
    np.testing.assert_allclose(pieces, stream(voc, mel, [mel.shape[1]], lookahead=lookahead), atol=1e-5)


def test_audio_is_final_after_the_lookahead() -> None:
    near = vocoder("hnmask").open_stream(lookahead=LOOKAHEAD)
    assert near.lookahead == LOOKAHEAD
    out = 0
    for frames in range(1, FRAMES):
        out += len(near.push(models.mel(1, seed=frames)[0]))
        assert out >= (frames - LOOKAHEAD) * HOP


def test_what_was_synthesised_before_is_continued() -> None:
    """No jump where blocks meet, though every block sees another end: F0 and phase go on, the rest is cross-faded."""
    voc, mel = vocoder("hnmask"), np.repeat(models.mel(1)[0].numpy(), FRAMES, axis=1)
    f0 = [np.full(FRAMES, 200.0)]
    whole = stream(voc, mel, [FRAMES], f0_chunks=f0)
    near = stream(voc, mel, [FRAMES], f0_chunks=f0, lookahead=voc.open_stream(given=["f0"]).lookahead - 1)
    assert np.abs(near - whole).max() < 0.1 * np.abs(whole).max()


def test_enough_lookahead_gives_the_audio_of_the_whole() -> None:
    voc, mel = vocoder("hnmask"), models.mel(FRAMES)[0].numpy()
    for lookahead in (voc.lookahead, 10_000):
        assert voc.open_stream(lookahead=lookahead).lookahead == voc.lookahead
        np.testing.assert_allclose(stream(voc, mel, [20] * 3, lookahead=lookahead), voc(mel), atol=1e-5)


@pytest.mark.parametrize("name", ["hnmask", "nsf-hifigan"])  # F0 that is held, and that glides
def test_both_backends_are_the_same(name: str, exported: Exported) -> None:
    mel, f0 = models.mel(FRAMES)[0].numpy(), [models.f0(FRAMES)[0, 0].numpy()]
    by_torch, by_onnx = (
        stream(voc, mel, [FRAMES], f0_chunks=f0, lookahead=LOOKAHEAD) for voc in (vocoder(name), exported(name))
    )
    np.testing.assert_allclose(by_onnx, by_torch, atol=1e-4 * np.abs(by_torch).max())


@pytest.mark.parametrize("lookahead", [0, -3, 2.5, "4"])
def test_bad_lookaheads(lookahead: Any) -> None:
    with pytest.raises(VocoderError, match="a whole number of frames from 1 on"):
        vocoder("hifigan").open_stream(lookahead=lookahead)
