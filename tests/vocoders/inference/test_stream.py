"""Streams: what comes in pieces equals the whole, for every generator and backend; kinds, limits and errors."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import DATA, models
from tests.support.exported import Exported
from vocoders import Vocoder, VocoderError, load
from vocoders.checkpoint import Checkpoint
from vocoders.inference.stream import Stream

HELLO = DATA / "hello.npz"

# Beside the small ones: odd sizes, stages that upsample nothing, other windows, more passes of the projection.
Variant = tuple[str, dict[str, Any], dict[str, Any]]
VARIANTS: dict[str, Variant] = {name: (name, {}, {}) for name in models.STREAMING} | {
    "hifigan, odd": ("hifigan", {"upsample_rates": [8, 4, 1], "upsample_kernel_sizes": [11, 9, 3]}, {}),
    "hifigan, longer": (
        "hifigan",
        {"upsample_rates": [8, 4, 1], "upsample_kernel_sizes": [11, 9, 3], "odd_upsampling": "longer"},
        {},
    ),
    "hifigan, other ends": ("hifigan", {"padding_mode": "reflect", "edge_frames": 5}, {}),
    "hifigan, kind 2": ("hifigan", {"resblock": 2, "resblock_dilations": [[1, 2], [3, 5]]}, {}),
    "parallel-wavegan, kernel 5": ("parallel-wavegan", {"kernel_size": 5, "context": 0}, {}),
    "hnmask, two passes": ("hnmask", {"projections": 2}, {"win_length": 80}),
    "hnmask, free pitch": ("hnmask", {"free_pitch": True, "projections": 2}, {}),
    "wavehax, long window": ("wavehax", {"n_fft": 150}, {"padding": "center"}),
    "multi-stream, one": ("multi-stream-wavehax", {"streams": 1, "n_fft": 64}, {}),
    "vocos, long window": ("vocos", {"n_fft": 150}, {"padding": "center"}),
    "vocos, wavenext": ("vocos", {"head": "wavenext"}, {}),
    "nsf-hifigan, one sine": ("nsf-hifigan", {"source": "fundamental"}, {}),
    "nsf-hifigan, odd": ("nsf-hifigan", {"upsample_rates": [8, 4, 1], "upsample_kernel_sizes": [11, 9, 3]}, {}),
    "bigvgan, kind 2": ("bigvgan", {"resblock": 2, "resblock_dilations": [[1, 2], [3, 5]], "output": "clamp"}, {}),
    "hift, source 1": ("hift", {"source": 1}, {}),
}

chunk_lengths = st.lists(st.integers(1, 24), min_size=1, max_size=12) | st.lists(st.just(1), min_size=1, max_size=60)


def vocoder(variant: str) -> Vocoder:
    name, config, changes = VARIANTS[variant]
    mel_config = models.MEL_CONFIG.model_copy(update=changes)
    return Vocoder(
        Checkpoint(mel_config, models.generator(name, mel_config, **config), models.estimator_for(name, mel_config))
    )


@pytest.fixture
def voc() -> Vocoder:
    return vocoder("hnmask")


def cut(mel: torch.Tensor, lengths: list[int]) -> list[torch.Tensor]:
    return list(mel.split(lengths, dim=1))


@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=12, deadline=None)
@given(lengths=chunk_lengths, seed=st.integers(0, 3))
def test_pieces_join_to_the_whole(variant: str, lengths: list[int], seed: int) -> None:
    voc = vocoder(variant)
    mel = models.mel(sum(lengths), seed=seed)[0]
    pieces = list(voc.stream(cut(mel, lengths), seed=seed))
    assert all(len(piece) for piece in pieces)
    whole = voc(mel, seed=seed)
    torch.testing.assert_close(torch.cat(pieces), whole, atol=1e-5 * max(1.0, float(whole.abs().max())), rtol=0)


@pytest.mark.parametrize("name", models.STREAMING)
@settings(max_examples=8, deadline=None)
@given(lengths=chunk_lengths, seed=st.integers(0, 3))
def test_pieces_with_their_f0_join_to_the_whole(name: str, exported: Exported, lengths: list[int], seed: int) -> None:
    frames = sum(lengths)
    mel, f0 = models.mel(frames, seed=seed)[0].numpy(), models.f0(frames, seed=seed)[0, 0].numpy()
    cuts = np.cumsum(lengths)[:-1]
    exports = [exported(name)] if name in ("hnmask", "nsf-hifigan") else []  # F0 that is held, and that glides
    for voc in (vocoder(name), *exports):
        pieces = list(voc.stream(np.split(mel, cuts, axis=1), np.split(f0, cuts), seed))
        whole = voc(mel, f0, seed)
        np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5 * max(1.0, np.abs(whole).max()))


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_a_given_f0_shortens_the_lookahead(backend: str, exported: Exported) -> None:
    voc = vocoder("hnmask") if backend == "torch" else exported("hnmask")
    estimating, given = voc.open_stream(), voc.open_stream(given=["f0"])
    assert estimating.lookahead == voc.lookahead == given.lookahead + voc.facts.estimator_lookahead
    mel = models.mel(given.lookahead + 2)[0].numpy()
    assert len(estimating.push(mel)) < len(given.push(mel, np.full(mel.shape[1], 200.0)))


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_f0_comes_with_every_push_or_with_none(backend: str, exported: Exported) -> None:
    voc = vocoder("hnmask") if backend == "torch" else exported("hnmask")
    mel, f0 = models.mel(30)[0].numpy(), models.f0(30)[0, 0]
    stream = voc.open_stream(given=["f0"])
    pieces = [stream.push(mel[:, :20], f0[:20])]
    for bad, message in ((None, "with every push of a stream or with none"), (f0[:9], "expected 10, got 9")):
        with pytest.raises(VocoderError, match=message):
            stream.push(mel[:, 20:], bad)
    pieces += [stream.push(mel[:, 20:], f0[20:]), stream.finish()]
    np.testing.assert_allclose(np.concatenate(pieces), voc(mel, f0), atol=1e-5)
    with pytest.raises(VocoderError, match=r"open the stream with given=\['f0'\] to give it"):
        voc.open_stream().push(mel, f0)
    for f0_chunks, message in (([f0[:20]], "fewer chunks of f0"), ([f0[:20], f0[20:], f0], "more chunks of f0")):
        with pytest.raises(VocoderError, match=message):
            list(voc.stream([mel[:, :20], mel[:, 20:]], f0_chunks))


@pytest.mark.parametrize("variant", VARIANTS)
def test_audio_is_final_after_the_lookahead(variant: str) -> None:
    """At the latest, and not much earlier, unless F0 passes through fewer layers than the mel does."""
    stream = Stream(vocoder(variant))
    out = 0
    for frames in range(1, 120):
        out += len(stream.push(models.mel(1, seed=frames)[0]))
        assert out >= (frames - stream.lookahead) * 32
    if not variant.startswith("nsf-hifigan"):
        assert out <= (frames - stream.lookahead + 2) * 32


@pytest.mark.parametrize("variant", VARIANTS)
def test_memory_does_not_grow(variant: str) -> None:
    stream: Any = Stream(vocoder(variant))

    def kept() -> int:
        operations = stream._synthesis._network.operations
        return sum(x.untyped_storage().nbytes() for operation in operations for x in operation.kept.values())

    sizes = set()
    for turn in range(30):
        stream.push(models.mel(16, seed=turn)[0])
        if turn > 20:
            sizes.add(kept())
    assert len(sizes) == 1
    assert sizes != {0}


def test_the_built_in_voice_streams_frame_by_frame() -> None:
    """Its F0 must be the same to the bit, or the phase of a hundred harmonics drifts away."""
    voc, mel = load(), np.load(HELLO)["mel"]
    for size, frames in ((1, 150), (37, mel.shape[1])):
        part = mel[:, :frames]
        pieces = list(voc.stream(part[:, begin : begin + size] for begin in range(0, frames, size)))
        np.testing.assert_allclose(np.concatenate(pieces), voc(part), atol=1e-5)


def test_a_chunk_larger_than_what_is_done_at_once(voc: Vocoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voc.generator, "chunk_frames", 16)
    mel = models.mel(90)[0]
    pieces = torch.cat(list(voc.stream(cut(mel, [70, 5, 15]))))
    monkeypatch.setattr(voc.generator, "chunk_frames", 1000)
    torch.testing.assert_close(pieces, voc(mel), atol=1e-5, rtol=0)


def test_audio_is_of_the_kind_of_the_mel(voc: Vocoder) -> None:
    mel = models.mel(60)[0]
    stream = Stream(voc)
    tensor, array = stream.push(mel), stream.push(mel.numpy().astype(np.float64))
    assert isinstance(tensor, torch.Tensor)
    assert not tensor.is_inference()
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    assert isinstance(stream.finish(), np.ndarray)


def test_streams_of_one_vocoder_are_independent(voc: Vocoder) -> None:
    mels = [models.mel(50, seed=seed)[0] for seed in (1, 2)]
    streams = [Stream(voc, seed=5) for _ in mels]
    out: list[list[torch.Tensor]] = [[], []]
    for begin in range(0, 50, 10):
        for stream, mel, pieces in zip(streams, mels, out, strict=True):
            pieces.append(stream.push(mel[:, begin : begin + 10]))
    for stream, mel, pieces in zip(streams, mels, out, strict=True):
        torch.testing.assert_close(torch.cat([*pieces, stream.finish()]), voc(mel, seed=5), atol=1e-5, rtol=0)


def test_a_model_that_cannot_stream_refuses_at_once() -> None:
    whole = Checkpoint(models.MEL_CONFIG, models.generator("wavehax", framewise_norm=False), models.f0_estimator())
    with pytest.raises(VocoderError, match="cannot stream: it normalises over the whole utterance"):
        Stream(Vocoder(whole))
    assert Vocoder(whole).lookahead is None
    without = Vocoder(Checkpoint(models.MEL_CONFIG, models.generator("hnmask")))
    with pytest.raises(VocoderError, match="needs f0 and has no estimator"):
        without.stream([])  # before the first piece is asked for
    assert len(next(without.stream([models.mel(60)[0]], [np.full(60, 150.0)])))
    assert Stream(Vocoder(Checkpoint(models.MEL_CONFIG, models.generator("hifigan")))).lookahead > 0


def test_an_empty_stream_and_one_that_is_over(voc: Vocoder) -> None:
    with pytest.raises(VocoderError, match="ended before its first frame"):
        list(voc.stream([]))
    stream = Stream(voc)
    stream.push(models.mel(1)[0])
    assert len(stream.finish()) == 32
    for after in (stream.finish, lambda: stream.push(models.mel(1)[0])):
        with pytest.raises(VocoderError, match="this stream is over"):
            after()


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (np.zeros((20, 0), np.float32), "the mel is empty"),
        (np.zeros((5, 20), np.float32), "looks transposed"),
        (np.zeros((20, 5), np.int16), "must hold floats"),
        (np.full((20, 5), np.nan, np.float32), "100 NaN or infinite values of 100"),
        (np.zeros((1, 20, 5), np.float32), r"a stream takes mels of \(n_mels, frames\), this one is \(1, 20, 5\)"),
        (np.zeros(20, np.float32), "1-D"),
    ],
)
def test_a_bad_chunk_is_refused_and_the_stream_continues(voc: Vocoder, chunk: np.ndarray, message: str) -> None:
    mel = models.mel(60)[0].numpy()
    stream = Stream(voc)
    pieces = [stream.push(mel[:, :40])]
    with pytest.raises(VocoderError, match=message):
        stream.push(chunk)
    pieces += [stream.push(mel[:, 40:]), stream.finish()]
    np.testing.assert_allclose(np.concatenate(pieces), voc(mel), atol=1e-5)


def test_audio_that_is_not_finite_ends_the_stream(voc: Vocoder) -> None:
    stream = Stream(voc)
    with pytest.raises(VocoderError, match="output is not finite"):
        stream.push(np.full((20, 80), 1e30, np.float32))
    with pytest.raises(VocoderError, match="this stream is over"):
        stream.finish()
