"""``vocode``, run as a user runs it: in this process where that is enough, else in one of its own."""

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import models, signals
from tests.support.commands import HELLO, VOCODE, files, refused, run_python
from tests.support.exported import Exported
from vocoders.cli.execution import Worker
from vocoders.cli.plan import Job
from vocoders.cli.vocode import vocode
from vocoders.io.mels import encode_mel


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*VOCODE, *arguments], input=stdin, capture_output=True, timeout=300)


def test_mel_to_audio(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vocode(["mel12.npy", "-o", "out.wav", "-m", "model.safetensors"]) == 0
    audio, rate = soundfile.read("out.wav")
    assert (len(audio), rate) == (12 * 32, 8000)
    assert soundfile.info("out.wav").subtype == "PCM_16"
    noted = capsys.readouterr().err
    assert "mel12.npy carries no mel config; taken as the model's, custom (20 bands, 8000 Hz)" in noted
    assert "wrote out.wav: 0.05 s at 8000 Hz" in noted
    assert vocode(["mel12.npy", "-o", "out.flac", "-m", "model.safetensors", "-q"]) == 0
    np.testing.assert_array_equal(soundfile.read("out.flac")[0], audio)
    assert capsys.readouterr().err == ""
    same = ["mel12.npy", "-o", "OUT.FLAC", "--format", "flac", "-m", "model.safetensors", "-q"]
    assert vocode(same) == 0


def test_a_mel_of_one_frame(work: Path) -> None:
    assert vocode(["mel1.npy", "-o", "out.wav", "-m", "model.safetensors"]) == 0
    assert soundfile.info("out.wav").frames == 32


def test_the_built_in_voice_keeps_the_mel(work: Path) -> None:
    """The mel of the synthesised audio is near the one it was made from."""
    assert vocode([str(HELLO), "-o", "out.wav", "-q"]) == 0
    assert vocode(["out.wav", "-o", "back.npz", "-q"]) == 0
    mel, back = np.load(HELLO)["mel"], np.load("back.npz")["mel"]
    assert back.shape == mel.shape
    assert np.abs(back - mel).mean() < 0.25


def test_seed_and_f0(work: Path) -> None:
    def audio(*more: str) -> np.ndarray:
        assert vocode(["mel40.npy", "-o", "out.wav", "-m", "model.safetensors", "-q", *more]) == 0
        return soundfile.read("out.wav")[0]

    plain = audio()
    np.testing.assert_array_equal(audio("--seed", "0"), plain)
    assert not np.array_equal(audio("--seed", "1"), plain)
    np.save("f0.npy", np.full(40, 200.0))
    with pytest.raises(SystemExit) as stopped:
        audio("--seed", "99999999999999999999999")
    assert stopped.value.code == 2
    given = audio("--f0", "f0.npy")
    assert not np.array_equal(given, plain)
    np.savez("mel40.npz", mel=np.load("mel40.npy"), f0=np.load("f0.npy"))
    assert vocode(["mel40.npz", "-o", "out.wav", "-m", "model.safetensors", "-q"]) == 0
    np.testing.assert_array_equal(soundfile.read("out.wav")[0], given)
    np.save("other.npy", np.full(40, 100.0))
    assert vocode(["mel40.npz", "-o", "out.wav", "-m", "model.safetensors", "-q", "--f0", "other.npy"]) == 0
    np.testing.assert_array_equal(soundfile.read("out.wav")[0], audio("--f0", "other.npy"))


def test_analysis_and_copy_synthesis(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vocode(["voice.wav", "-o", "mel.npz", "-m", "model.safetensors"]) == 0
    stored = np.load("mel.npz")
    assert stored["mel"].shape == (20, 125)
    assert json.loads(str(stored["mel_config"]))["hop_length"] == 32
    assert vocode(["voice.wav", "-o", "mel.npy", "-m", "model.safetensors"]) == 0
    np.testing.assert_array_equal(np.load("mel.npy"), stored["mel"])
    assert vocode(["mel.npz", "-o", "a.wav", "-m", "model.safetensors"]) == 0
    assert vocode(["voice.wav", "-o", "b.wav", "-m", "model.safetensors"]) == 0
    np.testing.assert_array_equal(soundfile.read("a.wav")[0], soundfile.read("b.wav")[0])
    assert "carries no mel config" not in capsys.readouterr().err


def test_other_rates_and_stereo_are_reported(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mono = signals.voice(16000, 0.5)
    soundfile.write("stereo.wav", np.stack([mono, -0.5 * mono], 1), 16000)
    soundfile.write("mono.wav", 0.25 * mono, 16000)
    assert vocode(["stereo.wav", "-o", "mel.npy", "-m", "model.safetensors"]) == 0
    noted = capsys.readouterr().err
    assert "stereo.wav has 2 channels, mixed down to one" in noted
    assert "stereo.wav is at 16000 Hz, resampled to 8000 Hz" in noted
    assert vocode(["mono.wav", "-o", "mono.npy", "-m", "model.safetensors"]) == 0
    np.testing.assert_allclose(np.load("mel.npy"), np.load("mono.npy"), atol=0.02)


def test_mel_configs(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vocode(["voice.wav", "-o", "tacotron.npz", "-m", "model.safetensors", "--mel-config", "tacotron2-22k"]) == 0
    assert json.loads(str(np.load("tacotron.npz")["mel_config"]))["padding"] == "center"
    capsys.readouterr()
    assert vocode(["tacotron.npz", "-o", "out.wav", "-m", "model.safetensors"]) == 0
    noted = capsys.readouterr().err
    assert "the mel is approximated for the model, tacotron2-22k as custom: sample_rate 22050 against 8000" in noted
    assert "hop_length 256 against 32" in noted
    frames = np.load("tacotron.npz")["mel"].shape[1]
    assert (soundfile.info("out.wav").samplerate, soundfile.info("out.wav").frames) == (22050, 256 * frames)
    assert vocode(["tacotron.npz", "-o", "built-in.wav"]) == 0  # chosen by the mel config
    assert "tacotron2-22k as hifigan-22k: padding center against same" in capsys.readouterr().err
    message = refused(work, capsys, "tacotron.npz", "-o", "out.wav", "--model-rate")
    assert "at the model's rate, 8000 Hz, a frame of tacotron2-22k is no whole number of samples" in message
    message = refused(work, capsys, "tacotron.npz", "-o", "out.wav", "--mel-config", "hifigan-22k")
    assert (
        "tacotron.npz: its own mel config contradicts --mel-config hifigan-22k: padding center against same" in message
    )
    message = refused(work, capsys, "tacotron.npz", "-o", "out.wav", "--mel-config", "tacotron2-22k:log=log10")
    assert "contradicts --mel-config tacotron2-22k:log=log10: log ln against log10" in message
    assert "did you mean" in refused(work, capsys, "mel12.npy", "-o", "x.wav", "--mel-config", "hifigan-22k:flor=1")


def test_a_mel_in_another_logarithm_is_converted(work: Path) -> None:
    mel = models.mel(12)[0].numpy().clip(np.log(1e-5))
    decimal = models.MEL_CONFIG.model_copy(update={"log": "log10"})
    Path("decimal.npz").write_bytes(encode_mel((mel / np.log(10)).astype(np.float32), decimal, "npz"))
    assert vocode(["decimal.npz", "-o", "a.wav", "-m", "model.safetensors"]) == 0
    np.save("natural.npy", mel)
    assert vocode(["natural.npy", "-o", "b.wav", "-m", "model.safetensors"]) == 0
    np.testing.assert_allclose(soundfile.read("a.wav")[0], soundfile.read("b.wav")[0], atol=1e-3)


def test_unusual_values_are_noted(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hello = np.load(HELLO)["mel"]
    np.save("linear.npy", np.exp(hello))
    np.save("decimal.npy", hello / np.log(10))
    assert vocode(["linear.npy", "-o", "out.wav"]) == 0
    assert "it looks like a linear mel" in capsys.readouterr().err
    assert vocode(["decimal.npy", "-o", "out.wav"]) == 0
    assert "it looks like log10" in capsys.readouterr().err
    assert vocode(["decimal.npy", "-o", "out.wav", "--mel-config", "hifigan-22k:log=log10"]) == 0  # as the note says
    assert "looks like" not in capsys.readouterr().err
    np.save("scaled.npy", ((hello * 20 / np.log(10) + 80) / 12.5 - 4).clip(-4, 4))
    assert vocode(["scaled.npy", "-o", "out.wav"]) == 0
    note = capsys.readouterr().err
    assert "normalised from 100 dB to -4 to 4" in note
    code = shlex.split(note.split("to convert it: python -c ")[1])[0]
    subprocess.run([sys.executable, "-c", code], check=True)
    np.testing.assert_allclose(np.load("scaled.converted.npy"), hello.clip(np.log(1e-4)), atol=1e-4)
    assert vocode([str(HELLO), "-o", "out.wav"]) == 0
    assert "looks like" not in capsys.readouterr().err
    np.savez("loud.npz", mel=hello + 3, mel_config=np.load(HELLO)["mel_config"])  # stated, so not diagnosed
    assert vocode(["loud.npz", "-o", "out.wav"]) == 0
    assert "the mel is probably of another scale; state its mel config" in capsys.readouterr().err
    np.save("hundred.npy", np.zeros((100, 7), np.float32))
    assert "a model that takes 100 bands: -m hnmask-24k" in refused(work, capsys, "hundred.npy", "-o", "out.wav")
    soundfile.write("noise.wav", signals.noise(22050), 22050)  # what we analyse ourselves is not diagnosed
    assert vocode(["noise.wav", "-o", "noise.npz"]) == 0
    assert vocode(["noise.wav", "-o", "out.wav"]) == 0
    assert vocode(["noise.npz", "-o", "out.wav"]) == 0
    assert "looks like" not in capsys.readouterr().err


def test_a_batch_into_a_folder(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "in" / "deep").mkdir(parents=True)
    (work / "mel12.npy").rename(work / "in" / "a.npy")
    (work / "mel40.npy").rename(work / "in" / "deep" / "b.npy")
    (work / "in" / "notes.txt").write_text("no mel")
    (work / "in" / "deep" / "voice.m4a").write_text("no sound that can be read")
    assert vocode(["in", "-o", "out", "-m", "model.safetensors"]) == 0
    assert files(work / "out") == {"a.wav", "deep/b.wav"}
    alone = soundfile.read("out/deep/b.wav")[0]
    (work / "out" / "a.wav").unlink()
    stamp = (work / "out" / "deep" / "b.wav").stat().st_mtime_ns
    capsys.readouterr()
    assert vocode(["in", "-o", "out", "-m", "model.safetensors"]) == 0  # resumes
    said = capsys.readouterr().err
    assert "1 of 2 outputs are there already" in said
    assert (
        f"2 files of in that are neither mels nor sounds which can be read: {Path('deep/voice.m4a')}, notes.txt" in said
    )
    assert (work / "out" / "deep" / "b.wav").stat().st_mtime_ns == stamp
    assert vocode(["in", "-o", "out", "-m", "model.safetensors", "--overwrite"]) == 0
    assert (work / "out" / "deep" / "b.wav").stat().st_mtime_ns != stamp
    np.testing.assert_array_equal(soundfile.read("out/deep/b.wav")[0], alone)
    assert vocode(["in/deep/b.npy", "-o", "single.wav", "-m", "model.safetensors"]) == 0
    np.testing.assert_array_equal(soundfile.read("single.wav")[0], alone)


def test_globs_and_many_files(work: Path) -> None:
    assert vocode(["mel*.npy", "-o", "out/", "-m", "model.safetensors", "--format", "flac"]) == 0
    assert files(work / "out") == {"mel1.flac", "mel12.flac", "mel40.flac"}
    assert vocode(["mel1.npy", "mel12.npy", "-o", "two", "-m", "model.safetensors"]) == 0
    assert files(work / "two") == {"mel1.wav", "mel12.wav"}
    assert vocode(["voice.wav", "-o", "mels/", "-m", "model.safetensors", "--format", "npz"]) == 0
    assert files(work / "mels") == {"voice.npz"}


def test_a_batch_that_meets_bad_files_finishes_the_rest(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("mel13.npy", np.full((20, 4), np.nan, np.float32))
    (work / "mel14.npy").write_bytes(b"")
    assert vocode(["mel*.npy", "-o", "out", "-m", "model.safetensors", "-q"]) == 1
    assert files(work / "out") == {"mel1.wav", "mel12.wav", "mel40.wav"}
    noted = capsys.readouterr().err.splitlines()
    assert noted[0] == "vocode: 2 of 5 files could not be done:"
    assert len(noted) == 3
    assert "mel13.npy: the mel holds 80 NaN" in noted[1]
    assert "mel14.npy is empty" in noted[2]


def test_a_defect_that_one_file_brings_out_does_not_cost_the_others(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = Worker.do

    def do(self: Worker, job: Job, bar: bool = False) -> str:
        if job.name == "mel12.npy":
            raise ZeroDivisionError("surprise\nin two lines")
        return genuine(self, job, bar)

    monkeypatch.setattr(Worker, "do", do)
    assert vocode(["mel*.npy", "-o", "out", "-m", "model.safetensors", "-q"]) == 1
    assert files(work / "out") == {"mel1.wav", "mel40.wav"}
    assert capsys.readouterr().err.splitlines()[1] == "  mel12.npy: ZeroDivisionError: surprise"


def test_a_folder_may_be_input_and_output(work: Path) -> None:
    (work / "mels").mkdir()
    (work / "mel12.npy").rename(work / "mels" / "a.npy")
    assert vocode(["mels", "-o", "mels", "-m", "model.safetensors", "-q"]) == 0
    assert files(work / "mels") == {"a.npy", "a.wav"}
    np.save("mels/b.npy", models.mel(3)[0].numpy())
    assert vocode(["mels", "-o", "mels", "-m", "model.safetensors", "-q"]) == 0  # resumes
    assert files(work / "mels") == {"a.npy", "a.wav", "b.npy", "b.wav"}


def test_links_are_followed_and_pipes_written_to(work: Path) -> None:
    (work / "target.wav").touch()
    (work / "link.wav").symlink_to("target.wav")
    assert vocode(["mel12.npy", "-o", "link.wav", "-m", "model.safetensors"]) == 0
    assert (work / "link.wav").is_symlink()
    assert soundfile.info("target.wav").frames == 384
    assert vocode(["mel12.npy", "-o", "x" * 240 + ".wav", "-m", "model.safetensors"]) == 0


def test_a_terminal_gets_a_progress_bar_and_a_pipe_does_not(work: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    command = [*VOCODE, "mel1.npy", "mel12.npy", "-o", "out/", "-m", "model.safetensors"]
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    assert subprocess.run(command, stderr=theirs, timeout=300).returncode == 0
    os.close(theirs)
    assert b"2/2" in os.read(ours, 100_000)
    os.close(ours)
    done = subprocess.run([*command, "--overwrite"], capture_output=True, timeout=300)
    assert b"2/2" not in done.stderr
    assert b"\r" not in done.stderr


@pytest.mark.slow
def test_streams(work: Path) -> None:
    mel = (work / "mel12.npy").read_bytes()
    done = run("-", "-o", "-", "-m", "model.safetensors", stdin=mel)
    assert done.returncode == 0, done.stderr
    audio, rate = soundfile.read(io.BytesIO(done.stdout))
    assert (len(audio), rate) == (384, 8000)
    done = run("-", "-o", "-", "-m", "model.safetensors", "--format", "raw", "-q", stdin=mel)
    assert done.stderr == b""
    np.testing.assert_allclose(np.frombuffer(done.stdout, "<i2") / 32768, audio, atol=1e-4)
    done = run("-", "-o", "-", "-m", "model.safetensors", "--format", "npy", stdin=(work / "voice.wav").read_bytes())
    assert np.load(io.BytesIO(done.stdout)).shape == (20, 125)
    done = run("-", "-o", "out.wav", "-m", "model.safetensors", stdin=b"")
    assert (done.returncode, done.stderr) == (2, b"vocode: standard input is empty\n")
    assert not (work / "out.wav").exists()


@pytest.mark.slow
def test_memory_for_a_minute_of_mel(work: Path) -> None:
    """The built-in model stays under 1.5 GB, whatever the length."""
    hello = np.load(HELLO)["mel"]
    np.save("minute.npy", np.tile(hello, 12)[:, : 60 * 22050 // 256])
    code = (
        "import re; from vocoders.cli.vocode import vocode; assert vocode(['minute.npy', '-o', 'out.wav', '-q']) == 0; "
        "print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"
    )  # not ru_maxrss, which a process takes over from its parent
    assert int(run_python(code).stdout) * 1024 < 1.5e9
    assert soundfile.info("out.wav").duration == pytest.approx(60, abs=0.1)


def test_a_reader_that_goes_away_is_no_traceback(work: Path) -> None:
    np.save("long.npy", models.mel(9000)[0].numpy())
    with subprocess.Popen(
        [*VOCODE, "long.npy", "-o", "-", "-m", "model.safetensors"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 1


def test_the_garbage_collector_passes_over_what_lasts_in_the_program_alone(work: Path) -> None:
    code = (
        "import gc, sys\n"
        "from vocoders.cli.vocode import vocode\n"
        "arguments = ['mel12.npy', '-o', 'out.wav', '-m', 'model.safetensors', '-q']\n"
        "assert (vocode(arguments), gc.isenabled(), gc.get_freeze_count()) == (0, True, 0)\n"
        "for arguments[0], status in (('mel12.npy', 0), ('none.npy', 2)):\n"
        "    sys.argv[1:] = arguments\n"
        "    assert (vocode(), gc.isenabled(), gc.get_freeze_count() > 0) == (status, True, True)\n"
        "    gc.unfreeze()\n"
    )
    run_python(code)


def test_threads(work: Path) -> None:
    code = (
        "from vocoders.cli.vocode import vocode\n"
        "arguments = ['mel12.npy', '-o', 'out.wav', '-m', 'model.safetensors', '-q', '--threads']\n"
        "for threads in (1, 3, 2):\n"  # the first before torch is imported
        "    assert vocode([*arguments, str(threads)]) == 0\n"
        "    import torch\n"
        "    assert torch.get_num_threads() == threads\n"
    )
    run_python(code)
    for bad in ("0", "-1", "x"):
        with pytest.raises(SystemExit) as stopped:
            vocode(["mel12.npy", "-o", "out.wav", "--threads", bad])
        assert stopped.value.code == 2


def test_threads_of_an_exported_model(work: Path, exported: Exported) -> None:
    code = (
        "import os, sys\nfrom vocoders.cli.vocode import vocode\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "from vocoders.cli import execution\nload = execution.load\n"
        "def counted(*arguments):\n"
        "    voc = load(*arguments)\n"
        "    print(len(os.listdir('/proc/self/task')) - before)\n"
        "    return voc\n"
        "execution.load = counted\n"
        "assert vocode(sys.argv[1:]) == 0\n"
    )
    more = []
    for threads in ("1", "4"):
        arguments = ["mel12.npy", "-o", "out.wav", "-m", exported("hifigan").name, "-q", "--threads", threads]
        more.append(int(run_python(code, *arguments).stdout))
    assert more[1] - more[0] == 3  # the main thread computes as well
