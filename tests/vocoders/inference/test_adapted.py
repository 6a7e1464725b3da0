"""Any mel: a model takes mels of other mel configs, whole, in batches and in streams."""

import itertools
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.support import models
from tests.support.signals import voice
from vocoders import MEL_CONFIGS, BaseVocoder, MelConfig, MelMismatch, MelWarning, Vocoder, VocoderError, load
from vocoders.inference.adapted import adapted_facts
from vocoders.pretrained import model_for

# Of the model's rate, and of others; with hops longer and shorter than the model's, 4 ms.
MEL_CONFIG_SAME_RATE = MelConfig(
    sample_rate=8000, n_fft=256, hop_length=40, win_length=160, n_mels=32, fmin=60, fmax=3600, padding="center"
)
MEL_CONFIG_HIGHER = MelConfig(
    sample_rate=11025, n_fft=256, hop_length=36, win_length=256, n_mels=40, fmin=0, fmax=5500, mel_scale="htk", power=2
)
MEL_CONFIG_LOG10 = models.MEL_CONFIG.model_copy(update={"log": "log10", "floor": 1e-4})
OTHERS = [MEL_CONFIG_SAME_RATE, MEL_CONFIG_HIGHER, MEL_CONFIG_LOG10]


def mel_of(voc: BaseVocoder, mel_config: MelConfig, seconds: float = 1.2) -> np.ndarray:
    return voc.analyze(voice(8000, seconds).astype(np.float32), 8000, mel_config)


@pytest.fixture(scope="module", params=["hnmask", "hifigan"])
def voc(request: pytest.FixtureRequest) -> Vocoder:
    return Vocoder(models.checkpoint(request.param))


@pytest.mark.parametrize("mel_config", OTHERS)
def test_length_and_rate(voc: Vocoder, mel_config: MelConfig) -> None:
    adapted = voc.for_mel_config(mel_config)
    assert (adapted.mel_config, adapted.sample_rate) == (mel_config, mel_config.sample_rate)
    mel = mel_of(voc, mel_config)
    audio = adapted(mel)
    assert audio.shape == (mel.shape[1] * mel_config.hop_length,)
    assert audio.std() > 1e-4


@pytest.mark.parametrize("mel_config", OTHERS)
def test_a_stream_is_the_whole_within_the_lookahead(voc: Vocoder, mel_config: MelConfig) -> None:
    check_stream(voc.for_mel_config(mel_config), mel_of(voc, mel_config))


@pytest.mark.parametrize("mel_config", OTHERS)
def test_an_exported_model_too(exported: Callable[..., BaseVocoder], mel_config: MelConfig) -> None:
    voc = exported("hnmask")
    adapted = voc.for_mel_config(mel_config)
    mel = mel_of(voc, mel_config)
    check_stream(adapted, mel)
    torch_audio = Vocoder(models.checkpoint("hnmask")).for_mel_config(mel_config)(mel)
    np.testing.assert_allclose(adapted(mel), torch_audio, atol=1e-4 * np.abs(torch_audio).max())


def check_stream(adapted: BaseVocoder, mel: np.ndarray) -> None:
    whole = adapted(mel)
    stream, audio, come = adapted.open_stream(), [], 0
    for size in itertools.chain([1, 1, 3], itertools.repeat(8)):
        chunk = mel[:, come : come + size]
        if not chunk.shape[1]:
            break
        come += chunk.shape[1]
        audio.append(stream.push(chunk))
        # The audio of a frame is there once ``lookahead`` frames followed it.
        final = (come - stream.lookahead) * adapted.facts.samples_per_frame
        assert sum(map(len, audio)) >= final
    audio.append(stream.finish())
    np.testing.assert_allclose(np.concatenate(audio), whole, atol=1e-4 * np.abs(whole).max())
    in_pieces = np.concatenate(list(adapted.synthesize(mel)))
    np.testing.assert_allclose(in_pieces, whole, atol=1e-4 * np.abs(whole).max())


def test_a_stream_of_less_lookahead(voc: Vocoder) -> None:
    adapted = voc.for_mel_config(MEL_CONFIG_SAME_RATE)
    mel = mel_of(voc, MEL_CONFIG_SAME_RATE)
    assert adapted.lookahead is not None
    chunks = [mel[:, i : i + 6] for i in range(0, mel.shape[1], 6)]
    audio = np.concatenate(list(adapted.stream(chunks, lookahead=adapted.lookahead - 2)))
    assert audio.shape == adapted(mel).shape
    with pytest.raises(VocoderError, match=r"the lookahead must be [0-9]+ frames or more"):
        adapted.open_stream(lookahead=1)


def test_a_model_without_lookahead_waits_for_the_next_frame(voc: Vocoder) -> None:
    causal = voc.facts.model_copy(update={"lookahead": 0, "estimator_lookahead": 0})
    assert adapted_facts(causal, MEL_CONFIG_SAME_RATE).lookahead == 1
    assert (adapted_facts(causal, MEL_CONFIG_HIGHER).lookahead or 0) > 0.1 * 11025 / 36  # the resampler's 0.1 s


def test_batches_and_lists(voc: Vocoder) -> None:
    adapted = voc.for_mel_config(MEL_CONFIG_HIGHER)
    mel = mel_of(voc, MEL_CONFIG_HIGHER)
    alone = adapted(mel)
    other = mel[:, ::-1].copy()
    np.testing.assert_allclose(adapted(np.stack([other, mel]))[1], alone, atol=1e-5)
    short, same = adapted([mel[:, :50], mel])
    assert short.shape == (50 * 36,)
    np.testing.assert_allclose(same, alone, atol=1e-5)
    np.testing.assert_allclose(adapted.synthesize_batch([mel[:, :50], mel])[1], alone, atol=1e-5)
    tensor = adapted(torch.from_numpy(mel))
    assert isinstance(tensor, torch.Tensor)


def test_exact_conversion_is_the_same_to_the_bit(voc: Vocoder) -> None:
    mel = mel_of(voc, MEL_CONFIG_LOG10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audio = voc(mel, mel_config=MEL_CONFIG_LOG10)
    np.testing.assert_array_equal(audio, voc(voc.convert(mel, MEL_CONFIG_LOG10)))
    assert voc.for_mel_config(voc.mel_config) is voc
    assert voc.for_mel_config(MEL_CONFIG_LOG10).approximation is None


def test_given_f0_follows_the_frames() -> None:
    voc = Vocoder(models.checkpoint("hnmask"))
    adapted = voc.for_mel_config(MEL_CONFIG_SAME_RATE)
    mel = mel_of(voc, MEL_CONFIG_SAME_RATE)
    f0 = np.full(mel.shape[1], 200, np.float32)
    audio = adapted(mel, f0)
    assert np.abs(audio - adapted(mel, f0 / 2)).max() > 0.1 * np.abs(audio).max()
    chunks = [(mel[:, i : i + 9], f0[i : i + 9]) for i in range(0, mel.shape[1], 9)]
    streamed = np.concatenate(list(adapted.stream([m for m, _ in chunks], [f for _, f in chunks])))
    np.testing.assert_allclose(streamed, audio, atol=1e-4 * np.abs(audio).max())


def test_approximation_warns_once_with_what_it_is(voc: Vocoder) -> None:
    mel = mel_of(voc, MEL_CONFIG_HIGHER)
    with pytest.warns(MelWarning, match="sample_rate 11025 against 8000.* nothing above 4000 Hz") as caught:
        voc(mel, mel_config=MEL_CONFIG_HIGHER)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with pytest.warns(MelWarning, match="fmin 60.0 against 0.0.*what is above 3600 Hz is guessed") as caught:
        list(voc.stream([mel_of(voc, MEL_CONFIG_SAME_RATE)], mel_config=MEL_CONFIG_SAME_RATE))
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"hop_length": 512}, "hop_length in ms must be from 2 to 32, it is 64"),
        ({"n_mels": 20}, "n_mels must be from 32 to 256, it is 20"),
        ({"fmax": 2500.0}, "fmax must be from 3000 to 48000, it is 2500"),
    ],
)
def test_too_little_to_speak_from(voc: Vocoder, changes: dict[str, float], problem: str) -> None:
    little = MEL_CONFIG_SAME_RATE.model_copy(update={"n_fft": 1024, "win_length": 1024} | changes)
    with pytest.raises(MelMismatch, match=problem):
        voc.for_mel_config(little)


def test_the_rate_of_the_model(voc: Vocoder) -> None:
    double = MEL_CONFIG_HIGHER.model_copy(update={"sample_rate": 16000, "hop_length": 64})
    adapted = voc.for_mel_config(double, model_rate=True)
    assert (adapted.sample_rate, adapted.facts.samples_per_frame) == (8000, 32)
    mel = mel_of(voc, double)
    assert adapted(mel).shape == (32 * mel.shape[1],)
    with pytest.raises(VocoderError, match="at the model's rate, 8000 Hz, a frame of custom is no whole number"):
        voc.for_mel_config(MEL_CONFIG_HIGHER, model_rate=True)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("hifigan-22k", "hnmask-22k"),
        ("hifigan-22k:log=log10", "hnmask-22k"),
        ("tacotron2-22k", "hnmask-22k"),
        ("bigvgan-24k", "hnmask-24k"),
        ("vocos-24k", "hnmask-24k"),
        ("speecht5-16k", "hnmask-24k"),
        ("bigvgan-22k", "hnmask-24k"),
        ("openvpi-44k:log=log10", "hnmask-44k"),
        ("bigvgan-44k", "hnmask-44k"),
        ("gpt-sovits-32k", "hnmask-44k"),
    ],
)
def test_the_built_in_model_for_a_mel_config(name: str, model: str) -> None:
    assert model_for(MelConfig.parse(name)) == model


def test_load_for_a_mel_config() -> None:
    with pytest.warns(MelWarning, match="vocos-24k as bigvgan-24k: mel_scale htk against slaney"):
        voc = load(mel_config="vocos-24k")
    assert (voc.name, voc.mel_config) == ("hnmask-24k", MEL_CONFIGS["vocos-24k"])
    assert load(mel_config="hifigan-22k").mel_config == MEL_CONFIGS["hifigan-22k"]
    with pytest.warns(MelWarning, match="as hifigan-22k"):
        assert load("hnmask-22k", mel_config="espnet-24k").sample_rate == 24000


@pytest.mark.parametrize("name", ["vocos-24k", "hifigan-22k", "espnet-24k", "cleanmel-16k", "openvpi-44k"])
def test_the_built_in_model_speaks(name: str) -> None:
    """The mel of what it says is near the given one, nearer than one a semitone or a frame away would be."""
    voc = load("hnmask-24k")
    adapted = voc.for_mel_config(name)
    given = voc.analyze(voice(24000, 1.5).astype(np.float32) / 4, 24000, adapted.mel_config)
    said = adapted(given)[adapted.lag :]  # the audio is that much late
    own = voc.analyze(said, adapted.sample_rate, adapted.mel_config)
    frames = min(own.shape[1], given.shape[1])
    own, given = own[:, 8 : frames - 8], given[:, 8 : frames - 8]
    loud = given > np.percentile(given, 60)
    natural = adapted.mel_config.natural_log_magnitude
    assert np.abs(natural(own - given))[loud].mean() < 0.35
