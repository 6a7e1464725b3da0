"""The benchmark scripts run, and their tables are right; the speeds they measure are not asserted."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from recipes.benchmarks import common, inference, streaming, vocode
from tests.support import ROOT, models
from vocoders.checkpoint import save_checkpoint
from vocoders.dsp.mel import MEL_CONFIGS
from vocoders.generators import GENERATORS


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
    assert cells[1:5] == ["hifigan v2", "22.05", "0.93 M", "1.66"]
    assert cells[7] == "151"


def test_the_picture_of_generators(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [vocode.Point("hifigan", "v1", 13_930_000, 9.0), vocode.Point("wavehax", "v2", 600_000, 80.0)]
    monkeypatch.setattr(vocode, "generators_table", lambda runs: points)
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


@pytest.fixture
def threads() -> Iterator[None]:
    """Set the number of threads back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("threads")
def test_torch_beside_onnx_runtime(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert inference.main(["hifigan v2", "--onnx", "--threads", "1", "--seconds", "0.1", "--runs", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1].split("|")
    assert last[1].strip() == "hifigan v2"
    assert float(last[5]) < 1e-4
    assert inference.main(["hifigan v9", "--onnx"]) == 2
    assert "unknown size 'hifigan v9'; known: hnmask v1, " in capsys.readouterr().err


@pytest.mark.usefixtures("threads")
def test_memory_over_many_lengths(capsys: pytest.CaptureFixture[str]) -> None:
    assert inference.main(["hifigan v2", "--memory", "5", "--threads", "1"]) == 0
    peaks = [float(cell) for cell in capsys.readouterr().out.splitlines()[-1].split("|")[2:-1]]
    assert len(peaks) == 5
    assert peaks == sorted(peaks)


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
    given = ["--clones", str(tmp_path), "--seconds", "0.4", "--threads", "1", "--batch", "2", "--runs", "0"]
    assert inference.main(["hifigan v3", *given]) == 0
    cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[-1].split("|")[1:-1]]
    assert cells[:2] == ["hifigan v3", "2 x 0.4 s"]
    assert min(float(cell) for cell in cells[2:5]) > 0
    assert float(cells[5]) > 100
    assert len(cells) == 9
    assert inference.main(["hifigan v4", *given]) == 2
    assert "no public code for hifigan v4; there is for hifigan v1, " in capsys.readouterr().err
    assert inference.main(["wavehax v1", *given]) == 2
    assert f"no clone at {tmp_path / 'wavehax'}; clones are yours to make" in capsys.readouterr().err


@pytest.mark.usefixtures("threads")
def test_streaming_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "model.safetensors")
    save_checkpoint(models.checkpoint(), tmp_path / "model.safetensors")
    assert streaming.main([path, "--frames", "1", "8", "--seconds", "0.1", "--runs", "1", "--recomputed"]) == 0
    cells = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert cells[1:3] == ["17", "68"]  # frames of 4 ms
    assert [len(cell.split(" / ")) for cell in cells[3:]] == [2, 2, 2]
    assert streaming.main(["nobody"]) == 2
    assert "unknown model 'nobody'" in capsys.readouterr().err
    lookaheads = {label: voc.lookahead for label, voc in streaming.vocoders([])}  # one at a time: some are large
    assert "wavehax v1, framewise" in lookaheads
    assert len(lookaheads) == len([label for label in common.published() if not label.startswith("style-melgan")])
    assert None not in lookaheads.values()
