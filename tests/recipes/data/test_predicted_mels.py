"""Predicted mels: found, checked against their recordings, and trained on frame by frame."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from recipes.data.clips import list_clips, open_clips, read_clip
from recipes.data.config import DataRecipe
from recipes.data.predicted_mels import PredictedMels, align, find_mel_config
from recipes.data.segments import SegmentDataset, centered_on_hops
from recipes.training.loop import run_training
from recipes.training.recipe import load_recipe
from tests.support import ROOT, corpus, models
from vocoders import LogMelSpectrogram, MelConfig, VocoderError
from vocoders.checkpoint import load_checkpoint
from vocoders.io.mels import encode_mel

HIFIGAN = MelConfig.parse("hifigan-22k")
MEL_CONFIG = MelConfig(**corpus.MEL_CONFIG)


def predicted(
    data: Path, folder: Path, mel_config: MelConfig = MEL_CONFIG, ending: str = "npy", width: int = 3
) -> Path:
    """The mel of each recording, a little blurred, as an acoustic model would."""
    folder.mkdir()
    for path in sorted(data.glob("*.flac")):
        clip = list_clips(data, _list(data, path.name))[0]
        mel = LogMelSpectrogram(mel_config)(read_clip(clip, mel_config))
        blurred = torch.nn.functional.avg_pool1d(mel, width, 1, width // 2, count_include_pad=False)[0].numpy()
        (folder / f"{path.stem}.{ending}").write_bytes(encode_mel(blurred, mel_config, ending))
    return folder


def _list(data: Path, name: str) -> Path:
    path = data / "one.txt"
    path.write_text(name)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return corpus.make(tmp_path / "data")


def test_an_offset_is_found_and_named() -> None:
    real = torch.randn(20, 200, generator=torch.Generator().manual_seed(0))
    noisy = real + 0.3 * torch.randn(20, 200, generator=torch.Generator().manual_seed(1))
    for offset in (-5, -1, 0, 2, 9):
        result = align(noisy.roll(offset, 1), real)
        assert result.offset == offset
        assert result.correlation > 0.9
    assert align(torch.randn(20, 200), real).correlation < 0.3
    assert align(real[:, :4], real[:, :4]).offset == 0


def test_mels_are_found_by_name_and_checked(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = predicted(data, tmp_path / "mels")
    clips = list_clips(data, data / "train.txt")
    assert all(clip in PredictedMels(folder, data, clips, MEL_CONFIG) for clip in clips)
    assert capsys.readouterr().err == ""

    mel = np.load(folder / "0.npy")
    np.save(folder / "0.npy", np.roll(mel, 3, axis=1))
    (folder / "1.npy").unlink()
    mels = PredictedMels(folder, data, clips, MEL_CONFIG)
    error = capsys.readouterr().err
    assert "left out 1 of 3 recordings without a mel" in error
    assert "left out 1 mels that do not fit: 0.npy (3 frames late: correlation 1.00 there, 0." in error
    assert [clip.path.name for clip in clips if clip in mels] == ["2.flac"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda mel: mel.T, r"bands, not 20, it looks transposed"),
        (lambda mel: mel[:, :-9], r"191 frames, 200 in the recording"),
        (lambda mel: np.random.default_rng(0).normal(size=mel.shape), r"another recording: correlation -?0\.\d+"),
        (lambda mel: mel * 0.4343, r"another mel config than custom: its values vary 0\.4\d times as much"),
        (lambda mel: mel - 7, r"another mel config than custom: .* lie -7\.\d+ beside them"),
        (lambda mel: mel * np.nan, r"needs finite numbers"),
        (lambda mel: mel.astype(int), r"needs finite numbers \(n_mels, frames\), got int64"),
    ],
)
def test_mels_that_do_not_fit_stop_the_run(
    change: Callable[[np.ndarray], np.ndarray], reason: str, data: Path, tmp_path: Path
) -> None:
    folder = predicted(data, tmp_path / "mels")
    for path in folder.iterdir():
        np.save(path, change(np.load(path)))
    with pytest.raises(VocoderError, match=f"3 of 3 mels do not fit their recordings: .*{reason}"):
        PredictedMels(folder, data, list_clips(data, data / "train.txt"), MEL_CONFIG)


def test_a_folder_without_mels(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mels").mkdir()
    with pytest.raises(VocoderError, match=r"holds no mel named like one of the 3 recordings"):
        PredictedMels(tmp_path / "mels", data, list_clips(data, data / "train.txt"), MEL_CONFIG)


@pytest.mark.parametrize("padding", ["same", "center"])
def test_segments_of_mel_and_audio_are_of_the_same_place(padding: str, data: Path, tmp_path: Path) -> None:
    mel_config = MEL_CONFIG.model_copy(update={"padding": padding})
    folder = predicted(data, tmp_path / "mels", mel_config, "npz", width=1)
    clips = list_clips(data, data / "train.txt")
    mels = PredictedMels(folder, data, clips, mel_config)
    segments = SegmentDataset(
        clips, None, DataRecipe(dir=str(data), mels=str(folder)), centered_on_hops(mel_config), 24, 0, mels
    )
    own = LogMelSpectrogram(centered_on_hops(mel_config))
    for i in range(8):
        item = segments[i]
        assert item["mel"].shape == (20, 24)
        torch.testing.assert_close(item["mel"][:, 3:-3], own(item["audio"][0])[:, 3:-3], rtol=1e-3, atol=1e-3)


def test_fine_tuning_on_them(data: Path, tmp_path: Path) -> None:
    """From a checkpoint, whose configuration the recipe need not repeat, with discriminators of the first run."""
    discriminators = {"multi-resolution": {"n_ffts": [256], "channels": 4}}
    first = corpus.recipe(tmp_path, data, discriminators=discriminators)
    run_training(load_recipe(first), tmp_path / "first")
    folder = predicted(data, tmp_path / "mels")
    second = corpus.recipe(
        tmp_path,
        data,
        discriminators=discriminators,
        generator={"name": "hnmask", "init": str(tmp_path / "first" / "model.safetensors")},
    )
    changes = ["data.speed=[1, 1]", "data.gain_db=[0, 0]", f"data.mels={folder}"]
    changes += [f"adversarial.init={tmp_path / 'first' / 'discriminators.safetensors'}"]
    path = run_training(load_recipe(second, changes), tmp_path / "second")
    tuned, original = load_checkpoint(path), load_checkpoint(tmp_path / "first" / "model.safetensors")
    assert models.generator_of(tuned).config == models.generator_of(original).config
    with pytest.raises(VocoderError, match=r"holds the discriminators .* the recipe names"):
        run_training(load_recipe(second, [*changes, "discriminators.multi-resolution.channels=8"]), tmp_path / "third")
    with pytest.raises(VocoderError, match=r"speed must be \[1, 1\] and gain_db \[0, 0\], got \[0\.8, 1\.25\] and \[0"):
        load_recipe(second, [*changes, "data.speed=[0.8, 1.25]"])


def test_what_fine_tuning_cannot_start_from(data: Path, tmp_path: Path) -> None:
    path = run_training(load_recipe(corpus.recipe(tmp_path, data), ["train.steps=1"]), tmp_path / "run")
    recipe = corpus.recipe(tmp_path, data, generator={"name": "hnmask", "init": str(path)})
    with pytest.raises(VocoderError, match=r"another mel config than the recipe's: floor 1e-05 against 0\.001"):
        run_training(load_recipe(recipe, ["mel_config.floor=0.001"]), tmp_path / "a")
    with pytest.raises(VocoderError, match="holds no generator 'hifigan'"):
        run_training(load_recipe(recipe, ["generator.name=hifigan", "losses={mel: 1.0}"]), tmp_path / "b")
    with pytest.raises(VocoderError, match=r"another configuration than the recipe; leave generator\.config out"):
        run_training(load_recipe(recipe, ["generator.config={channels: 8, n_fft: 128}"]), tmp_path / "c")


def test_mels_of_another_filter_bank_are_named(data: Path, tmp_path: Path) -> None:
    listed = sorted((ROOT / "docs" / "listen").glob("*-0-recording.flac"))[:3]
    audio = [read_clip(clip, HIFIGAN) for clip in open_clips(listed, "listed")]

    def found(made: MelConfig, width: float) -> str:
        mels = (LogMelSpectrogram(made)(each)[0].numpy() for each in audio)
        smoothed = (torch.from_numpy(gaussian_filter(mel, (width, width))) for mel in mels)
        return find_mel_config(list(zip(smoothed, audio, strict=True)), HIFIGAN).text

    for width in (0, 1, 2, 4):
        assert found(HIFIGAN, width) == "hifigan-22k"
    for text in ("bigvgan-22k", "hifigan-22k:mel_scale=htk", "hifigan-22k:fmin=80.0,fmax=7600.0"):
        for width in (0, 1):
            assert found(MelConfig.parse(text), width) == text

    other = MEL_CONFIG.model_copy(update={"mel_scale": "htk"})
    folder = predicted(data, tmp_path / "mels", other)
    clips = list_clips(data, data / "train.txt")
    with pytest.raises(VocoderError, match=r"the mels fit the recordings as .*mel_scale=htk.*--mel-config "):
        PredictedMels(folder, data, clips, MEL_CONFIG)
