"""The benchmark scripts run, and their tables are right; the speeds they measure are not asserted."""

import contextlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from recipes.benchmarks import (
    common,
    cqt,
    exported,
    f0_robustness,
    inference,
    install,
    length,
    lookahead,
    minutes,
    mixtures,
    pitch_range,
    separation,
    streaming,
    vocode,
)
from recipes.benchmarks.work import Peak, Traffic, count_work, peak_of
from tests.support import ROOT, corpus, models
from vocoders.checkpoint import Checkpoint, save_checkpoint
from vocoders.complexity import macs_per_second
from vocoders.dsp.log_mel import LogMelSpectrogram
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators import GENERATORS


def test_noise_vocoding_keeps_the_envelope_and_drops_the_harmonics() -> None:
    from tests.support import signals

    mel_config = MEL_CONFIGS["hifigan-22k"]
    vocoder, mel = separation.NoiseVocoder(mel_config), LogMelSpectrogram(mel_config)

    def pair(glide: float) -> tuple[torch.Tensor, torch.Tensor]:
        voice = torch.from_numpy(signals.voice(22050, 1.0, f0=150, glide=glide)[: 85 * 256]).float()
        return voice, vocoder(voice[None, None], torch.Generator().manual_seed(0))[0, 0]

    original, copy = pair(glide=40)
    assert copy.shape == original.shape
    assert float(copy.square().mean()) == pytest.approx(float(original.square().mean()), rel=1e-3)
    means = [mel(audio).exp().mean(1).log() for audio in (original, copy)]
    assert float(torch.corrcoef(torch.stack(means))[0, 1]) > 0.9
    for audio, periodic in zip(pair(glide=0), (True, False), strict=True):
        correlation = float((audio[147:] * audio[:-147]).sum() / audio.square().sum())  # a period is 147 samples
        assert (correlation > 0.6) is periodic


def test_separation_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = corpus.make(tmp_path / "data")
    arguments = ["parallel-wavegan", "--data", str(data), "--steps", "1", "--batch", "1", "--mel", "cleanmel-16k"]
    assert separation.main(arguments) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| parallel-wavegan | 0 | - | 0.")
    assert separation.main([*arguments[:1], "--data", str(tmp_path)]) == 2
    assert "cannot read the list of recordings" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("nnAudio") is not None, reason="nnAudio is installed")
def test_without_nnaudio_the_comparison_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cqt.main([]) == 2
    assert "nnAudio is not here; clone it" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "lowest"), [("ours, the same", 32.7), ("ours, as used", 12000 / 2**8)])
def test_our_side_of_the_comparison(kind: str, lowest: float) -> None:
    """A sine is in its bin, in frames of as many seconds, and gradients reach the audio."""
    audio = torch.sin(2 * torch.pi * 750 * torch.arange(24000) / cqt.RATE)[None].requires_grad_()
    spectrum = cqt.transform(kind, 24, 512)(audio)
    assert (spectrum.shape[0], *spectrum.shape[2:]) == (1, 24000 // 256 + 1, 2)
    power = spectrum.square().sum((0, 2, 3))
    assert int(power.argmax()) == pytest.approx(24 * np.log2(750 / lowest), abs=1)
    power.sum().backward()
    assert audio.grad is not None
    assert audio.grad.abs().max() > 0


def test_published_sizes_fit_their_mel_configs() -> None:
    sizes = common.published()
    assert len(sizes) == sum(len(generator.configs) for generator in GENERATORS.values())
    expected = {"hifigan v1": "hifigan-22k", "parallel-wavegan v1-24k": "espnet-24k", "wavehax v1": "wavehax-24k"}
    assert {label: sizes[label].mel_config.name for label in expected} == expected
    assert {sizes[f"vocos {size}"].mel_config.hop_length for size in ("v1", "wavenext")} == {256}
    full_band = sizes["wavehax fullband"].mel_config
    assert (full_band.sample_rate, full_band.hop_length) == (48000, 480)


@pytest.mark.slow
def test_vocode_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert vocode.main(["--runs", "1", "--long", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| hnmask-22k, 5 s | onnx | torch |"
    assert lines[2].startswith("| command to file | ")
    memory = [float(cell.removesuffix("MiB ")) for cell in lines[-1].split("|")[2:4]]
    assert 0 < 2 * memory[0] < memory[1]  # torch takes 300 MiB before it does anything


def test_install_measures_an_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without installing anything: pip and vocode are replaced."""
    commands: list[list[str]] = []

    def run(command: list[str]) -> float:
        commands.append(command)
        if "pip" in command:
            (tmp_path / "env" / "package").write_bytes(bytes(3_000_000))
        return float(len(commands))

    monkeypatch.setattr(install, "seconds_of", run)
    monkeypatch.setattr(install, "output_of", lambda command: "321.4\n")
    monkeypatch.setattr("tempfile.TemporaryDirectory", lambda: contextlib.nullcontext(str(tmp_path)))
    assert install.main(["--runs", "3", "--extra", "serve"]) == 0
    assert commands[0][-1] == f"{ROOT}[serve]"
    assert all(command[0].startswith(str(tmp_path)) for command in commands)  # the new environment's Python
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in capsys.readouterr().out.splitlines()[2:]]
    assert rows[0] == ["installation", "1 s"]
    assert rows[1][1].endswith("of them new 3 MB")
    assert rows[2][1] == "4.00 s (the first time 2.00 s)"
    assert rows[3][1] == "321 MiB"


@pytest.mark.parametrize(
    ("label", "mel_config"),
    [
        *[("hifigan v1", "hifigan-22k"), ("vocos v1", "hifigan-22k"), ("bigvgan v2-512x", "bigvgan-44k")],
        *[("nsf-hifigan v1", "bigvgan-44k"), ("hift cosyvoice2", "cosyvoice2-24k"), ("wavehax v1", "wavehax-24k")],
    ],
)
def test_a_size_is_measured_with_the_mels_it_was_published_for(label: str, mel_config: str) -> None:
    assert common.published()[label].mel_config == MEL_CONFIGS[mel_config]


def test_the_table_of_generators(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"hifigan v2": common.published()["hifigan v2"]}
    monkeypatch.setattr(common, "published", lambda: sizes)
    (point,) = vocode.generators_table(seconds=0.1, runs=1)
    assert point[:3] == ("hifigan", "v2", 925_985)
    assert point.speed > 0
    cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].split("|")]
    assert cells[1:4] == ["hifigan v2", "0.93 M", "1.66"]


def test_the_picture_of_generators(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [vocode.Point("hifigan", "v1", 13_930_000, 9.0), vocode.Point("wavehax", "v2", 600_000, 80.0)]
    monkeypatch.setattr(vocode, "generators_table", lambda: points)
    assert vocode.main(["--generators", "--picture", str(tmp_path / "speed.svg")]) == 0
    text = (tmp_path / "speed.svg").read_text()
    assert len(text) < 100_000
    assert all(f">{word}<" in text for word in ("hifigan", "v1", "wavehax", "v2", "parameters, millions"))
    vocode.draw(points, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == text
    assert vocode.main(["--generators", "--picture", str(tmp_path / "missing" / "speed.svg")]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert vocode.main(["--generators", "--picture", str(tmp_path / "speed.txt")]) == 2
    assert "a picture is .svg or .png, not" in capsys.readouterr().err


@pytest.mark.slow
def test_exported_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        assert exported.main(["hifigan v2", "--threads", "1", "--seconds", "0.1", "--runs", "1"]) == 0
    finally:
        torch.set_num_threads(threads)
    last = capsys.readouterr().out.splitlines()[-1].split("|")
    assert last[1].strip() == "hifigan v2"
    assert float(last[5]) < 1e-4


_LOOKS_LIKE_THE_OFFICIAL_ONE = """
import torch
from torch import nn
from torch.nn import functional as F
class Generator(nn.Module):
    def __init__(self, h):
        super().__init__()
        c = h.upsample_initial_channel
        self.h, self.conv_pre = h, nn.Conv1d(h.num_mels, c, 7, padding=3)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, size in zip(h.upsample_rates, h.upsample_kernel_sizes):
            self.ups.append(nn.ConvTranspose1d(c, c // 2, size, rate, (size - rate) // 2))
            c //= 2
            for k, dilations in zip(h.resblock_kernel_sizes, h.resblock_dilation_sizes):
                convs = [nn.Conv1d(c, c, k, padding=d * (k // 2), dilation=d) for d in dilations]
                self.resblocks.append(nn.ModuleDict({"convs": nn.ModuleList(convs)}))
        self.conv_post = nn.Conv1d(c, 1, 7, padding=3)
    def forward(self, x):
        x = self.conv_pre(x)
        for i, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, 0.1))
            branches = []
            for block in self.resblocks[i * 2 : i * 2 + 2]:
                y = x
                for conv in block["convs"]:
                    y = y + conv(F.leaky_relu(y, 0.1))
                branches.append(y)
            x = sum(branches) / 2
        return torch.tanh(self.conv_post(F.leaky_relu(x)))
    def remove_weight_norm(self):
        pass
"""


@pytest.mark.slow
def test_inference_compares_both_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "models", models)  # ours afterwards; the clone has one of that name
    clone = tmp_path / "hifi-gan"
    clone.mkdir()
    (clone / "models.py").write_text(_LOOKS_LIKE_THE_OFFICIAL_ONE)
    sizes: dict[str, object] = {"resblock": "2", "upsample_rates": [8, 4], "upsample_kernel_sizes": [16, 8]}
    sizes |= {"upsample_initial_channel": 16, "resblock_kernel_sizes": [3, 5], "resblock_dilation_sizes": [[1, 2]] * 2}
    mel: dict[str, object] = {"num_mels": 20, "n_fft": 128, "hop_size": 32, "win_size": 128, "sampling_rate": 8000}
    mel |= {"fmin": 0, "fmax": 4000}
    (clone / "config_v3.json").write_text(json.dumps(sizes | mel))
    given = ["HiFi-GAN V3", "--clones", str(tmp_path), "--seconds", "0.4", "--threads", "1", "--batch", "2"]
    peak = Peak(1e12, 1e14, 2e14)
    monkeypatch.setattr(inference, "peak_of", lambda device: peak)  # as on a GPU
    assert inference.main([*given, "--runs", "0", "--latency"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells, latencies = ([cell.strip() for cell in lines[index].split("|")[1:-1]] for index in (4, -1))
    assert cells[:2] == ["HiFi-GAN V3", "2 x 0.4 s"]
    assert min(float(cell) for cell in cells[2:5]) > 0
    assert float(cells[5]) > 100
    assert all(0 <= float(cell) < 100 for cell in cells[9:])
    assert len(cells) == 11
    assert latencies[0] == "HiFi-GAN V3"
    assert min(float(cell) for cell in latencies[1:]) > 0
    case = inference.Case("HiFi-GAN V3", 2, 0.4)
    shares = [
        inference.shares(inference.Setup(tmp_path, "cuda", precision, 1), case, 1e-6, peak)
        for precision in ("float32", "bfloat16")
    ]
    for in_float32, in_bfloat16 in zip(*shares, strict=True):  # half the bytes, at twice the rate
        assert float(in_float32) == pytest.approx(2 * float(in_bfloat16), rel=0.02)
    with pytest.raises(SystemExit, match="2"):
        inference.main(["HiFi-GAN V4", *given[1:]])
    assert "no such generator: HiFi-GAN V4; there are HiFi-GAN V1, " in capsys.readouterr().err
    assert inference.main(["Wavehax v1", *given[1:]]) == 2
    assert f"no clone at {tmp_path / 'wavehax'}; clones are yours to make" in capsys.readouterr().err


def test_work_is_counted_by_hand() -> None:
    x = torch.empty(2, 3, 4, device="meta")
    with Traffic() as traffic:
        (x.transpose(1, 2) + 1).add_(1)
    assert traffic.bytes == 4 * 24 * 4  # each sum reads its argument and writes its result; the view moves nothing
    hifigan = models.generator("hifigan")
    one, two = (count_work(hifigan, items, 64) for items in (1, 2))
    seconds = 64 * 32 / 8000
    assert one.operations == pytest.approx(2 * macs_per_second(hifigan) * seconds)
    assert two.operations == pytest.approx(2 * one.operations)
    assert 1.5 * one.bytes < two.bytes < 2 * one.bytes  # the weights are read once
    assert peak_of("cpu") is None


def test_length_runs(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        assert length.main(["hifigan v2", "--seconds", "0.1", "0.2", "--threads", "1"]) == 0
        cells = capsys.readouterr().out.splitlines()[-1].split("|")
        assert length.main(["hifigan v2", "--memory", "5", "--threads", "1"]) == 0
        peaks = [float(cell) for cell in capsys.readouterr().out.splitlines()[-1].split("|")[2:-1]]
    finally:
        torch.set_num_threads(threads)
    assert len(peaks) == 5
    assert peaks == sorted(peaks)
    assert cells[1].strip() == "hifigan v2"
    assert float(cells[4]) == pytest.approx(float(cells[3]) / float(cells[2]), abs=0.02)
    assert length.main(["hifigan v9"]) == 2
    assert "unknown model 'hifigan v9'; known: hnmask-22k, " in capsys.readouterr().err


def test_minutes_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    data = corpus.make(tmp_path / "data")
    monkeypatch.setattr(minutes, "COMMON", minutes.COMMON | {"train.batch_size": "1", "train.segment_frames": "8"})
    arguments = ["wavehax", "--data", str(data), "--minutes", "0", "--clips", "1", "--out", str(tmp_path / "out")]
    threads = torch.get_num_threads()
    try:
        assert minutes.main(arguments) == 0
    finally:
        torch.set_num_threads(threads)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("| wavehax v2 | 0 | 1 | ")
    assert minutes.main(["wavehacks", "--data", str(data)]) == 2
    assert "unknown family 'wavehacks'; known: hifigan" in capsys.readouterr().err


def test_the_pitch_range(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in model keeps a vowel of 200 Hz, and silence; a model that estimates none leaves cells empty."""
    monkeypatch.setattr(pitch_range, "PITCHES", (200,))
    assert pitch_range.main([]) == 0
    vowel, silence = (
        [cell.strip() for cell in row.split("|")[1:-1]] for row in capsys.readouterr().out.splitlines()[2:]
    )
    assert vowel[0] == "200"
    assert vowel[1] == vowel[3] == "100 %"
    assert abs(int(vowel[2])) < 20
    assert abs(int(vowel[4])) < 20
    assert abs(float(vowel[5])) < 1
    assert silence[:3] == ["silence", "0 %", ""]
    assert float(silence[5].removesuffix(" dBFS")) < -70
    path = tmp_path / "model.safetensors"
    save_checkpoint(Checkpoint(models.MEL_CONFIG, models.generator("hifigan")), path)
    assert pitch_range.main([str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("| 200 |  |  | ")
    save_checkpoint(Checkpoint(models.MEL_CONFIG, models.generator("hnmask")), path)
    assert pitch_range.main([str(path)]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert "this model needs f0" in error


def test_mixtures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two voices hold both; a chord has no less than three tones; the files are as long as the recordings."""
    first, second = (np.sin(2 * np.pi * hz * np.arange(samples) / 24000) for hz, samples in ((500, 24000), (900, 8000)))
    both, chords, over = mixtures.mix(0.3 * first, 0.1 * second, np.random.default_rng(0))
    spectrum = np.abs(np.fft.rfft(both))
    assert spectrum[900] == pytest.approx(spectrum[500], rel=0.01)  # the softer one is as loud as the first
    assert len(both) == len(chords) == len(over) == 24000
    assert np.corrcoef(over, first)[0, 1] > 0.8
    assert not np.corrcoef(chords, first)[0, 1] > 0.5
    data = corpus.make(tmp_path / "data")
    assert mixtures.main([str(tmp_path / "out"), "--data", str(data), "--clips", "2"]) == 0
    assert [len(list((tmp_path / "out" / kind).iterdir())) for kind in mixtures.KINDS] == [2, 2, 2]
    (tmp_path / "file").touch()
    assert mixtures.main([str(tmp_path / "file"), "--data", str(data)]) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_streaming_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "model.safetensors")
    save_checkpoint(models.checkpoint(), tmp_path / "model.safetensors")
    threads = torch.get_num_threads()
    try:
        assert streaming.main([path, "--frames", "1", "8", "--seconds", "0.1", "--runs", "1", "--recomputed"]) == 0
    finally:
        torch.set_num_threads(threads)
    cells = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert cells[1:3] == ["17", "68"]  # frames of 4 ms
    assert [len(cell.split(" / ")) for cell in cells[3:]] == [2, 2, 2]
    assert streaming.main(["nobody"]) == 2
    assert "unknown model 'nobody'" in capsys.readouterr().err
    lookaheads = {label: voc.lookahead for label, voc in streaming.vocoders([])}  # one at a time: some are large
    assert "wavehax v1, framewise" in lookaheads
    assert len(lookaheads) == len(common.published())
    assert None not in lookaheads.values()


def test_what_less_lookahead_costs(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookahead, "LOOKAHEADS", (None, 30))
    assert lookahead.main(["--data", str(data), "--clips", "1"]) == 0
    own, less = [[cell.strip() for cell in row.split("|")[1:-1]] for row in capsys.readouterr().out.splitlines()[2:]]
    assert int(own[0]) > int(less[0]) == 30
    assert lookahead.main(["--data", str(data / "none")]) == 2


def test_f0_from_disturbed_mels(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table with a row for each kind of mel; the built-in model knows the F0 of the undisturbed ones."""
    assert f0_robustness.main(["--data", str(data), "--clips", "1"]) == 0
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows[:3]] == ["exact", "mild smoothing", "strong smoothing"]
    assert len(rows) == 3 + len(f0_robustness.DISTURBANCES)
    assert float(rows[0][2]) == 0
    path = tmp_path / "model.safetensors"
    save_checkpoint(Checkpoint(models.MEL_CONFIG, models.generator("hifigan")), path)
    assert f0_robustness.main([str(path), "--data", str(data)]) == 2
    assert "the model holds no F0 estimator" in capsys.readouterr().err
