"""Bad input to ``vocode``: one sentence, status 2, no file left."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file, save_file

from tests.support import signals
from tests.support.commands import HELLO, refused


def test_files_that_cannot_be_read(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file none.npy" in refused(work, capsys, "none.npy", "-o", "out.wav")
    assert "no file matches 'x*.npy'" in refused(work, capsys, "x*.npy", "-o", "out/")
    (work / "empty.npy").touch()
    assert "empty.npy is empty (0 bytes)" in refused(work, capsys, "empty.npy", "-o", "out.wav")
    (work / "void").mkdir()
    assert "the folder void holds no mel" in refused(work, capsys, "void", "-o", "out/")
    (work / "text.npy").write_text("hello")
    assert "text.npy is not a readable .npy" in refused(work, capsys, "text.npy", "-o", "out.wav")
    (work / "cut.npy").write_bytes((work / "mel12.npy").read_bytes()[:-100])
    assert "cut.npy is not whole: its header claims 960 bytes of data, it holds 860" in refused(
        work, capsys, "cut.npy", "-o", "out.wav"
    )
    (work / "cut.npz").write_bytes(HELLO.read_bytes()[:-5000])
    assert "cut.npz is" in refused(work, capsys, "cut.npz", "-o", "out.wav")
    np.savez("other.npz", spectrogram=np.zeros(3))
    assert "holds no array named 'mel', only: spectrogram" in refused(work, capsys, "other.npz", "-o", "out.wav")
    (work / "noise.wav").write_bytes(np.random.default_rng(0).bytes(5000))
    assert "noise.wav is not a readable sound file" in refused(work, capsys, "noise.wav", "-o", "out.wav")
    soundfile.write("silent.wav", np.zeros(0), 8000)
    assert "silent.wav holds no audio: 0 samples" in refused(work, capsys, "silent.wav", "-o", "out.wav")
    soundfile.write("whole.flac", signals.voice(8000, 0.5), 8000)
    (work / "cut.flac").write_bytes((work / "whole.flac").read_bytes()[:30])
    assert "cut.flac is not a readable sound file" in refused(work, capsys, "cut.flac", "-o", "out.wav")
    soundfile.write("short.wav", np.zeros(31), 8000)
    assert "short.wav: the audio is shorter than one frame" in refused(work, capsys, "short.wav", "-o", "out.wav")


def test_sizes_that_only_a_header_claims_take_no_memory(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (work / "mel12.npy").read_bytes()
    (work / "claims.npy").write_bytes(data.replace(b"(20, 12), }      ", b"(20, 10000000), }"))
    assert "claims 800000000 bytes of data, it holds 960" in refused(work, capsys, "claims.npy", "-o", "out.wav")
    with zipfile.ZipFile("bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("mel.npy", "w") as member:
        for _ in range(1100):
            member.write(bytes(2**20))
    assert "more than 1073741824 are refused" in refused(work, capsys, "bomb.npz", "-o", "out.wav")
    with zipfile.ZipFile("text.npz", "w") as archive:
        archive.writestr("mel.npy", "hello")
    assert "text.npz (array 'mel') is not a readable .npy" in refused(work, capsys, "text.npz", "-o", "out.wav")
    for text in ("[" * 16_000, "1" * 5000, "{"):
        np.savez("deep.npz", mel=np.zeros((20, 4), np.float32), mel_config=np.array(text))
        assert "mel config stored in deep.npz is not JSON" in refused(work, capsys, "deep.npz", "-o", "out.wav")


def test_pickles_are_never_loaded(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(work / "owned"),)

    np.save("evil.npy", np.array([Hostile()], dtype=object), allow_pickle=True)
    assert "evil.npy holds pickled Python objects" in refused(work, capsys, "evil.npy", "-o", "out.wav")
    np.savez("evil.npz", mel=np.array([Hostile()], dtype=object))
    assert "evil.npz (array 'mel') holds pickled Python objects" in refused(work, capsys, "evil.npz", "-o", "out.wav")
    (work / "bare.npy").write_bytes(pickle.dumps(Hostile()))
    assert "bare.npy holds pickled Python objects" in refused(work, capsys, "bare.npy", "-o", "out.wav")
    assert not (work / "owned").exists()


@pytest.mark.parametrize(
    ("mel", "message"),
    [
        (np.zeros((20, 4), np.int32), "must hold floats"),
        (np.zeros(20, np.float32), "1-D"),
        (np.zeros((1, 1, 20, 4), np.float32), "4-D"),
        (np.zeros((2, 20, 4), np.float32), "a file holds one mel"),
        (np.full((20, 4), np.inf, np.float32), "80 NaN or infinite"),
        (np.zeros((80, 4), np.float32), r"expects 20 bands (custom), this mel has 80"),
        (np.zeros((4, 20), np.float32), "looks transposed"),
        (np.zeros((20, 0), np.float32), "empty"),
    ],
)
def test_mels_that_do_not_fit(work: Path, capsys: pytest.CaptureFixture[str], mel: np.ndarray, message: str) -> None:
    np.save("bad.npy", mel)
    answer = refused(work, capsys, "bad.npy", "-o", "out.wav", "-q")
    assert "bad.npy" in answer
    assert message in answer


def test_bad_outputs(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("f0.npy", np.zeros(12))
    assert "cannot write gone/out.wav" in refused(work, capsys, "mel12.npy", "-o", "gone/out.wav", "-q")
    assert "'out.xyz' must end in one of .wav" in refused(work, capsys, "mel12.npy", "-o", "out.xyz")
    assert "3 inputs need a folder as output, 'out.wav' is a file" in refused(work, capsys, "mel*.npy", "-o", "out.wav")
    for output, format in (("out.wav", "flac"), ("mel.npz", "npy"), ("out.raw", "wav")):
        message = refused(work, capsys, "voice.wav", "-o", output, "--format", format)
        assert f"--format {format} contradicts '{output}': name a file in .{format}, or leave --format out" in message
    assert "'-' is a stream" in refused(work, capsys, "mel*.npy", "-o", "-")
    assert "voice.wav is both input and output" in refused(work, capsys, "voice.wav", "-o", "voice.wav")
    assert "'voice.wav/' must be a folder, but is a file" in refused(work, capsys, "mel*.npy", "-o", "voice.wav/")
    assert "--f0 is not used in analysis" in refused(work, capsys, "voice.wav", "-o", "x.npy", "--f0", "f0.npy")
    message = refused(work, capsys, "voice.wav", "-o", "x.wav", "--mel-config", "hifigan-22k")
    assert "--mel-config is not used in copy synthesis" in message
    assert "File name too long" in refused(work, capsys, "mel12.npy", "-o", "x" * 300 + ".wav", "-q")
    (work / "x").mkdir()
    (work / "x" / "mel12.npy").touch()
    assert "would both become out/mel12.wav" in refused(work, capsys, "mel12.npy", "x/mel12.npy", "-o", "out/")
    assert "is a mel already" in refused(work, capsys, "mel12.npy", "-o", "out.npz", "-q")
    assert "--f0 needs a single input" in refused(work, capsys, "mel*.npy", "-o", "out/", "--f0", "f0.npy")


def test_bad_models_and_devices(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown model 'nobody'" in refused(work, capsys, "mel12.npy", "-o", "out.wav", "-m", "nobody")
    assert "there is no checkpoint" in refused(work, capsys, "mel12.npy", "-o", "out.wav", "-m", "no.safetensors")
    data = (work / "model.safetensors").read_bytes()
    (work / "cut.safetensors").write_bytes(data[: len(data) // 2])
    assert "is damaged" in refused(work, capsys, "mel12.npy", "-o", "out.wav", "-m", "cut.safetensors")
    save_file(load_file(work / "model.safetensors"), work / "foreign.safetensors")
    assert "not a checkpoint of this" in refused(
        work, capsys, "mel12.npy", "-o", "out.wav", "-m", "foreign.safetensors"
    )
    (work / "folder").mkdir()
    assert "folder holds no model: it is empty" in refused(work, capsys, "mel12.npy", "-o", "out.wav", "-m", "folder")
    message = refused(work, capsys, "mel12.npy", "-o", "out.wav", "-m", "folder/mine")
    assert "there is no file folder/mine" in message
    assert "device 'tpu9'" in refused(work, capsys, "mel12.npy", "-o", "out.wav", "--device", "tpu9")


def test_bad_f0_files(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("f0.npy", np.zeros(11))
    assert "one value per frame: expected 12, got 11" in refused(
        work, capsys, "mel12.npy", "-o", "out.wav", "--f0", "f0.npy", "-q"
    )
    message = refused(work, capsys, "mel12.npy", "-o", "out.wav", "--f0", "mel12.npy", "-q")
    assert "expected shape (12,), got shape (20, 12)" in message
    assert "no file nof0.npy" in refused(work, capsys, "mel12.npy", "-o", "out.wav", "--f0", "nof0.npy", "-q")
    np.savez("mel12.npz", mel=np.load("mel12.npy"), F0=np.zeros(12))
    message = refused(work, capsys, "mel12.npz", "-o", "out.wav", "-q")
    assert message.endswith("mel12.npz holds the unknown array 'F0' (did you mean 'f0'?)")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "locked").mkdir(mode=0o500)
    assert "cannot write locked/out.wav: Permission denied" in refused(
        work, capsys, "mel12.npy", "-o", "locked/out.wav"
    )
