"""Inputs of a generator in a folder of NAME.npz."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from recipes.data.clips import find_clips
from recipes.data.config import DataRecipe
from recipes.data.inputs import InputFiles
from recipes.data.segments import SegmentDataset, at_rate
from vocoders.dsp.mel import MEL_CONFIGS, MelConfig
from vocoders.errors import VocoderError
from vocoders.inputs import Input

MEL_CONFIG = MelConfig(sample_rate=8000, n_fft=128, hop_length=32, win_length=128, n_mels=8, fmin=0, fmax=4000)
AUDIO = at_rate(MEL_CONFIG, 16000)
INPUTS = (
    Input(name="speaker", rate="utterance", channels=3),
    Input(name="energy", rate="frame"),
    Input(name="carrier", rate="sample", channels=2),
)
FRAMES = 40


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two stereo recordings that count their samples, one in a subfolder, and their inputs, which count too."""
    for name in ("a", "b/c"):
        path = tmp_path / "wavs" / f"{name}.wav"
        path.parent.mkdir(parents=True)
        count = np.arange(FRAMES * 64) / 2**15
        soundfile.write(path, np.stack([count, -count], 1), 16000, subtype="FLOAT")
        save(tmp_path / "inputs" / f"{name}.npz")
    return tmp_path


def save(path: Path, **changes: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    carrier = np.arange(FRAMES * 64)
    arrays = {"speaker": np.ones(3), "energy": np.arange(FRAMES), "carrier": np.stack([carrier, -carrier])}
    np.savez(path, **{name: value for name, value in (arrays | changes).items() if value is not None})  # type: ignore[arg-type]


def files(root: Path) -> InputFiles:
    return InputFiles(root / "inputs", root / "wavs", INPUTS, AUDIO)


def test_inputs_are_cut_with_the_segment(root: Path) -> None:
    clips, found = find_clips(root / "wavs"), files(root)
    found.check(clips)
    for context in (True, False):
        data = DataRecipe(dir="x", context=context)
        segments = SegmentDataset(clips, None, data, AUDIO, 8, 0, channels=2, inputs=found)
        firsts = set()
        for i in range(12):
            item = segments[i]
            first = int(item["input energy"][0, 0])
            assert item["audio"].shape == (2, 8 * 64)
            torch.testing.assert_close(item["audio"] * 2**15, item["input carrier"], atol=0.01, rtol=0)
            assert item["input carrier"][0, 0] == first * 64
            assert torch.equal(item["input energy"][0], torch.arange(first, first + 8.0))
            assert item["input speaker"].shape == (3, 1)
            firsts.add(first)
        assert len(firsts) > 5


def test_inputs_end_with_their_last_value(root: Path) -> None:
    clip = find_clips(root / "wavs")[0]
    values = files(root).read(clip, FRAMES - 1, 3)
    assert values["input energy"].tolist() == [[FRAMES - 1] * 3]
    assert values["input carrier"].shape == (2, 3 * 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speaker": None}, "no array 'speaker'"),
        ({"speaker": np.ones(4)}, r"speaker must hold one value: expected 3, got 4"),
        ({"energy": np.arange(FRAMES + 3)}, "'energy' is 43 long, the recording 40"),
        ({"carrier": np.zeros((2, FRAMES))}, "'carrier' is 40 long, the recording 2560"),
        ({"carrier": np.zeros(FRAMES * 64)}, "carrier must hold one value per sample"),
        ({"speaker": np.array(["a", "b", "c"])}, "expected an array of floats"),
    ],
)
def test_wrong_arrays_are_refused_at_once(root: Path, changes: dict[str, object], message: str) -> None:
    save(root / "inputs" / "b" / "c.npz", **changes)
    remedy = r"\); save for each recording NAME.wav a file NAME.npz with speaker \(3\), energy \(1, frames\), carrier"
    with pytest.raises(VocoderError, match=rf"1 of 2 recordings lack .*, such as c.wav \({message}.*{remedy}"):
        files(root).check(find_clips(root / "wavs"))


def test_missing_and_damaged_files_are_refused(root: Path) -> None:
    (root / "inputs" / "a.npz").unlink()
    (root / "inputs" / "b" / "c.npz").write_bytes(b"PK damaged")
    with pytest.raises(VocoderError, match=r"2 of 2 recordings lack .*, such as a.wav \(no a.npz\)"):
        files(root).check(find_clips(root / "wavs"))


@pytest.mark.parametrize("changes", [{"speed": (0.9, 1.1)}, {"augmentation": {"tones": 0.1}}, {"shards": ["a.tar"]}])
def test_inputs_fit_recordings_as_they_are(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="'inputs'"):
        DataRecipe.model_validate({"dir": "x", "inputs": "y", **changes})


def test_a_mel_config_at_its_own_rate_is_itself() -> None:
    for mel_config in MEL_CONFIGS.values():
        assert at_rate(mel_config, mel_config.sample_rate) == mel_config
    assert (
        AUDIO.text
        == MEL_CONFIG.model_copy(update={"sample_rate": 16000, "n_fft": 256, "hop_length": 64, "win_length": 256}).text
    )
