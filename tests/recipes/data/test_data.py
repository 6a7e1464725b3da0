"""Segments: what they hold, and that they follow from seed and number alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch.utils.data import DataLoader, TensorDataset

from recipes.data.audio import resample
from recipes.data.clips import Clip, find_clips, list_clips, read_clip, split_clips
from recipes.data.config import DataRecipe
from recipes.data.f0_labels import F0_PERIOD, F0Labels, f0_at, label_f0
from recipes.data.segments import SegmentDataset, frame_times
from recipes.training.batches import find_recordings, loader_workers
from recipes.training.generator_task import GeneratorTask
from recipes.training.recipe import load_recipe
from recipes.training.schema import Recipe
from tests.support import corpus, models, signals
from vocoders import MelConfig, VocoderError
from vocoders.dsp.mel import MEL_CONFIGS

MEL_CONFIG = MelConfig(**corpus.MEL_CONFIG)


def dataset(tmp_path: Path, seed: int = 0, frames: int = 20, **changes: Any) -> SegmentDataset:
    root = tmp_path / "corpus"
    if not root.exists():
        corpus.make(root)
    data = DataRecipe(dir=str(root), train="train.txt", valid="valid.txt", **changes)
    clips = list_clips(root, root / "train.txt")
    return SegmentDataset(clips, F0Labels(clips, tmp_path / "cache"), data, MEL_CONFIG, frames, seed)


def test_shapes_and_ranges(tmp_path: Path) -> None:
    segments = dataset(tmp_path, speed=(0.7, 1.4), gain_db=(-20, 20))
    voiced = []
    for i in range(40):
        item = segments[i]
        assert item["audio"].shape == (1, 20 * 64)
        assert item["f0"].shape == (1, 20)
        assert float(item["audio"].abs().max()) <= 1
        voiced.append(item["f0"][item["f0"] > 0])
    all_voiced = np.concatenate([v.numpy() for v in voiced])
    assert all_voiced.min() > 110 * 0.68
    assert all_voiced.max() < 265 * 1.45


def test_a_segment_follows_from_seed_and_number(tmp_path: Path) -> None:
    first, again, other = dataset(tmp_path), dataset(tmp_path), dataset(tmp_path, seed=1)
    for i in (5, 0, 3):
        assert np.array_equal(first[i]["audio"], again[i]["audio"])
        assert not np.array_equal(first[i]["audio"], other[i]["audio"])
    assert not np.array_equal(first[0]["audio"], first[1]["audio"])


def noise_file(path: Path, rate: int, samples: int) -> Clip:
    audio = np.random.RandomState(1).uniform(-0.5, 0.5, samples).astype(np.float32)
    soundfile.write(path, audio, rate, subtype="FLOAT")
    return Clip(path, rate, samples)


def small_task(mel_config: MelConfig) -> GeneratorTask:
    recipe = {
        **{"name": "x", "mel_config": mel_config.model_dump(), "data": {"dir": "x"}, "optimizer": {"lr": 1e-3}},
        "generator": {"name": "vocos", "config": models.small("vocos", mel_config)},
        "train": {"steps": 1, "batch_size": 1, "segment_frames": 8},
    }
    return GeneratorTask(Recipe.model_validate(recipe))


@pytest.mark.parametrize("name", MEL_CONFIGS)
def test_the_mel_of_a_segment_is_a_part_of_that_of_the_recording(name: str, tmp_path: Path) -> None:
    """Both ends of the recording included, of which the segment of 8 frames of 12 has one in two of five cases."""
    mel_config, frames = MEL_CONFIGS[name], 8
    task, hop = small_task(mel_config), mel_config.hop_length
    clip = noise_file(tmp_path / "a.wav", mel_config.sample_rate, 12 * hop + 7)
    whole = torch.from_numpy(soundfile.read(clip.path, dtype="float32")[0])
    whole_mel, labels = task.log_mel(whole), np.linspace(100, 200, 1000, dtype=np.float32)
    whole_f0 = f0_at(labels, frame_times(12, task.log_mel.mel_config))
    segments = SegmentDataset([clip], [labels], DataRecipe(dir="x"), task.log_mel.mel_config, frames, 0)  # type: ignore[arg-type]
    starts = set()
    for i in range(24):
        batch = {key: value[None] for key, value in segments[i].items()}
        (start,) = np.flatnonzero(whole.numpy() == batch["audio"][0, 0, 0].numpy())
        assert torch.equal(batch["audio"][0, 0], whole[start : start + frames * hop])
        first, rest = divmod(int(start), hop)
        assert rest == 0
        torch.testing.assert_close(task.mel(batch)[0], whole_mel[:, first : first + frames], atol=1e-6, rtol=0)
        assert batch["f0"][0, 0].numpy() == pytest.approx(whole_f0[first : first + frames], abs=1e-4)
        starts.add(first)
    assert starts == {0, 1, 2, 3, 4}


@pytest.mark.parametrize(("rate", "speed"), [(32000, 1.0), (22050, 1.0), (12000, 1.0), (16000, 1.3), (44100, 0.8)])
def test_a_segment_is_a_part_of_the_resampled_recording(rate: int, speed: float, tmp_path: Path) -> None:
    clip = noise_file(tmp_path / "a.wav", rate, rate // 4)
    data = DataRecipe(dir="x", speed=(speed, speed))
    task = small_task(MEL_CONFIG)
    segments = SegmentDataset([clip], None, data, MEL_CONFIG, 8, 0)
    played = round(rate * speed / 320) * 320 if speed != 1 else rate
    whole = torch.from_numpy(resample(soundfile.read(clip.path, dtype="float32")[0], played, 16000))
    whole_mel = task.log_mel(whole)
    for i in range(12):
        batch = {key: value[None] for key, value in segments[i].items()}
        windows = whole.unfold(0, 8 * 64, 64)
        first = int((windows - batch["audio"][0, 0]).abs().amax(1).argmin())
        torch.testing.assert_close(batch["audio"][0, 0], windows[first], atol=1e-5, rtol=0)
        torch.testing.assert_close(task.mel(batch)[0], whole_mel[:, first : first + 8], atol=1e-3, rtol=0)


def test_without_context_a_segment_stands_for_itself(tmp_path: Path) -> None:
    clip = noise_file(tmp_path / "a.wav", 16000, 8000)
    item = SegmentDataset([clip], None, DataRecipe(dir="x", context=False), MEL_CONFIG, 8, 0)[0]
    assert item.keys() == {"audio", "f0"}
    task = small_task(MEL_CONFIG)
    assert torch.equal(task.mel({"audio": item["audio"][None]})[0], task.log_mel(item["audio"][0]))


def test_speed_scales_the_pitch_with_the_label(tmp_path: Path) -> None:
    """WORLD on the segment itself agrees with the label that was scaled."""
    segments = dataset(tmp_path, frames=60, speed=(1.3, 1.3))
    compared = 0
    for i in range(30):
        item = segments[i]
        label, audio = item["f0"][0].numpy(), item["audio"][0].numpy()
        if (label[10:50] > 0).all():
            fresh = f0_at(label_f0(audio, 16000), frame_times(60, MEL_CONFIG))[20:40]
            ratio = fresh[fresh > 0] / label[20:40][fresh > 0]
            if len(ratio):
                assert np.abs(np.median(ratio) - 1) < 0.02
                compared += 1
    assert compared >= 3


def test_clips_shorter_than_a_segment_are_padded(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    root.mkdir()
    soundfile.write(root / "short.wav", signals.noise(16000, 0.05), 16000)
    (root / "train.txt").write_text("short.wav")
    item = dataset(tmp_path)[0]
    assert item["audio"].shape == (1, 1280)
    assert (item["audio"][0, 800:] == 0).all()
    assert (item["audio"][0, :800] != 0).any()


def test_labels_are_cached(tmp_path: Path) -> None:
    segments = dataset(tmp_path)
    (stored,) = (tmp_path / "cache").iterdir()
    stamp = stored.stat().st_mtime_ns
    again = dataset(tmp_path).labels
    assert again is not None
    assert segments.labels is not None
    assert again[1].tolist() == segments.labels[1].tolist()
    assert stored.stat().st_mtime_ns == stamp


def test_labels_of_a_known_pitch() -> None:
    audio = signals.voice(16000, 1.0, f0=200, glide=0)
    labels = label_f0(audio, 16000)
    assert len(labels) == 1 / F0_PERIOD + 1
    assert np.median(labels[labels > 0]) == pytest.approx(200, rel=0.005)
    assert (label_f0(signals.noise(16000, 1.0), 16000) > 0).mean() < 0.1


def test_interpolation_of_labels() -> None:
    labels = np.array([100, 110, 0, 120], dtype=np.float32)
    result = f0_at(labels, F0_PERIOD * np.array([0, 0.5, 1.4, 1.6, 2.6, 9]))
    np.testing.assert_allclose(result, [100, 105, 110, 0, 120, 120], rtol=1e-6)


def test_frame_times_follow_the_padding() -> None:
    assert frame_times(2, MEL_CONFIGS["hifigan-22k"])[0] == pytest.approx(128 / 22050)
    assert frame_times(2, MEL_CONFIGS["tacotron2-22k"]).tolist() == [0, 256 / 22050]


def test_whole_clips_come_at_the_rate_of_the_mel_config(tmp_path: Path) -> None:
    segments = dataset(tmp_path)
    audio = read_clip(segments.clips[0], MEL_CONFIGS["hifigan-22k"])
    assert audio.shape == (1, int(0.8 * 22050) // 256 * 256)


def test_lists_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match=r"cannot read the list of recordings .*No such file"):
        list_clips(tmp_path, tmp_path / "none.txt")
    (tmp_path / "list.txt").write_text("gone.wav\n")
    with pytest.raises(VocoderError, match=r"none of the 1 recordings of .* such as .*gone\.wav \(no such file\)"):
        list_clips(tmp_path, tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("\n\n")
    with pytest.raises(VocoderError, match="names no recordings"):
        list_clips(tmp_path, tmp_path / "list.txt")


def test_any_folder_works_without_lists(tmp_path: Path) -> None:
    """Which recordings validate depends on their names alone; both sides together are all of them."""
    for i in range(300):
        path = tmp_path / "deep" / str(i % 7) / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(16), 16000)
    train, valid = split_clips(DataRecipe(dir=str(tmp_path)))
    assert 1 <= len(valid) <= 8
    assert len(train) + len(valid) == 300
    assert not {c.path for c in train} & {c.path for c in valid}
    assert split_clips(DataRecipe(dir=str(tmp_path), valid_clips=1))[0] == train  # it only thins what is validated
    soundfile.write(tmp_path / "more.ogg", np.zeros(16), 16000)
    more, later = split_clips(DataRecipe(dir=str(tmp_path)))
    assert {c.path for c in valid} <= {c.path for c in later}
    assert {c.path for c in train} <= {c.path for c in more}
    (tmp_path / "valid.txt").write_text("deep/0/0.wav\n")
    train, valid = split_clips(DataRecipe(dir=str(tmp_path), valid="valid.txt"))
    assert [c.path.name for c in valid] == ["0.wav"]
    (tmp_path / "many.txt").write_text("\n".join(f"deep/0/{i}.wav" for i in range(0, 294, 7)))
    train, valid = split_clips(DataRecipe(dir=str(tmp_path), valid="many.txt", valid_clips=3))
    assert [c.path.name for c in valid] == ["0.wav", "140.wav", "287.wav"]  # and none of the 42 is trained on
    assert len(train) == 301 - 42
    (tmp_path / "valid.txt").write_text("deep/0/0.wav\n")
    train, valid = split_clips(DataRecipe(dir=str(tmp_path), valid="valid.txt"))
    assert len(train) == 300


def test_a_list_that_is_missing_is_named(tmp_path: Path) -> None:
    data = corpus.make(tmp_path / "mine")
    recipe = load_recipe(corpus.recipe(tmp_path, data))
    found = find_recordings(recipe)
    assert [clip.path.name for clip in found.train] == ["0.flac", "1.flac", "2.flac"]
    (data / "train.txt").unlink()
    with pytest.raises(VocoderError, match=r"cannot read the list .*train\.txt: .*recipes\.train MODEL DIR"):
        find_recordings(recipe)


@pytest.mark.parametrize(("cores", "ranks", "expected"), [(1, 1, 1), (2, 1, 2), (64, 1, 4), (6, 2, 3), (2, 8, 1)])
def test_no_more_workers_than_cores(
    cores: int, ranks: int, expected: int, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """PyTorch warns of more."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cores))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    workers = loader_workers(DataRecipe(dir="."))
    assert workers == expected
    DataLoader(TensorDataset(torch.zeros(1)), num_workers=workers)
    assert not recwarn.list
    assert loader_workers(DataRecipe(dir=".", workers=7)) == 7


def test_a_folder_of_one_recording_validates_on_it(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "only.wav", np.zeros(16), 16000)
    train, valid = split_clips(DataRecipe(dir=str(tmp_path)))
    assert train == valid
    (tmp_path / "valid.txt").write_text("only.wav\n")
    with pytest.raises(VocoderError, match="lists all recordings"):
        split_clips(DataRecipe(dir=str(tmp_path), valid="valid.txt"))


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(VocoderError, match="there is no folder"):
        find_clips(tmp_path / "gone")
    with pytest.raises(VocoderError, match="holds no recordings; known endings: "):
        find_clips(tmp_path)


def test_bad_files_are_listed_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus.make(tmp_path / "data")
    (tmp_path / "data" / "broken.wav").write_bytes(b"not a sound file")
    soundfile.write(tmp_path / "data" / "empty.wav", np.zeros(0), 16000)
    assert len(find_clips(tmp_path / "data")) == 4
    error = capsys.readouterr().err
    assert "left out 2 of 6 recordings that cannot be read: " in error
    assert "broken.wav (" in error
    assert "empty.wav (empty)" in error


def test_of_many_bad_files_the_first_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus.make(tmp_path / "data")
    for number in range(10, 30):
        (tmp_path / "data" / f"broken{number}.wav").write_bytes(b"not a sound file")
    find_clips(tmp_path / "data")
    error = capsys.readouterr().err
    assert [f"broken{number}.wav" in error for number in (10, 14, 15)] == [True, True, False]
    assert error.endswith(" and 15 more\n")


def test_a_recording_damaged_behind_its_header_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = dataset(tmp_path)
    path = whole.clips[0].path
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes(len(content) - 200))
    items = [whole[i] for i in range(12)]
    assert "skipping a recording that cannot be decoded" in capsys.readouterr().err
    assert all(torch.isfinite(item["audio"]).all() for item in items)
    again = [whole[i] for i in range(12)]
    assert all(torch.equal(a["audio"], b["audio"]) for a, b in zip(items, again, strict=True))


def test_labels_of_many_clips_are_computed_in_parallel_and_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that is there is not computed again; the labels are those of each clip alone."""
    for i in range(70):
        soundfile.write(tmp_path / f"{i:02}.wav", signals.voice(16000, 0.15, f0=100 + i), 16000)
    clips = find_clips(tmp_path)
    monkeypatch.setattr("recipes.data.f0_labels._BLOCK", 40)
    labels = F0Labels(clips, tmp_path / "cache")
    for i in (0, 39, 40, 69):
        assert np.array_equal(labels[i], label_f0(signals_of(clips[i]), 16000))
    first, _ = sorted((tmp_path / "cache").iterdir(), key=lambda path: path.stat().st_mtime)
    first.unlink()
    monkeypatch.setattr("recipes.data.f0_labels.label_clip", lambda clip, f0_range: np.zeros(31, np.float32))
    again = F0Labels(clips, tmp_path / "cache")
    assert not again[0].any()
    assert np.array_equal(again[69], labels[69])
    assert not F0Labels(clips[:1], tmp_path / "cache", (50.0, 400.0))[0].any()


def signals_of(clip: Clip) -> np.ndarray:
    return soundfile.read(clip.path)[0]


def test_floats_in_the_range_of_integers_are_no_training_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "loud.wav", 32768 * signals.noise(22050, 1.0), 22050, subtype="FLOAT")
    (clip,) = find_clips(tmp_path)
    message = f"{clip.path} has samples up to .*, far beyond full scale, 1; to scale it: python -c"
    with pytest.raises(VocoderError, match=message):
        read_clip(clip, MEL_CONFIGS["hifigan-22k"])
    with pytest.raises(VocoderError, match="twenty recordings in a row"):
        SegmentDataset([clip], None, DataRecipe(dir="."), MEL_CONFIGS["hifigan-22k"], 8, 0)[0]
    assert "far beyond full scale" in capsys.readouterr().err


def test_a_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    with pytest.raises(VocoderError, match=r"a\.flac \(a Git LFS pointer; fetch it: git -C .* lfs pull\)"):
        find_clips(tmp_path)
