"""What works where there is no torch, and what says that it needs it.

.ci/run runs this file, and the server's fault tests, in an environment without torch as well.
"""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from tests.support import DATA, signals
from tests.support.server import npy, process

HELLO = DATA / "hello.npz"
HIDDEN = ("torch", "safetensors", "huggingface_hub")


def run(code: str, cwd: Path, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run code in a process that has no torch."""
    hide = f"import sys; sys.modules |= dict.fromkeys({HIDDEN})\n"
    return subprocess.run([sys.executable, "-c", hide + code], cwd=cwd, input=stdin, capture_output=True, timeout=300)


def vocode(cwd: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    done = run(f"from vocoders.cli.vocode import vocode; sys.exit(vocode({arguments}))", cwd, stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def one_after_another(program: str, cwd: Path, *commands: tuple[str, ...]) -> str:
    """Run commands of ``vocode`` or ``vocoders`` in one process; returns what they print."""
    code = f"from vocoders.cli.{program} import {program}\n"
    done = run(code + f"sys.exit(any([{program}(arguments) for arguments in {commands}]))", cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def audio(path: Path) -> np.ndarray:
    return soundfile.read(path)[0]


def test_from_mel_to_audio(tmp_path: Path) -> None:
    vocode(tmp_path, str(HELLO), "-o", "out.wav")
    samples = audio(tmp_path / "out.wav")
    assert len(samples) == np.load(HELLO)["mel"].shape[1] * 256
    assert 0.1 < np.abs(samples).max() < 1


def test_a_mel_of_another_mel_config(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "voice.wav", signals.speech(16000), 16000)
    analysis = ("voice.wav", "-o", "mel.npz", "--mel-config", "speecht5-16k")
    one_after_another("vocode", tmp_path, analysis, ("mel.npz", "-o", "out.wav"))
    written, frames = soundfile.info(tmp_path / "out.wav"), np.load(tmp_path / "mel.npz")["mel"].shape[1]
    assert (written.samplerate, written.frames) == (16000, 256 * frames)
    printed = one_after_another("vocoders", tmp_path, ("identify", "mel.npz", "--audio", "voice.wav"))
    assert "vocode mel.npz --mel-config speecht5-16k" in printed


@pytest.mark.parametrize("model", ["hnmask-22k", "hnmask-24k"])
def test_from_audio_to_mel_and_back(tmp_path: Path, model: str) -> None:
    """Audio of another rate, whose F0 is still there after analysis and synthesis."""
    soundfile.write(tmp_path / "voice.wav", signals.voice(16000, 1.0, f0=200.0, glide=0.0), 16000)
    ways = (("voice.wav", "mel.npz"), ("mel.npz", "copy.wav"), ("voice.wav", "direct.wav"))
    one_after_another("vocode", tmp_path, *((source, "-o", target, "-m", model) for source, target in ways))
    np.testing.assert_array_equal(audio(tmp_path / "copy.wav"), audio(tmp_path / "direct.wav"))
    rate = soundfile.info(tmp_path / "copy.wav").samplerate
    spectrum = np.abs(np.fft.rfft(audio(tmp_path / "copy.wav")[rate // 4 : rate * 3 // 4]))
    assert abs(2 * spectrum[50:150].argmax() + 100 - 200) <= 4  # bins are 2 Hz wide


def test_a_stream_is_the_whole(tmp_path: Path) -> None:
    mel = np.load(HELLO)["mel"][:, :150]
    np.save(tmp_path / "mel.npy", mel)
    vocode(tmp_path, "mel.npy", "-o", "out.wav", "-q")
    raw = vocode(tmp_path, "-", "-o", "-", "--raw-mel", "--format", "raw", "-q", stdin=mel.T.astype("<f4").tobytes())
    np.testing.assert_allclose(np.frombuffer(raw, "<i2") / 32768, audio(tmp_path / "out.wav"), atol=1e-4)


def test_the_server(tmp_path: Path) -> None:
    with process("--port", "0", cwd=tmp_path, forbidden=HIDDEN) as (_, address):
        answer = httpx.post(f"{address}/synthesize?format=raw", content=HELLO.read_bytes(), timeout=300)
        assert answer.status_code == 200
        assert len(answer.content) == 2 * 256 * np.load(HELLO)["mel"].shape[1]
        sound = tmp_path / "voice.wav"
        soundfile.write(sound, signals.voice(22050, 0.5), 22050)
        mel = httpx.post(f"{address}/mel", content=sound.read_bytes(), timeout=300)
        assert mel.status_code == 200
        assert httpx.post(f"{address}/synthesize", content=npy(np.zeros((7, 9), np.float32))).status_code == 422


def test_facts(tmp_path: Path) -> None:
    commands = (("info",), ("info", "hnmask-24k"), ("list",), ("bench", "--seconds", "0.2", "--runs", "1"))
    printed = one_after_another("vocoders", tmp_path, *commands)
    assert re.search(r"generator +hnmask", printed)
    assert len(re.findall(r"^parameters +generator \d{6}, f0_estimator \d{6}$", printed, re.MULTILINE)) == 2
    assert "hnmask-22k (default)" in printed
    assert "hifigan-22k" in printed
    assert re.search(r"backend +onnx", printed)


NEED_TORCH = {  # command: what it says needs torch, and the extra that brings it
    ("info", "model.safetensors"): ("the checkpoint model.safetensors", "torch"),
    ("config", "--generator", "hifigan", "--mel-config", "hifigan-22k"): ("the work of a generator", "torch"),
    ("export", "-o", "model.onnx"): ("export", "export"),
    ("import", "hifi-gan", "x.pt", "-o", "x.safetensors"): ("import", "import"),
    ("bench", "--backend", "torch"): ("running hnmask-22k on device 'cpu' in float32", "torch"),
    ("bench", "--precision", "bfloat16"): ("running hnmask-22k on device 'cpu' in bfloat16", "torch"),
    ("bench", "--device", "cuda"): ("running hnmask-22k on device 'cuda' in float32", "torch"),
    ("bench", "model.safetensors"): ("the checkpoint model.safetensors", "torch"),
}


def test_what_needs_torch_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    code = "from vocoders.cli.vocoders import vocoders\n"
    done = run(code + f"sys.exit(sum(vocoders(arguments) != 2 for arguments in {list(NEED_TORCH)}))", tmp_path)
    assert done.stderr.decode().splitlines() == [
        f"vocoders: {purpose} needs torch, which is not installed: pip install '.[{extra}]' in the clone"
        for purpose, extra in NEED_TORCH.values()
    ]
    assert done.returncode == 0  # each status was 2
    assert done.stdout == b""
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors"}


def test_the_hub_needs_torch(tmp_path: Path) -> None:
    done = run("import vocoders; vocoders.load('org/name')", tmp_path)
    message = "the model 'org/name' of the Hugging Face hub needs torch, which is not installed"
    assert message in done.stderr.decode()


def test_what_is_listed_works_and_the_rest_names_its_remedy(tmp_path: Path) -> None:
    """By help(), dir(), inspect and *, as notebooks and documentation tools read a package."""
    done = run(
        """
import inspect, json, pydoc, vocoders
everything = vocoders._MODULES.keys() | {"__version__"}
listed = set(vocoders.__all__)
assert listed == {name for name in everything if hasattr(vocoders, name)}
assert {"load", "MelConfig", "OnnxVocoder"} < listed < everything
assert listed < {name for name, _ in inspect.getmembers(vocoders)}
assert "OnnxVocoder" in pydoc.render_doc(vocoders)
names = {}
exec("from vocoders import *", names)
assert listed <= names.keys()
for name in sorted(everything - listed):
    try:
        getattr(vocoders, name)
    except AttributeError as error:
        print(error)
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    names = ("Checkpoint", "F0Estimator", "LogMelSpectrogram", "Vocoder", "load_checkpoint", "save_checkpoint")
    assert done.stdout.decode().splitlines() == [
        f"vocoders.{name} needs torch, which is not installed: pip install '.[torch]' in the clone" for name in names
    ]


def test_help_of_every_command(tmp_path: Path) -> None:
    """Of ``import`` without the families, which need torch."""
    commands = ("bench", "config", "export", "identify", "import", "info", "list", "serve")
    code = f"""
from vocoders.cli.vocode import vocode
from vocoders.cli.vocoders import vocoders
for program, *arguments in ((vocode,), (vocoders,), *((vocoders, name) for name in {commands})):
    try:
        program([*arguments, "--help"])
    except SystemExit as end:
        assert not end.code
"""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.decode()
    assert printed.count("usage: ") == 2 + len(commands)
    assert "the list of families needs torch, which is not installed: pip install '.[import]' in the clone" in printed


def test_public_names_that_need_torch(tmp_path: Path) -> None:
    done = run("import vocoders; print(vocoders.load(), vocoders.MelConfig); from vocoders import Vocoder", tmp_path)
    assert b"OnnxVocoder" in done.stdout
    last = done.stderr.decode().splitlines()[-1]
    assert last == (
        "ImportError: vocoders.Vocoder needs torch, which is not installed: pip install '.[torch]' in the clone"
    )
