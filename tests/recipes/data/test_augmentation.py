"""Augmentation of segments: what each degradation adds, and that labels and the order of the data stay."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recipes.data.augmentation import add_voice, at_level, degrade, disperse, level, reverberate, shape, tone
from recipes.data.clips import list_clips
from recipes.data.config import Augmentation, DataRecipe
from recipes.data.f0_labels import F0Labels
from recipes.data.segments import SegmentDataset
from tests.support import corpus, signals
from vocoders import MelConfig
from vocoders.dsp.mel import MEL_CONFIGS

MEL_CONFIG = MelConfig(**corpus.MEL_CONFIG)
RATE = MEL_CONFIG.sample_rate


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus.make(tmp_path_factory.mktemp("data") / "corpus")


def dataset(root: Path, **shares: Any) -> SegmentDataset:
    data = DataRecipe(dir=str(root), gain_db=(-20, 0), augmentation=Augmentation(**shares))
    clips = list_clips(root, root / "train.txt")
    return SegmentDataset(clips, F0Labels(clips, root / "cache"), data, MEL_CONFIG, 40, seed=0)


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_augmented_segments_follow_from_seed_and_number(root: Path) -> None:
    shares = {"tones": 0.3, "voices": 0.3, "reverb": 0.5, "noise": 0.5}
    first, again = dataset(root, **shares), dataset(root, **shares)
    items = {i: first[i] for i in range(12)}
    for i in reversed(range(12)):
        assert torch.equal(items[i]["audio"], again[i]["audio"])
        assert torch.equal(items[i]["f0"], again[i]["f0"])
        assert items[i]["audio"].shape == (1, 40 * 64)
        assert items[i]["audio"].dtype == items[i]["f0"].dtype == torch.float32
        assert items[i]["audio"].abs().max() <= 1


@pytest.mark.parametrize("shares", [{"noise": 1.0}, {"reverb": 1.0}, {"voices": 1.0}, {"reverb": 1.0, "noise": 1.0}])
def test_degraded_segments_are_the_clean_ones_with_their_labels(root: Path, shares: dict[str, float]) -> None:
    clean, degraded = dataset(root), dataset(root, **shares)
    for i in range(5):
        a, b = clean[i], degraded[i]
        assert torch.equal(a["f0"], b["f0"])
        assert not torch.equal(a["audio"], b["audio"])
        added = level((b["audio"] - a["audio"]).numpy()) - level(a["audio"].numpy())
        assert -40.5 < added < 3.5


def test_a_share_of_segments_is_degraded(root: Path) -> None:
    clean, degraded = dataset(root), dataset(root, noise=0.3)
    changed = [not torch.equal(clean[i]["audio"], degraded[i]["audio"]) for i in range(100)]
    assert 15 < sum(changed) < 45


def test_noise_is_at_the_snr_drawn() -> None:
    audio = torch.from_numpy(signals.voice(RATE, 1.0, f0=150))[None].float()
    noisy = degrade(audio, Augmentation(noise=1.0, noise_snr_db=(12.0, 12.0)), RATE, draws())
    assert level(audio.numpy()) - level((noisy - audio).numpy()) == pytest.approx(12, abs=0.01)


def test_reverberation_decays_by_60_db_in_its_time() -> None:
    impulse = np.zeros(RATE)
    impulse[0] = 1.0
    tail = reverberate(impulse, RATE, 0.5, 0.0, draws())[1:]
    early, late = (level(tail[int(t * RATE) : int((t + 0.05) * RATE)]) for t in (0.05, 0.3))
    assert early - late == pytest.approx(60 * 0.25 / 0.5, abs=1.5)
    assert not tail[RATE // 2 + 1 :].round(12).any()


def test_a_slope_and_a_resonance() -> None:
    impulse = np.zeros(RATE)
    impulse[0] = 1.0
    db = 20 * np.log10(np.abs(np.fft.rfft(shape(impulse, -1.0, RATE, [(3000, 50, 10)]))))
    assert db[[50, 100]] == pytest.approx(0, abs=0.1)
    assert db[400] - db[800] == pytest.approx(6.02, abs=0.1)
    assert db[3000] == pytest.approx(-20 * np.log10(30) + 10, abs=0.1)


def test_a_second_voice_is_added_at_its_level() -> None:
    voice = torch.from_numpy(signals.voice(RATE, 0.2, f0=150))[None].float()
    added = add_voice(voice, 0.1 * voice.flip(1), db=-10.0) - voice
    assert level(voice.numpy()) - level(added.numpy()) == pytest.approx(10, abs=0.01)
    assert np.corrcoef(added[0], voice.flip(1)[0])[0, 1] > 0.999


def test_silence_takes_a_second_voice_and_noise() -> None:
    assert not at_level(np.zeros(8), -20).any()
    silent = torch.zeros(1, 800)
    assert torch.isfinite(add_voice(silent, silent, -3.0)).all()
    assert torch.isfinite(degrade(silent, Augmentation(noise=1.0, reverb=1.0), RATE, draws())).all()


def test_dispersion_keeps_the_spectrum() -> None:
    audio = signals.voice(RATE, 0.5, f0=100)
    assert np.allclose(disperse(audio, 0.0, RATE, draws()), audio)
    dispersed = disperse(audio, np.pi, RATE, draws())
    magnitudes = [np.abs(np.fft.rfft(x))[1:-1] for x in (audio, dispersed)]
    assert np.allclose(magnitudes[0], magnitudes[1], atol=1e-6)
    assert abs(np.corrcoef(dispersed, audio)[0, 1]) < 0.5


@pytest.mark.parametrize("hz", [50.0, 200.0, 1400.0])
def test_a_tone_has_the_pitch_of_its_label(hz: float) -> None:
    """WORLD's Harvest finds it, glide and vibrato included."""
    import pyworld

    mel_config = MEL_CONFIGS["hifigan-22k"]
    for seed in range(3):
        audio, f0 = tone(96, mel_config, (hz * 0.97, hz * 1.03), draws(seed))
        assert len(audio) == 96 * 256
        found, times = pyworld.harvest(audio, 22050, 0.7 * hz, 1.4 * hz)
        label = f0[np.minimum((times * 22050 / 256).astype(int), 95)]
        both = (found > 0) & (label > 0)
        assert both.mean() > 0.2
        assert np.median(np.abs(1200 * np.log2(found[both] / label[both]))) < 15
        assert ((f0 == 0) | ((f0 >= hz * 0.97) & (f0 <= hz * 1.03))).all()
