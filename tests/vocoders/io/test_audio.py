"""Resampling against scipy and against the exact result, and every format of sound file."""

import errno
import io
import resource
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from tests.support import signals
from vocoders.errors import VocoderError
from vocoders.files import atomic_write
from vocoders.io.audio import AUDIO_SUFFIXES, AudioWriter, SoundTooLong, encode_audio, read_audio, resample

RATES = [(48000, 22050), (22050, 48000), (16000, 24000), (44100, 8000), (22051, 8000)]  # the last: no common divisor


def decibels(error: np.ndarray, signal: np.ndarray) -> float:
    return 10 * np.log10(np.mean(error**2) / np.mean(signal**2))


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_sine_is_the_same_sine_at_the_other_rate(source: int, target: int) -> None:
    """Amplitude, phase and pitch: no delay and no loss, up to 0.85 of the lower Nyquist frequency."""
    for share in (0.01, 0.3, 0.85):
        hz = share * min(source, target) / 2
        resampled = resample(signals.sine(source, hz, -6, 2.0).astype(np.float32), source, target)
        assert resampled.dtype == np.float32
        assert len(resampled) == round(2.0 * source * target / source)
        exact = signals.sine(target, hz, -6, 2.0)[: len(resampled)]
        inner = slice(target // 4, -target // 4)  # beyond the ends there is no signal
        assert decibels(resampled[inner] - exact[inner], exact) < (
            -60 if share > 0.5 else -120
        )  # 0.01 dB near the edge


def test_what_the_lower_rate_cannot_hold_is_removed() -> None:
    for hz in (11200, 15000, 23000):
        resampled = resample(signals.sine(48000, hz, 0).astype(np.float32), 48000, 22050)
        assert np.abs(resampled[2000:-2000]).max() < 1e-5


@pytest.mark.parametrize(("source", "target", "up", "down"), [(48000, 24000, 1, 2), (16000, 24000, 3, 2)])
def test_resampling_against_scipy(source: int, target: int, up: int, down: int) -> None:
    audio = signals.voice(source, 1.0).astype(np.float32)
    audio = resample_poly(resample_poly(audio, 1, 4), 4, 1).astype(np.float32)  # well within both bands
    reference = resample_poly(audio, up, down, window=("kaiser", 12.0))
    resampled = resample(audio, source, target)
    assert resampled.shape == reference.shape
    inner = slice(target // 10, -target // 10)
    assert decibels(resampled[inner] - reference[inner], reference) < -55  # scipy's filter is the coarser one


def test_many_channels_short_audio_and_equal_rates() -> None:
    audio = signals.noise(8000, 0.2).astype(np.float32).reshape(2, 2, 400)
    resampled = resample(audio, 8000, 12000)
    assert resampled.shape == (2, 2, 600)
    np.testing.assert_allclose(resampled[1, 0], resample(audio[1, 0], 8000, 12000), atol=1e-6)
    assert resample(audio, 8000, 8000) is audio
    assert resample(np.ones(1, np.float32), 8000, 24000).shape == (3,)
    assert resample(np.zeros((2, 0), np.float32), 8000, 24000).shape == (2, 0)


@pytest.mark.parametrize(("source", "target"), [(0, 8000), (8000, 0), (-16000, 8000)])
def test_bad_rates(source: int, target: int) -> None:
    with pytest.raises(VocoderError, match=f"cannot resample from {source} to {target} Hz"):
        resample(np.zeros(10, np.float32), source, target)


def test_resampling_needs_neither_torch_nor_torchaudio() -> None:
    code = (
        "import sys, numpy as np; sys.modules['torch'] = sys.modules['torchaudio'] = None\n"
        "from vocoders.io.audio import resample\n"
        "assert len(resample(np.zeros(480, np.float32), 48000, 22050)) == 220\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_every_format_takes_long_audio() -> None:
    audio = np.tile(signals.voice(22050, 1.0), 150).astype(np.float32)
    for ending in AUDIO_SUFFIXES:
        sound = read_audio(encode_audio(audio, 22050, ending[1:]), ending)
        assert sound.sample_rate == 22050
        assert abs(len(sound.audio) - len(audio)) < 3000  # lossy coders pad
        assert np.abs(sound.audio[: 22050 * 149]).max() == pytest.approx(0.3, abs=0.1)


def test_audio_in_pieces(tmp_path: Path) -> None:
    audio = signals.voice(8000, 0.5).astype(np.float32)
    for ending in ("wav", "flac"):
        with AudioWriter(tmp_path / f"a.{ending}", 8000, ending) as writer:
            for begin in range(0, len(audio), 999):
                writer.write(audio[begin : begin + 999])
        assert writer.samples == len(audio)
        assert writer.peak == pytest.approx(np.abs(audio).max())
        np.testing.assert_allclose(soundfile.read(tmp_path / f"a.{ending}")[0], audio, atol=1e-4)


def test_formats_and_lengths_that_are_refused() -> None:
    with pytest.raises(VocoderError, match=r"cannot write audio at 8000 Hz as xyz"):
        encode_audio(np.zeros(8, np.float32), 8000, "xyz")
    with pytest.raises(VocoderError, match=r"is longer than 0\.1 s"):
        read_audio(encode_audio(np.zeros(8000, np.float32), 8000, "wav"), "a.wav", max_seconds=0.1)


def test_decoding_is_bounded_by_what_comes_out_and_by_time() -> None:
    wav = encode_audio(np.zeros(8000, np.float32), 8000, "wav")
    fast = wav[:24] + (2 * 10**9).to_bytes(4, "little") + wav[28:]  # claims 2 GHz: any number of samples is short
    assert len(read_audio(fast, "a.wav", 1.0).audio) == 8000
    with pytest.raises(SoundTooLong, match=r"^a.wav holds more than 7999 samples, as many as are accepted$"):
        read_audio(fast, "a.wav", 1.0, max_bytes=4 * 7999)
    ogg = encode_audio(np.zeros(8000, np.float32), 8000, "ogg") + b"OggS" * 2**22  # libsndfile would take a minute
    with pytest.raises(VocoderError, match=r"^a.ogg could not be decoded within 0.2 s$"):
        read_audio(ogg, "a.ogg", timeout=0.2)


FORMATS = pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3", "aiff", "au", "w64", "caf", "raw"])


def write(folder: Path, audio: np.ndarray, format: str) -> None:
    with atomic_write(folder / f"a.{format}") as partial, AudioWriter(partial, 22050, format) as writer:
        for begin in range(0, len(audio), 3000):
            writer.write(audio[begin : begin + 3000])


@FORMATS
def test_a_disk_that_is_full_at_any_byte_is_an_error(tmp_path: Path, format: str) -> None:
    """Also at the last one: of ogg, mp3 and flac much is written when they are closed."""
    audio = signals.voice(22050, 1.0)
    whole = len(encode_audio(audio, 22050, format))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for room in (0, 100, whole // 2, whole - 5000, whole - 1):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
            with pytest.raises(VocoderError, match=rf"cannot write .*a\.{format}: File too large"):
                write(tmp_path, audio, format)
            assert not list(tmp_path.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole + 100, hard))
        write(tmp_path, audio, format)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sound = soundfile.info(tmp_path / f"a.{format}") if format != "raw" else None
    assert sound is None or sound.frames >= 22050


@FORMATS
def test_a_file_system_that_is_full(tmp_path: Path, format: str) -> None:
    audio = signals.voice(22050, 1.0)
    pages = (len(encode_audio(audio, 22050, format)) - 1) // 4096
    mount = ["mount", "-t", "tmpfs", "-o", f"size={pages * 4096}", "none", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root mounts")
    try:
        with pytest.raises(VocoderError, match=rf"cannot write .*a\.{format}: No space left on device"):
            write(tmp_path, audio, format)
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "mp3", "raw"])
def test_a_file_object_that_fails(format: str) -> None:
    class Failing(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"), AudioWriter(Failing(), 22050, format) as writer:
        writer.write(np.zeros(3000, np.float32))


def test_an_mp3_with_anything_in_front(tmp_path: Path) -> None:
    for rate in (44100, 24000, 8000):
        mp3 = encode_audio(signals.sine(rate, 440, -6, 1.0).astype(np.float32), rate, "mp3")
        expected = read_audio(mp3, "clean.mp3").audio
        for front in (
            bytes(5000),
            b"APETAGEX" + bytes(300),
            b"ID3\x03\x00\x00\x00\x00\x01\x00" + bytes(900),
            b"\xff\xfb ",
        ):
            np.testing.assert_array_equal(read_audio(front + mp3, "padded.mp3").audio, expected)
    for junk in (np.random.default_rng(0).bytes(200_000), b"\xff" * 20_000):
        with pytest.raises(VocoderError, match="not a readable sound file"):
            read_audio(junk, "junk.mp3")


def test_a_damaged_aiff_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    aiff = encode_audio(signals.sine(8000, 440, -6).astype(np.float32), 8000, "aiff")
    draw, refused = np.random.default_rng(0), 0
    for _ in range(200):
        damaged = bytearray(aiff[: draw.choice([len(aiff), 100, 60, 30])])
        damaged[draw.integers(4, min(64, len(damaged)))] = draw.choice([0, 128, 255])
        try:
            read_audio(bytes(damaged), "damaged.aiff")
        except VocoderError:
            refused += 1
    assert refused > 50
    assert "Traceback" not in capfd.readouterr().err


def test_floats_in_the_range_of_integers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sound = signals.sine(8000, 440, -6).astype(np.float32)
    soundfile.write("loud.wav", sound * 1.9 / sound.max(), 8000, subtype="FLOAT")
    assert read_audio(Path("loud.wav").read_bytes(), "loud.wav").audio.max() == pytest.approx(1.9)
    soundfile.write("integers.wav", sound * 32768, 8000, subtype="FLOAT")
    with pytest.raises(VocoderError, match="has samples up to 16") as caught:
        read_audio(Path("integers.wav").read_bytes(), "integers.wav")
    code = shlex.split(str(caught.value).split("to scale it: python -c ")[1])[0]
    subprocess.run([sys.executable, "-c", code], check=True)
    scaled = read_audio(Path("integers-scaled.wav").read_bytes(), "integers-scaled.wav").audio
    np.testing.assert_allclose(scaled, sound, atol=1e-4)
