"""Training: models learn, what a run writes can be used, and bad recipes are refused. test_resume.py resumes runs."""

from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.image as plt
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from losses import discriminator_loss, feature_matching, generator_loss
from recipes.train import main
from recipes.training.distributed import Draws
from recipes.training.generator_task import GeneratorTask
from recipes.training.loop import run_training
from recipes.training.recipe import load_recipe, loss_names
from recipes.training.run import build_optimizer, start_run
from recipes.training.schema import OptimizerRecipe
from recipes.training.step import WeightAverage, learning_rate, train_step
from recipes.training.tasks import Batch, TaskOutput
from tests.support import corpus, models
from vocoders import MelConfig, VocoderError, load
from vocoders.checkpoint import load_checkpoint
from vocoders.generators import GENERATORS


def test_a_generator_learns_and_can_be_used(data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(
        corpus.recipe(tmp_path, data), ["train.steps=16", "train.validate_every=4", "optimizer.lr=0.004"]
    )
    path = run_training(recipe, tmp_path / "run")
    logged = corpus.scalars(tmp_path / "run")
    for metric in ("valid/mel", "valid/log_magnitude", "valid/spectral_convergence"):
        early, *_, late = logged[metric]
        assert late < 0.97 * early
    voc = load(path)
    assert voc.training["steps"] == 16
    assert voc.training["recipe"]["name"] == "tiny"
    mel = torch.full((20, 5), -8.0)
    assert voc(mel, f0=torch.full((5,), 120.0)).shape == (5 * 64,)


def test_validation_measures_the_weighted_losses_but_the_adversarial(data: Path, tmp_path: Path) -> None:
    overrides = ["train.steps=1", "losses.strength=0.1", "losses.log_magnitude=0"]
    overrides += ["generator.config.adaptive_projection=true", "discriminators={multi-period: {channels: [4, 4, 4]}}"]
    run_training(load_recipe(corpus.recipe(tmp_path, data), overrides), tmp_path / "run")
    logged = corpus.scalars(tmp_path / "run")
    weighted = {"mel", "spectral_convergence", "draft_mel", "strength"}
    assert {"train/adversarial", *(f"train/{name}" for name in weighted)} <= logged.keys()
    measured = {tag.removeprefix("valid/") for tag in logged if tag.startswith("valid/")}
    assert measured - {"pesq"} == weighted | {"log_magnitude"}  # always measured


def test_tensorboard_shows_sounds_pictures_and_the_recipe(tmp_path: Path) -> None:
    """Each under tags of its own: of one tag TensorBoard shows one kind of data. Two recordings have the same name."""
    data = corpus.make(tmp_path / "data")
    (data / "other").mkdir()
    (data / "2.flac").rename(data / "other" / "3.flac")
    (data / "train.txt").write_text("0.flac\n1.flac\n")
    (data / "valid.txt").write_text("3.flac\nother/3.flac\n")
    run_training(load_recipe(corpus.recipe(tmp_path, data), ["train.steps=1"]), tmp_path / "run")
    sounds = {f"sound/{name}/{kind}" for name in ("1 3", "2 3") for kind in ("recording", "copy")}
    assert corpus.tags(tmp_path / "run", "audio") == sounds
    assert corpus.tags(tmp_path / "run", "images") == {"spectrogram/1 3", "spectrogram/2 3"}
    texts = corpus.log(tmp_path / "run").Tensors("recipe/text_summary")
    recipe = texts[0].tensor_proto.string_val[0].decode()
    assert recipe.startswith("```yaml\nname: tiny\n")
    assert "batch_size: 2\n" in recipe
    [event, *_] = corpus.log(tmp_path / "run").Images("spectrogram/1 3")
    picture = plt.imread(BytesIO(event.encoded_image_string))
    left, right = (picture[60:260, start : start + 480] for start in (80, 660))
    for panel in (left, right):
        assert np.ptp(panel, axis=(0, 1)).max() > 0.5  # a spectrogram
        assert np.abs(panel[..., 0] - panel[..., 2]).max() > 0.3  # in colour
    assert not np.array_equal(left, right)
    assert np.ptp(picture[:, :40]) > 0.2  # the axis of the frequencies


def test_an_f0_estimator_learns_and_is_saved_with_a_generator(data: Path, tmp_path: Path) -> None:
    changes = {"generator": None, "f0_estimator": {"channels": 16, "blocks": 1}, "losses": {"f0": 1.0, "voicing": 1.0}}
    path = corpus.recipe(tmp_path, data, **changes)
    estimator = run_training(load_recipe(path, ["train.steps=40"]), tmp_path / "pitch")
    logged = corpus.scalars(tmp_path / "pitch")
    assert sum(logged["train/voicing"][-8:]) < 0.9 * sum(logged["train/voicing"][:8])
    assert set(logged) >= {"valid/voicing_error", "valid/gross_error", "valid/f0_rmse_cents"}
    assert load_checkpoint(estimator).generator is None

    recipe = load_recipe(corpus.recipe(tmp_path, data), [f"generator.f0_estimator={estimator}"])
    voc = load(run_training(recipe, tmp_path / "run"))
    assert voc.facts.estimated == ("f0",)
    assert voc(torch.full((20, 5), -8.0)).shape == (5 * 64,)


@pytest.mark.parametrize("name", models.NAMES)
@pytest.mark.parametrize("energy_distance", [False, True])
def test_every_generator_trains(name: str, energy_distance: bool, data: Path, tmp_path: Path) -> None:
    """Every generator trains, also without an estimator: validation then takes the labels of the recordings."""
    config = models.small(name, MelConfig(**corpus.MEL_CONFIG))
    recipe = corpus.recipe(tmp_path, data, generator={"name": name, "config": config})
    losses = "{mel: 1.0, log_magnitude: 1.0}"
    path = run_training(
        load_recipe(recipe, ["train.steps=2", f"losses={losses}", f"train.energy_distance={energy_distance}"]),
        tmp_path / "run",
    )
    generator = models.generator_of(load_checkpoint(path))
    assert type(generator) is GENERATORS[name]
    assert not [key for key in generator.state_dict() if "parametrizations" in key]


def test_two_discriminators_are_two_lines(data: Path, tmp_path: Path) -> None:
    """With the default weights and optimiser, and segments long enough for the default sizes."""
    path = corpus.recipe(tmp_path, data)
    text = path.read_text() + "discriminators:\n  multi-scale-stft:\n  multi-scale-subband-cqt:\n"
    path.write_text(text)
    recipe = load_recipe(path, ["train.steps=1", "train.segment_frames=120"])
    assert recipe.weights["feature_matching"] == 2
    assert load(run_training(recipe, tmp_path / "run")).training["steps"] == 1
    named = load_recipe(path, ["train.steps=1", "discriminators=[multi-scale-stft]"])
    assert named.discriminators == {"multi-scale-stft": {}}


@pytest.mark.parametrize("objective", ["lsgan", "hinge"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.slow
def test_generator_and_discriminators_train_against_each_other(
    objective: str, precision: str, data: Path, tmp_path: Path
) -> None:
    adversarial = {"objective": objective, "start": 5, "optimizer": {"lr": 0.01, "warmup": 0, "clip": 100.0}}
    path = corpus.recipe(tmp_path, data, discriminators=models.SOME_DISCRIMINATORS, adversarial=adversarial)
    steps, rarely = 20, ["train.validate_every=20", "train.save_every=20"]
    recipe = load_recipe(path, [f"train.steps={steps}", f"train.precision={precision}", *rarely])
    run_training(recipe, tmp_path / "run")
    logged = corpus.scalars(tmp_path / "run")
    assert len(logged["train/mel"]) == steps
    for name in ("adversarial", "feature_matching", "discriminator", "discriminators_gradient_norm"):
        assert len(logged[f"train/{name}"]) == steps - 5
    assert min(logged["train/discriminators_gradient_norm"]) > 0
    if objective == "lsgan":
        early, late = logged["train/discriminator"][:5], logged["train/discriminator"][-5:]
        assert sum(late) < 0.8 * sum(early)


def test_each_side_gets_its_own_gradient_alone(data: Path, tmp_path: Path) -> None:
    """The update with one pass over each signal equals the textbook's, which scores a detached fake again."""
    path = corpus.recipe(
        tmp_path, data, discriminators={"multi-scale-stft": models.SMALL_DISCRIMINATORS["multi-scale-stft"]}
    )
    recipe = load_recipe(path, ["optimizer.clip=1e9", "losses={mel: 1}"])
    batch = {"audio": 0.1 * torch.randn(2, 1, 24 * 64), "f0": torch.full((2, 1, 24), 120.0)}
    run, textbook = start_run(recipe, tmp_path / "a"), start_run(recipe, tmp_path / "b")
    train_step(run, [batch])
    losses, fake = textbook.task.train()(batch, Draws(0, 0, 2, slice(0, 2), torch.device("cpu")))
    assert textbook.discriminators is not None
    assert run.discriminators is not None
    discriminators = textbook.discriminators.discriminators["multi-scale-stft"]
    with torch.no_grad():
        real_outputs = discriminators(batch["audio"])
    discriminators.requires_grad_(False)
    fake_outputs = discriminators(fake)
    (losses["mel"] + generator_loss(fake_outputs) + 2 * feature_matching(fake_outputs, real_outputs)).backward()
    discriminators.requires_grad_(True)
    own = discriminator_loss(discriminators(batch["audio"]), discriminators(fake.detach()))
    own.backward()
    modules: tuple[nn.Module, ...] = (textbook.task.model, textbook.discriminators)
    for module in modules:
        optimizer = build_optimizer(module, recipe.optimizer)
        optimizer.param_groups[0]["lr"] = learning_rate(recipe.optimizer, 0, recipe.train.steps)
        optimizer.step()
    trained: tuple[nn.Module, ...] = (run.task.model, run.discriminators)
    for ours, theirs in zip(trained, modules, strict=True):
        for (key, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=key)


def test_modules_and_losses_move_to_the_device(data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(
        corpus.recipe(tmp_path, data, discriminators=models.SOME_DISCRIMINATORS),
        ["losses={full_band_mel: 1, multi_scale_mel: 1, mel: 1, log_magnitude: 1}"],
    )
    run = start_run(recipe, tmp_path / "run")
    task: Any = run.task.to("meta")
    assert run.discriminators is not None
    for module in (task, run.discriminators.to("meta")):
        assert {tensor.device.type for tensor in (*module.parameters(), *module.buffers())} == {"meta"}
    for loss in task.spectral_losses.values():
        assert {buffer.device.type for buffer in loss.buffers()} == {"meta"}


def test_a_discriminator_that_starts_late_begins_its_schedule_then(data: Path, tmp_path: Path) -> None:
    optimizer = {"lr": 1.0e-3, "warmup": 0, "schedule": "decay", "decay": 0.5, "decay_every": 2}
    adversarial = {"start": 3, "optimizer": optimizer}
    path = corpus.recipe(tmp_path, data, discriminators={"parallel-wavegan": {}}, adversarial=adversarial)
    recipe = load_recipe(path)
    run = start_run(recipe, tmp_path / "run")
    batch = {"audio": 0.1 * torch.randn(2, 1, 24 * 64), "f0": torch.full((2, 1, 24), 120.0)}
    rates = []
    for _ in range(7):
        train_step(run, [batch])
        rates.append(run.optimizers["discriminators"].param_groups[0]["lr"])
    assert rates[3:] == [1e-3, 1e-3, 5e-4, 5e-4]


def test_bad_recordings_to_validate_on_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = corpus.make(tmp_path / "data")
    good = (data / "3.flac").read_bytes()
    (data / "4.flac").write_bytes(good[:200] + bytes(len(good) - 200))
    (data / "valid.txt").write_text("3.flac\n4.flac\n")
    run_training(load_recipe(corpus.recipe(tmp_path, data), ["train.steps=1"]), tmp_path / "run")
    assert "left out 1 of 2 recordings to validate on: " in capsys.readouterr().err


@pytest.mark.parametrize("padding", ["center", "same-zeros"])
def test_every_padding_trains(padding: str, data: Path, tmp_path: Path) -> None:
    path = corpus.recipe(tmp_path, data, mel_config=corpus.MEL_CONFIG | {"padding": padding})
    exported = run_training(load_recipe(path, ["train.steps=2"]), tmp_path / "run")
    assert load_checkpoint(exported).mel_config.padding == padding


def test_wavehax_standardises_by_its_data(data: Path, tmp_path: Path) -> None:
    generator = {"name": "wavehax", "config": {"n_fft": 128, "channels": 4, "blocks": 1}}
    recipe = load_recipe(corpus.recipe(tmp_path, data, generator=generator, losses={"mel": 1.0}), ["train.steps=1"])
    model: Any = load_checkpoint(run_training(recipe, tmp_path / "run")).generator
    assert float(model.standardize.mean.max()) < -2
    assert float(model.standardize.scale.min()) > 0.1
    assert float(model.standardize.scale.std()) > 0


def test_a_loss_that_is_not_finite_stops_the_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(corpus.recipe(tmp_path, data))

    genuine = GeneratorTask.forward
    steps = iter(range(100))

    def breaks(self: GeneratorTask, batch: Batch, draws: Draws) -> TaskOutput:
        output = genuine(self, batch, draws)
        if next(steps) == 3:
            output.losses["mel"] = output.losses["mel"] * float("nan")
        return output

    monkeypatch.setattr(GeneratorTask, "forward", breaks)
    with pytest.raises(VocoderError, match="step 3: the loss is not finite in mel; the last saved state is kept"):
        run_training(recipe, tmp_path / "run")
    assert [p.name for p in (tmp_path / "run" / "state").iterdir()] == ["step-00000002"]


def test_a_gradient_that_is_not_finite_stops_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaks(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * float("nan")

    genuine = GeneratorTask.forward
    monkeypatch.setattr(
        GeneratorTask,
        "forward",
        lambda self, *given: TaskOutput({k: Breaks.apply(v) for k, v in genuine(self, *given).losses.items()}),
    )
    with pytest.raises(VocoderError, match="step 0: the gradient of the model is not finite"):
        run_training(load_recipe(corpus.recipe(tmp_path, data)), tmp_path / "run")


def test_optimisers_and_schedules(data: Path, tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    settings = OptimizerRecipe(kind="radam", lr=1e-4, eps=1e-6, betas=(0.9, 0.999))
    optimizer = build_optimizer(model, settings)
    assert isinstance(optimizer, torch.optim.RAdam)
    assert optimizer.defaults["eps"] == 1e-6
    halved = OptimizerRecipe(lr=1.0, warmup=0, schedule="decay", decay=0.5, decay_every=200)
    assert [learning_rate(halved, step, 10**6) for step in (0, 199, 200, 399, 400)] == [1, 1, 0.5, 0.5, 0.25]
    path = corpus.recipe(tmp_path, data, optimizer={"kind": "radam", "lr": 0.01, "schedule": "decay", "clip": None})
    run_training(load_recipe(path, ["train.steps=2"]), tmp_path / "run")


def test_the_moving_average_of_the_weights() -> None:
    """Values derived by hand: the decay rises as (1 + n) / (10 + n) up to its limit; buffers are copied."""
    model = torch.nn.BatchNorm1d(1)
    assert model.running_mean is not None
    averaged: Any = WeightAverage(model, 0.25)
    model.weight.data.fill_(3.0)
    averaged.update_parameters(model)  # the first one copies
    assert float(averaged.module.weight) == 3
    expected = 3.0
    for step in range(1, 5):
        model.weight.data.fill_(10.0 * step)
        model.running_mean.fill_(step)
        averaged.update_parameters(model)
        decay = min(0.25, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * 10 * step
        assert float(averaged.module.weight) == pytest.approx(expected, rel=1e-6)
        assert float(averaged.module.running_mean) == step
    assert not any(parameter.requires_grad for parameter in averaged.parameters())


def test_outputs_beside_the_audio_have_a_mel_loss_and_generators_their_own(data: Path, tmp_path: Path) -> None:
    path = corpus.recipe(tmp_path, data)
    assert loss_names(load_recipe(path)) == [
        "mel",
        "full_band_mel",
        "multi_scale_mel",
        "spectral_convergence",
        "log_magnitude",
        "draft_mel",
        "strength",
    ]


def test_the_learning_rate() -> None:
    settings = OptimizerRecipe(lr=1.0, warmup=10)
    rates = [learning_rate(settings, step, 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[500] == pytest.approx(0.5)
    assert rates[1000] == pytest.approx(0.0)
    assert max(rates) == pytest.approx(1.0, abs=1e-3)


def test_recordings_of_a_lower_rate_are_noted(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = corpus.recipe(tmp_path, data, mel_config=corpus.MEL_CONFIG | {"sample_rate": 24000, "fmax": 12000})
    run_training(load_recipe(recipe, ["train.steps=1"]), tmp_path / "run")
    note = "note: 3 of 3 recordings have a lower rate than the audio's 24000 Hz: above 8000 Hz they hold nothing"
    assert note in capsys.readouterr().err


def test_the_command_refuses_in_one_sentence(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = corpus.recipe(tmp_path, data)
    assert main([str(path), "--set", "train.batchsize=3", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("recipes.train: ")
    assert "did you mean 'batch_size'" in error
    assert error.count("\n") == 1
    assert main([str(path), "--set", "data.dir=/nowhere", "--out", str(tmp_path / "run")]) == 2
    assert "cannot read the list of recordings" in capsys.readouterr().err
    assert main([str(path), "--set", "losses.mell=1", "--out", str(tmp_path / "run")]) == 2
    assert "unknown loss 'mell'" in capsys.readouterr().err
    assert main([str(path), "--set", "losses.adversarial=1", "--out", str(tmp_path / "run")]) == 2
    assert "loss 'adversarial' needs discriminators" in capsys.readouterr().err
    assert main([str(path), "--set", "discriminators={multi-scale-stft: }", "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "segments of 1536 samples, but discriminator 'multi-scale-stft' needs at least 2048" in error
    assert main([str(path), "--set", "discriminators=[multi-stft]", "--out", str(tmp_path / "run")]) == 2
    assert "unknown discriminator 'multi-stft'" in capsys.readouterr().err
