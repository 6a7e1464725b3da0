"""``vocode`` in pieces: raw frames on standard input, and mels longer than what is synthesised at once."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import models, signals
from tests.support.commands import VOCODE, refused, run_python
from vocoders import MEL_CONFIGS, load
from vocoders.checkpoint import Checkpoint, save_checkpoint
from vocoders.cli.vocode import vocode
from vocoders.dsp.analysis import analyze
from vocoders.generators.hnmask import HNMask
from vocoders.io.mels import encode_mel

Run = Callable[..., tuple[int, bytes, str]]
RAW = ["-", "-o", "-", "--raw-mel", "--format", "raw", "-m", "model.safetensors"]
LONG = 3 * HNMask.chunk_frames + 40
# The mel config of the small models, by its differences from a named one.
SMALL = "hifigan-22k:sample_rate=8000,n_fft=128,hop_length=32,win_length=128,n_mels=20,fmax=4000,epsilon=0"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Run:
    """``vocode`` with bytes on standard input -> status, standard output, standard error."""

    def call(data: bytes, *arguments: str) -> tuple[int, bytes, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        status = vocode([*arguments])
        out, err = capsysbinary.readouterr()
        return status, out, err.decode()

    return call


def frames_of(mel: np.ndarray) -> bytes:
    return mel.T.astype("<f4").tobytes()


def samples(raw: bytes) -> np.ndarray:
    return np.frombuffer(raw, "<i2") / 32768


def test_raw_audio_leaves_while_raw_frames_arrive(work: Path) -> None:
    mel = models.mel(400)[0].numpy()
    data, pause = frames_of(mel), 200 * 80 + 7  # a pipe may pause within a frame
    with subprocess.Popen([*VOCODE, *RAW, "-q"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(data[:pause])
        process.stdin.flush()
        first = process.stdout.read(2 * 150 * 32)  # there before the rest of the frames is
        process.stdin.write(data[pause:])
        process.stdin.close()
        rest = process.stdout.read()
    assert process.returncode == 0
    np.testing.assert_allclose(samples(first + rest), load("model.safetensors")(mel), atol=1e-4)


def test_raw_frames_become_a_file(work: Path, run: Run) -> None:
    mel = np.load("mel40.npy")
    status, out, err = run(frames_of(mel), "-", "-o", "out.wav", "--raw-mel", "-m", "model.safetensors")
    assert (status, out) == (0, b"")
    assert "standard input carries no mel config" in err
    assert "wrote out.wav: 0.16 s at 8000 Hz" in err
    np.testing.assert_allclose(soundfile.read("out.wav")[0], load("model.safetensors")(mel), atol=1e-4)


def test_raw_frames_of_another_mel_config(work: Path, run: Run) -> None:
    mel = models.mel(150)[0].numpy().clip(np.log(1e-5))
    decimal = frames_of(mel / np.log(10))
    _, plain, err = run(frames_of(mel), *RAW)
    assert "it looks like" not in err
    _, _, err = run(decimal, *RAW)
    assert "standard input: values from" in err
    assert "it looks like log10" in err
    status, told, err = run(decimal, *RAW, "--mel-config", f"{SMALL},log=log10")
    assert status == 0
    assert err.startswith("vocode: wrote standard output: 0.60 s")  # and nothing else
    np.testing.assert_allclose(samples(told), samples(plain), atol=1e-3)
    other = analyze(signals.voice(22050, 0.58).astype(np.float32), MEL_CONFIGS["hifigan-22k"])
    status, out, err = run(frames_of(other), *RAW, "--mel-config", "hifigan-22k")
    assert (status, len(samples(out))) == (0, 256 * other.shape[1])
    assert "hifigan-22k as custom: sample_rate 22050 against 8000" in err
    assert "0.57 s at 22050 Hz" in err
    status, out, err = run(decimal, *RAW, "--mel-config", "hifigan-22k:n_mels=24")
    assert (status, out) == (2, b"")
    assert "n_mels must be from 32 to 256, it is 24" in err


def test_raw_frames_that_end_badly(work: Path, run: Run) -> None:
    data = frames_of(models.mel(200)[0].numpy())
    cut = "vocode: standard input ends within a frame: a frame is 20 float32, 80 bytes, the last 67 are too few\n"
    status, out, err = run(data[:-13], *RAW, "-q")
    assert (status, err) == (2, cut)
    assert len(out) >= 2 * 32 * 150  # what was final is out
    assert run(data[:-13], *RAW[:2], "out.wav", "--raw-mel", *RAW[-2:], "-q") == (2, b"", cut)
    assert not Path("out.wav").exists()
    for data, message in (
        (b"", "the stream ended before its first frame"),
        (frames_of(np.full((20, 3), np.nan)), "the mel holds 60 NaN or infinite values of 60"),
    ):
        assert run(data, *RAW, "-q") == (2, b"", f"vocode: standard input: {message}\n")


def test_where_raw_frames_have_no_meaning(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("f0.npy", np.zeros(12))
    for arguments in (
        ["mel12.npy", "-o", "out.wav"],
        ["-", "-o", "out.npz"],
        ["-", "-o", "out.wav", "--f0", "f0.npy"],
    ):
        message = refused(work, capsys, *arguments, "--raw-mel")
        assert "--raw-mel turns frames on standard input into a sound, without --f0" in message


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3", "raw"])
def test_a_long_mel_in_every_format(work: Path, ending: str) -> None:
    mel = models.mel(LONG)[0].numpy()
    np.save("long.npy", mel)
    assert vocode(["long.npy", "-o", f"out.{ending}", "-m", "model.safetensors", "-q"]) == 0
    whole = load("model.safetensors")(mel)
    audio = samples(Path("out.raw").read_bytes()) if ending == "raw" else soundfile.read(f"out.{ending}")[0]
    if ending in ("ogg", "mp3"):
        assert abs(len(audio) - len(whole)) < 3000  # lossy coders pad
    else:
        np.testing.assert_allclose(audio, whole, atol=1e-4)


def test_a_long_mel_however_it_is_stored(work: Path) -> None:
    mel = models.mel(LONG)[0].numpy().clip(np.log(1e-5))
    whole = load("model.safetensors")(mel)
    decimal = models.MEL_CONFIG.model_copy(update={"log": "log10"})
    np.save("a.npy", np.asfortranarray(mel))
    np.save("b.npy", mel.astype(">f8"))
    np.save("c.npy", mel[None])
    Path("d.npz").write_bytes(encode_mel((mel / np.log(10)).astype(np.float32), decimal, "npz"))
    np.save("e.npy", mel / np.log(10))
    more = {"e.npy": ["--mel-config", f"{SMALL},log=log10"]}
    for name in ("a.npy", "b.npy", "c.npy", "d.npz", "e.npy"):
        assert vocode([name, "-o", "out.wav", "-m", "model.safetensors", "-q", *more.get(name, [])]) == 0
        np.testing.assert_allclose(soundfile.read("out.wav")[0], whole, atol=1e-3, err_msg=name)


def test_a_long_mel_with_f0_or_a_model_that_cannot_stream(work: Path, run: Run) -> None:
    mel, f0 = models.mel(LONG)[0].numpy(), models.f0(LONG)[0, 0].numpy()
    np.save("long.npy", mel)
    np.save("f0.npy", f0)
    assert vocode(["long.npy", "-o", "out.wav", "-m", "model.safetensors", "-q", "--f0", "f0.npy"]) == 0
    np.testing.assert_allclose(soundfile.read("out.wav")[0], load("model.safetensors")(mel, f0=f0), atol=1e-4)
    model = models.generator("wavehax", framewise_norm=False)
    save_checkpoint(Checkpoint(models.MEL_CONFIG, model, models.f0_estimator()), Path("whole.safetensors"))
    assert vocode(["long.npy", "-o", "out.wav", "-m", "whole.safetensors", "-q"]) == 0
    np.testing.assert_allclose(soundfile.read("out.wav")[0], load("whole.safetensors")(mel), atol=1e-4)
    status, out, err = run(frames_of(mel), *RAW[:-1], "whole.safetensors", "-q")
    assert (status, out) == (2, b"")
    assert "this model cannot stream" in err


def test_a_long_mel_that_is_bad_at_its_end_leaves_no_file(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mel = models.mel(LONG)[0].numpy()
    mel[3, -1] = np.nan
    np.save("long.npy", mel)
    assert f"1 NaN or infinite values of {mel.size}" in refused(work, capsys, "long.npy", "-o", "out.wav", "-q")
    np.save("long.npy", np.full((20, LONG), 1e30, np.float32))
    assert "output is not finite" in refused(work, capsys, "long.npy", "-o", "out.wav", "-q")


def test_peaks_of_a_long_mel_are_noted(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("loud.npy", models.mel(LONG)[0].numpy() + 9)
    assert vocode(["loud.npy", "-o", "out.wav", "-m", "model.safetensors"]) == 0
    assert "loud.npy: peaks reach" in capsys.readouterr().err


def test_a_full_disk_is_a_sentence(work: Path) -> None:
    np.save("long.npy", models.mel(LONG)[0].numpy())
    code = (
        "import resource\nfrom vocoders.cli.vocode import vocode\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "for ending in ('wav', 'flac', 'raw'):\n"
        "    assert vocode(['long.npy', '-o', f'out.{ending}', '-m', 'model.safetensors', '-q']) == 2\n"
    )
    lines = run_python(code).stderr.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("vocode: ")
        assert "cannot write" in line
    assert not [name for name in os.listdir() if name.startswith((".vocoders", "out"))]


def test_a_terminal_sees_how_far_a_long_mel_is(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown(*arguments: str) -> str:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        assert vocode([*arguments, "-o", "out.wav", "-m", "model.safetensors"]) == 0
        return terminal.getvalue()

    np.save("long.npy", models.mel(LONG)[0].numpy())
    assert f"/{LONG * 32 / 1000:.1f}k [" in shown("long.npy")  # of so many samples
    assert shown("long.npy", "-q") == ""
    assert "sample/s" not in shown("mel40.npy")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_mel(work: Path) -> None:
    save_checkpoint(Checkpoint(models.MEL_CONFIG, models.generator("istftnet")), Path("small.safetensors"))
    for frames in (2_000, 150_000):
        np.save(f"{frames}.npy", np.tile(models.mel(1000)[0].numpy(), frames // 1000))
    code = (
        "import re\nfrom vocoders.cli.vocode import vocode\n"
        "for frames in (2_000, 150_000):\n"
        "    assert vocode([f'{frames}.npy', '-o', 'out.wav', '-q', '-m', 'small.safetensors']) == 0\n"
        "    print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    short, long = (int(line) * 1024 for line in run_python(code).stdout.split())
    # 12 MB are the pages of the mapped mel; its audio alone, held once as float32, would be 19 MB.
    assert long - short < 25e6
    assert soundfile.info("out.wav").frames == 150_000 * 32
