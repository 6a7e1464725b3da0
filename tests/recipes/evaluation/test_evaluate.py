"""The command, from recordings to figures, and Griffin-Lim."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
import torch

from recipes.data.clips import Clip, choose, find_clips
from recipes.evaluate import main
from recipes.evaluation.copy_synthesis import synthesize
from recipes.evaluation.griffin_lim import griffin_lim, linear_magnitude
from recipes.evaluation.metrics import HAS_PESQ, log_mel_distance
from recipes.evaluation.summary import Outcome
from recipes.evaluation.systems import System, load_named
from tests.support import corpus, models, signals
from vocoders import LogMelSpectrogram, load
from vocoders.checkpoint import Checkpoint, save_checkpoint
from vocoders.config import Config
from vocoders.dsp.mel import MEL_CONFIGS, MelConfig, mel_filter_bank
from vocoders.errors import VocoderError
from vocoders.generators import GENERATORS, build_generator
from vocoders.generators.base import Generator
from vocoders.inference.base import BaseVocoder
from vocoders.inference.vocoder import Vocoder
from vocoders.inputs import NOISE, Input
from vocoders.onnx.export import export_onnx

MEL_CONFIG = MEL_CONFIGS["hifigan-22k"]


def voice(rate: int, seconds: float = 0.8) -> torch.Tensor:
    return torch.from_numpy(signals.voice(rate, seconds)).float()


def test_linear_magnitude_has_the_mel() -> None:
    mel = LogMelSpectrogram(MEL_CONFIG)(voice(22050))
    magnitude = linear_magnitude(mel, MEL_CONFIG)
    assert (magnitude >= 0).all()
    again = (torch.from_numpy(mel_filter_bank(MEL_CONFIG)).float() @ magnitude).clamp_min(MEL_CONFIG.floor).log()
    assert float((again - mel).abs().mean()) < 0.05


@pytest.mark.parametrize("name", ["hifigan-22k", "tacotron2-22k", "cleanmel-16k", "espnet-24k"])
def test_griffin_lim_restores_the_mel(name: str) -> None:
    mel_config = MEL_CONFIGS[name]
    mel = LogMelSpectrogram(mel_config)(voice(mel_config.sample_rate, 0.6))
    fake = griffin_lim(mel, mel_config)
    again = LogMelSpectrogram(mel_config)(fake)[..., : mel.shape[-1]]
    unit = mel_config.natural_log_magnitude(torch.ones(1)).item()
    loud = mel > mel.max() - 6 / unit
    assert float((again - mel)[loud].abs().mean()) * unit < 0.3


def test_evenly_spaced_clips() -> None:
    clips = [Clip(Path(f"{i}.wav"), 16000, 16000) for i in range(10)]
    assert choose(clips, 4) == [clips[i] for i in (0, 3, 6, 9)]
    assert choose(clips, 1) == clips[:1]
    assert choose(clips[:3], None) == choose(clips[:3], 9) == clips[:3]


@pytest.mark.parametrize("name", ["hifigan-22k", "tacotron2-22k"])
@pytest.mark.parametrize("baseline", [False, True])
def test_copies_lie_where_the_recording_lies(name: str, baseline: bool, tmp_path: Path) -> None:
    """A click stays where it is, also with a "center" mel config, whose frames lie half a hop earlier."""
    mel_config = MEL_CONFIGS[name]
    if baseline:
        voc: BaseVocoder = Vocoder(Checkpoint(mel_config, load(backend="torch").generator))
    else:  # the built-in model draws its envelopes from the mel, whichever way its frames are padded
        voc = load()
        voc.facts = voc.facts.model_copy(update={"mel_config": mel_config})
    samples = 80 * 256
    audio = 1e-4 * np.random.default_rng(0).standard_normal(samples)
    audio[9000:9400] += 0.3 * np.random.default_rng(1).standard_normal(400)
    soundfile.write(tmp_path / "click.wav", audio, 22050)
    [(_, real, [fake], seconds)] = synthesize(find_clips(tmp_path)[0], [System(voc, baseline)])
    assert len(real.audio) == len(fake.audio) == samples
    assert seconds > 0
    centres = [(x.audio**2 @ np.arange(samples)) / (x.audio**2).sum() for x in (real, fake)]
    assert centres[1] == pytest.approx(centres[0], abs=64)


class Twice(Generator):
    """Noise as loud as the mel, at twice its sample rate."""

    config_type = Config
    configs: ClassVar[dict[str, Config]] = {"v1": Config()}
    inputs = (NOISE,)
    context = 0

    def __init__(self, config: Config, mel_config: MelConfig) -> None:
        super().__init__(config, mel_config)
        self.gain = torch.nn.Parameter(torch.ones(1))

    @classmethod
    def config_for(cls, mel_config: MelConfig) -> Config:
        return Config()

    @property
    def sample_rate(self) -> int:
        return 2 * self.mel_config.sample_rate

    def synthesize(self, mel: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        loud = mel.exp().mean(1, keepdim=True).unsqueeze(-1).expand(-1, -1, -1, self.samples_per_frame)
        return self.gain * loud.flatten(2) * noise


@pytest.mark.parametrize("name", ["hifigan-22k", "tacotron2-22k"])
@pytest.mark.parametrize("baseline", [False, True])
def test_copies_at_another_rate(name: str, baseline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GENERATORS, "twice", Twice)
    mel_config = MEL_CONFIGS[name]
    voc = Vocoder(Checkpoint(mel_config, Twice(Config(), mel_config)))
    samples = 80 * 512
    audio = 1e-4 * np.random.default_rng(0).standard_normal(samples)
    audio[18000:18800] += 0.3 * np.random.default_rng(1).standard_normal(800)
    soundfile.write(tmp_path / "click.wav", audio, 44100)
    [(_, real, [fake], _)] = synthesize(find_clips(tmp_path)[0], [System(voc, baseline)])
    assert real.sample_rate == fake.sample_rate == 44100
    assert len(real.audio) == len(fake.audio) == samples
    centres = [(x.audio**2 @ np.arange(samples)) / (x.audio**2).sum() for x in (real, fake)]
    assert centres[1] == pytest.approx(centres[0], abs=128)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"inputs": (Input(name="speaker", rate="utterance", channels=8),)},
            "needs speaker, which a recording does not",
        ),
        ({"channels": 2}, "makes 2 channels"),
    ],
)
def test_models_that_recordings_cannot_measure(
    changes: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    voc = load(backend="onnx")
    voc.facts = voc.facts.model_copy(update=changes)
    monkeypatch.setattr("recipes.evaluation.systems.load", lambda *_, **__: voc)
    with pytest.raises(VocoderError, match=message):
        load_named("hnmask-22k")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recipes.evaluate.HAS_PESQ", HAS_PESQ)
    data = corpus.make(tmp_path / "corpus")
    out, image = tmp_path / "out.json", tmp_path / "image.png"
    assert main(["--data", str(data), "--list", "valid.txt", "--json", str(out), "--picture", str(image)]) == 0
    captured = capsys.readouterr()
    table = captured.out.splitlines()
    assert table[0].startswith(f"| system |{' PESQ |' if HAS_PESQ else ''} STOI | log-mel L1 |")
    assert ("pip install '.[pesq]'" in captured.err) is not HAS_PESQ
    systems = [row.split("|")[1].strip() for row in table[2:]]
    assert systems == ["recording", "hnmask-22k", "griffin-lim", "hnmask-22k: F0 from the mel"]
    results = json.loads(out.read_text())
    assert results["clips"] == ["3.flac"]
    assert list(results["mean"]) == list(results["interval"]) == list(results["per_clip"]) == systems
    assert results["mean"]["griffin-lim"] == results["per_clip"]["griffin-lim"][0]
    assert set(results["interval"]["griffin-lim"].values()) == {None}  # of one clip
    assert results["lines"] == {"recording": [[]], "hnmask-22k": [[]], "griffin-lim": [[]]}
    assert results["clicks"] == {"recording": [[]], "hnmask-22k": [[]], "griffin-lim": [[]]}
    assert image.read_bytes().startswith(b"\x89PNG")


def flat(per_clip: dict[str, list[dict[str, float | None]]]) -> dict[tuple[str, int, str], float]:
    """All figures but speed, null as NaN."""
    return {
        (system, clip, name): np.nan if value is None else value
        for system, clips in per_clip.items()
        for clip, figures in enumerate(clips)
        for name, value in figures.items()
        if name != "speed"
    }


@pytest.mark.slow
def test_several_models_and_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Models of other sample rates and mel configs, with and without F0; the number of processes changes no figure."""
    data = corpus.make(tmp_path / "corpus")
    narrow = models.MEL_CONFIG.model_copy(update={"padding": "center"})
    wide = MelConfig(**corpus.MEL_CONFIG)
    hifigan, hnmask = str(tmp_path / "hifigan.safetensors"), str(tmp_path / "hnmask.safetensors")
    save_checkpoint(models.checkpoint("hifigan", narrow), Path(hifigan))
    config = models.small("hnmask", wide)
    save_checkpoint(Checkpoint(wide, build_generator("hnmask", config, wide)), Path(hnmask))
    reports = []
    for workers in ("1", "2"):
        out = tmp_path / f"{workers}.json"
        arguments = ["--data", str(data), "--clips", "3", "--json", str(out), "--workers", workers]
        assert main([hifigan, hnmask, hifigan, *arguments]) == 0
        reports.append(json.loads(out.read_text()))
    one, two = (flat(results["per_clip"]) for results in reports)
    assert list(one) == list(two)
    assert list(one.values()) == pytest.approx(list(two.values()), rel=1e-2, abs=1e-4, nan_ok=True)
    assert reports[0]["clips"] == ["0.flac", "2.flac", "3.flac"]
    names = ["recording", hifigan, f"{hnmask}, F0 given", "griffin-lim", f"{hifigan}: F0 from the mel"]
    assert list(reports[0]["mean"]) == names
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_an_exported_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It copies as its checkpoint does; the F0 inside its network is not measured apart."""
    data = corpus.make(tmp_path / "corpus")
    checkpoint = models.checkpoint("hnmask", MelConfig(**corpus.MEL_CONFIG))
    save_checkpoint(checkpoint, tmp_path / "model.safetensors")
    export_onnx(checkpoint, tmp_path / "model.onnx")
    names = ["--data", str(data), "--clips", "1", "--json", str(tmp_path / "out.json")]
    assert main([f"torch={tmp_path / 'model.safetensors'}", f"onnx={tmp_path / 'model.onnx'}", *names]) == 0
    mean = json.loads((tmp_path / "out.json").read_text())["mean"]
    assert list(mean) == ["recording", "torch", "onnx", "griffin-lim", "torch: F0 from the mel"]
    for name in ("log_mel_l1", "stft_distance", "level_db"):
        assert mean["onnx"][name] == pytest.approx(mean["torch"][name], abs=1e-3)


def test_models_by_names_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path may hold "=", too."""
    data = corpus.make(tmp_path / "corpus")
    (tmp_path / "lr=1").mkdir()
    path = str(tmp_path / "lr=1" / "model.safetensors")
    save_checkpoint(models.checkpoint("hifigan", models.MEL_CONFIG), Path(path))
    shared = ["--data", str(data), "--clips", "1"]
    assert main([path, f"my peer={path}", *shared]) == 0
    rows = [row.split("|")[1].strip() for row in capsys.readouterr().out.splitlines()[2:]]
    assert rows[:4] == ["recording", path, "my peer", "griffin-lim"]
    for arguments, name in (
        ([f"a={path}", "a=hnmask-22k"], "a"),
        ([f"hnmask-22k={path}", "hnmask-22k"], "hnmask-22k"),
        ([f"recording={path}"], "recording"),
        ([f"griffin-lim={path}"], "griffin-lim"),
    ):
        assert main([*arguments, *shared]) == 2
        assert f"two rows of the table would be called '{name}'" in capsys.readouterr().err


def test_smoothed_mels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each level is a row below the exact mels, and a worse one."""
    data, out = corpus.make(tmp_path / "corpus"), tmp_path / "out.json"
    assert (
        main(["--data", str(data), "--clips", "1", "--smooth", "strong", "--smooth", "mild", "--json", str(out)]) == 0
    )
    mean = json.loads(out.read_text())["mean"]
    systems = [f"hnmask-22k{smoothing}" for smoothing in ("", ", mild smoothing", ", strong smoothing")]
    estimators = [f"{system}: F0 from the mel" for system in systems]
    assert list(mean) == ["recording", *systems, "griffin-lim", *estimators]
    distances = [mean[system]["log_mel_l1"] for system in systems]
    assert distances == sorted(distances)
    assert distances[2] > distances[0] + 0.1
    assert mean[estimators[2]] != mean[estimators[0]]
    assert capsys.readouterr().err == ""


def test_mels_of_other_mel_configs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row more for the model and for Griffin-Lim, and a worse one."""
    data, out = corpus.make(tmp_path / "corpus"), tmp_path / "out.json"
    arguments = ["--data", str(data), "--clips", "1", "--mel-config", "speecht5-16k", "--json", str(out)]
    assert main(["hnmask-24k", *arguments]) == 0
    mean = json.loads(out.read_text())["mean"]
    systems = ["hnmask-24k", "griffin-lim", "hnmask-24k, speecht5-16k", "griffin-lim, speecht5-16k"]
    assert [name for name in mean if not name.endswith("F0 from the mel")] == ["recording", *systems]
    assert mean[systems[2]]["log_mel_l1"] != mean[systems[0]]["log_mel_l1"]
    capsys.readouterr()
    assert main(["--data", str(data), "--mel-config", "speecht5"]) == 2
    assert "unknown mel config 'speecht5'" in capsys.readouterr().err


def test_metrics_are_means_over_the_draws(tmp_path: Path) -> None:
    data = corpus.make(tmp_path / "corpus")
    [clip] = choose(find_clips(data), 1)
    voc = load(backend="torch")
    [(_, reference, estimates, _)] = synthesize(clip, [System(voc)], draws=2)
    levels = [log_mel_distance(reference, estimate, voc.mel_config) for estimate in estimates]
    assert levels[0] != levels[1]
    assert main(["--data", str(data), "--clips", "1", "--draws", "2", "--json", str(tmp_path / "out.json")]) == 0
    mean = json.loads((tmp_path / "out.json").read_text())["mean"]["hnmask-22k"]
    assert mean["log_mel_l1"] == pytest.approx(np.mean(levels), rel=1e-4)


def test_one_bad_recording_does_not_end_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = corpus.make(tmp_path / "corpus")
    soundfile.write(data / "9.wav", np.zeros(100), 22050)
    assert main(["--data", str(data), "--json", str(tmp_path / "out.json")]) == 1
    out, error = capsys.readouterr()
    assert "hnmask-22k" in out
    assert "recipes.evaluate: left out" in error
    assert "9.wav is shorter than a frame" in error
    assert len(json.loads((tmp_path / "out.json").read_text())["clips"]) == 4


def test_many_recordings_show_progress(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where standard error is no terminal, a line for each tenth."""
    for number in range(24):
        soundfile.write(tmp_path / f"{number}.wav", 0.1 * signals.noise(16000, 0.5), 16000)
    outcome = Outcome("a", 1.0, {"system": {"pesq": 1.0}}, {}, {})
    monkeypatch.setattr("recipes.evaluation.copy_synthesis.measure", lambda *given, **options: outcome)
    monkeypatch.setattr("recipes.evaluate.load_systems", lambda comparison: ())
    assert main(["--data", str(tmp_path)]) == 0
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == ("measuring 24 recordings, 12 s of audio; --clips N measures fewer, --workers N takes more cores")
    assert lines == [f"measured {done} of 24 recordings" for done in (3, 5, 8, 10, 12, 15, 17, 20, 22, 24)]


def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = corpus.make(tmp_path / "corpus")
    void, junk, short = (tmp_path / name for name in ("void", "junk", "short"))
    for folder in (void, junk, short):
        folder.mkdir()
    (junk / "junk.wav").write_text("no sound")
    soundfile.write(short / "short.wav", np.zeros(100), 22050)
    before = sorted(tmp_path.rglob("*"))
    for arguments, message in (
        (["--data", str(data), "--list", "none.txt"], "cannot read the list"),
        (["--data", str(tmp_path / "none")], "there is no folder"),
        (["--data", str(void)], "holds no recordings"),
        (["--data", str(junk)], "can be read"),
        (["--data", str(short)], f"{short / 'short.wav'} is shorter than a frame"),
        (["--data", str(data), "--clips", "0"], "--clips must be at least 1"),
        (["--data", str(data), "--workers", "0"], "--workers must be at least 1"),
        (["--data", str(data), "--draws", "0"], "--draws must be at least 1"),
        (["none", "--data", str(data)], "unknown model"),
        (["mine=", "--data", str(data)], "unknown model 'mine='"),
        (["mine=none", "--data", str(data)], "unknown model 'none'"),
        (["--data", str(data), "--report", str(void / "a" / "b")], "cannot write"),
        (["--data", str(data), "--report", str(junk)], "exists already"),
        (["--data", str(data), "--json", str(void / "a" / "b.json")], "there is no folder"),
        (["--data", str(short), "--report", str(void / "page")], "shorter than a frame"),
    ):
        assert main(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, arguments
        assert lines[0].startswith("recipes.evaluate: ")
        assert message in lines[0]
    assert sorted(tmp_path.rglob("*")) == before
