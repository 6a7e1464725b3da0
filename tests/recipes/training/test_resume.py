"""A run that is stopped, killed or meets a full disk resumes: it computes what it would have computed unbroken."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recipes.train import main
from recipes.training.generator_task import GeneratorTask
from recipes.training.loop import run_training
from recipes.training.recipe import load_recipe
from recipes.training.state import VERSION, Optimizers, load_state, save_state
from recipes.training.tasks import Validation
from tests.support import ROOT, corpus, models, ranks
from tests.support.interrupted import run_and_die
from vocoders import VocoderError
from vocoders.checkpoint import load_checkpoint


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("discriminators", [{}, models.SOME_DISCRIMINATORS], ids=["alone", "adversarial"])
def test_a_resumed_run_is_the_unbroken_one_to_the_bit(
    precision: str, discriminators: dict[str, object], data: Path, tmp_path: Path
) -> None:
    path = corpus.recipe(tmp_path, data, discriminators=discriminators)
    recipe = load_recipe(path, [f"train.precision={precision}"])
    run_training(recipe, tmp_path / "whole")

    run_and_die(recipe, tmp_path / "broken", step=5)
    torch.manual_seed(12345)
    run_training(recipe, tmp_path / "broken")
    for file in ("model.safetensors", "state/step-00000006/tensors.safetensors"):
        whole, broken = load_file(tmp_path / "whole" / file), load_file(tmp_path / "broken" / file)
        assert whole.keys() == broken.keys()
        for key in whole:
            assert torch.equal(whole[key], broken[key]), key


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums are divided among threads, so runs are the same to the bit with the same number of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_as_the_unbroken_one(data: Path, tmp_path: Path) -> None:
    """Killed three times, also while saving, which it does at each step: the end is the unbroken run's, to the bit."""
    path = corpus.recipe(
        tmp_path, data, discriminators={"multi-scale-stft": models.SMALL_DISCRIMINATORS["multi-scale-stft"]}
    )
    settings = ["train.save_every=1", "train.steps=24", "train.validate_every=1000", "train.threads=1"]
    run_training(load_recipe(path, settings), tmp_path / "whole")
    folder = tmp_path / "run"
    arguments = [str(path), "--out", str(folder), *(part for setting in settings for part in ("--set", setting))]
    for delay in (0.03, 0.07, 0.16):
        process = ranks.start(arguments)
        begun, deadline = set(folder.glob("state/step-*[0-9]")), time.monotonic() + 120
        while set(folder.glob("state/step-*[0-9]")) == begun and time.monotonic() < deadline and process.is_alive():
            time.sleep(0.005)
        time.sleep(delay)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL  # it was at work
        assert list(folder.glob("state/step-*[0-9]"))
        if (folder / "model.safetensors").exists():  # a kill may come between the first state and the first model
            assert load_checkpoint(folder / "model.safetensors").generator is not None
    run_training(load_recipe(path, settings), folder)
    for file in ("model.safetensors", "discriminators.safetensors"):
        whole, killed = load_file(tmp_path / "whole" / file), load_file(folder / file)
        assert all(torch.equal(value, killed[key]) for key, value in whole.items())


def test_what_cannot_be_resumed_or_begun(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = corpus.recipe(tmp_path, data, discriminators={"parallel-wavegan": {}})
    run_training(load_recipe(path, ["train.steps=1"]), tmp_path / "run")
    with pytest.raises(VocoderError, match=r"another recipe: discriminators was None, is \{\}, discr"):
        run_training(load_recipe(path, ["train.steps=2", "discriminators=[]"]), tmp_path / "run")
    with pytest.raises(VocoderError, match="no loss has a weight before step 3, when the discriminators begin"):
        run_training(load_recipe(path, ["losses={adversarial: 1}", "adversarial.start=3"]), tmp_path / "other")
    for device in ("gpu", "cuda:99"):
        assert main([str(path), "--device", device, "--out", str(tmp_path / "other")]) == 2
        assert f"cannot train on device '{device}'" in capsys.readouterr().err
    assert main([str(path), "--set", "train.seed=-1", "--out", str(tmp_path / "other")]) == 2


def test_a_state_half_written_is_not_loaded(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2)).sum().backward()
    optimizer.step()
    (tmp_path / "recipes").mkdir()
    recipe = load_recipe(corpus.recipe(tmp_path / "recipes", tmp_path))
    tmp_path = tmp_path / "state"
    for step in (1, 2, 3):
        save_state(tmp_path, step, 0.5, {"model": model}, {"model": optimizer}, recipe)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    (tmp_path / "step-00000004.partial").mkdir()
    other = torch.nn.Linear(2, 2)
    optimizers: Optimizers = {"model": torch.optim.AdamW(other.parameters())}
    assert load_state(tmp_path, {"model": other}, optimizers, recipe) == (3, 0.5, None)
    assert torch.equal(other.weight, model.weight)
    save_state(tmp_path, 4, 0.5, {"model": model}, {"model": optimizer}, recipe)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]


def test_a_state_of_another_layout_is_refused_in_one_sentence(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = corpus.recipe(tmp_path, data), tmp_path / "run"
    with monkeypatch.context() as later:
        later.setattr("recipes.training.state.VERSION", 99)
        save_state(folder / "state", 2, 0.5, {"model": torch.nn.Linear(2, 2)}, {}, load_recipe(path))
    assert main([str(path), "--out", str(folder), "--device", "cpu"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"recipes.train: the state {folder}/state/step-00000002 has the layout 99, this release reads {VERSION}; "
        f"resume the run with its own release, or start a new one with another --out --set "
        f"generator.init={folder}/model.safetensors"
    )


def test_a_run_starts_from_the_model_of_another(data: Path, tmp_path: Path) -> None:
    path = corpus.recipe(tmp_path, data)
    first = run_training(load_recipe(path, ["train.steps=2"]), tmp_path / "run")
    recipe = load_recipe(path, ["train.steps=1", "optimizer.lr=1e-9", f"generator.init={first}"])
    weights, earlier = load_file(run_training(recipe, tmp_path / "new")), load_file(first)
    for key, value in earlier.items():
        torch.testing.assert_close(weights[key], value, atol=1e-6, rtol=0)


def test_another_recipe_is_not_resumed_under_the_same_name(data: Path, tmp_path: Path) -> None:
    path = corpus.recipe(tmp_path, data)
    run_training(load_recipe(path, ["train.steps=2"]), tmp_path / "run")
    with pytest.raises(VocoderError, match=r"another recipe: optimizer\.lr was 0\.002, is 0\.1; choose another --out"):
        run_training(load_recipe(path, ["optimizer.lr=0.1"]), tmp_path / "run")
    run_training(load_recipe(path, ["train.steps=3", "train.log_every=2", "data.workers=1"]), tmp_path / "run")


def test_a_kill_between_state_and_model_loses_nothing(data: Path, tmp_path: Path) -> None:
    recipe = load_recipe(corpus.recipe(tmp_path, data), ["train.steps=2"])
    path = run_training(recipe, tmp_path / "run")
    before = load_file(path)
    path.unlink()
    assert run_training(recipe, tmp_path / "run") == path
    assert all(torch.equal(value, before[key]) for key, value in load_file(path).items())


def test_resuming_keeps_what_was_logged(data: Path, tmp_path: Path) -> None:
    path = corpus.recipe(tmp_path, data)
    run_training(load_recipe(path, ["train.steps=4", "train.validate_every=2"]), tmp_path / "run")
    run_training(load_recipe(path, ["train.steps=6", "train.validate_every=2"]), tmp_path / "run")
    logged = corpus.scalars(tmp_path / "run")
    assert len(logged["train/total"]) == 6
    assert len(logged["valid/mel"]) == 3


def test_a_run_in_pieces_of_minutes_is_the_unbroken_one(data: Path, tmp_path: Path) -> None:
    path = corpus.recipe(tmp_path, data)
    run_training(load_recipe(path), tmp_path / "whole")
    for steps in (1, 2, 3):  # each piece is too short for more than a step
        run_training(load_recipe(path), tmp_path / "pieces", minutes=0)
        assert load_checkpoint(tmp_path / "pieces" / "model.safetensors").training["steps"] == steps
    assert main([str(path), "--out", str(tmp_path / "pieces"), "--minutes", "10"]) == 0
    whole, pieces = (load_file(tmp_path / run / "model.safetensors") for run in ("whole", "pieces"))
    assert all(torch.equal(value, pieces[key]) for key, value in whole.items())


@pytest.mark.slow
def test_a_full_disk_keeps_the_older_state(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on the size of files stands for the disk."""
    path = corpus.recipe(tmp_path, data)
    folder = tmp_path / "run"
    run_training(load_recipe(path, ["train.steps=2"]), folder)
    before = load_file(folder / "state" / "step-00000002" / "tensors.safetensors")
    code = (
        "import resource, signal, sys; from recipes.train import main; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40000, 40000)); sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, str(path), "--out", str(folder), "--set", "train.steps=4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "recipes.train: cannot " in done.stderr
    assert "kept" in done.stderr
    assert [p.name for p in (folder / "state").iterdir()] == ["step-00000002"]
    after = load_file(folder / "state" / "step-00000002" / "tensors.safetensors")
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    run_training(load_recipe(path, ["train.steps=4"]), folder)


def test_a_state_that_cannot_be_written_leaves_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(2, 2)
    recipe = load_recipe(corpus.recipe(tmp_path, tmp_path))
    save_state(tmp_path / "state", 1, 0.5, {"model": model}, {}, recipe)

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("recipes.training.state.save_file", full)
    with pytest.raises(VocoderError, match=r"state of step 2 in .*No space left .*; the state step-00000001 is kept"):
        save_state(tmp_path / "state", 2, 0.5, {"model": model}, {}, recipe)
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["step-00000001"]


def test_the_best_checkpoint_is_kept_beside_the_last(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that resumes keeps it as well: its first validation is worse than the best of the run before."""
    path = corpus.recipe(tmp_path, data)
    folder = tmp_path / "run"
    run_training(load_recipe(path, ["train.steps=6", "train.validate_every=2", "optimizer.lr=0.001"]), folder)
    logged = corpus.scalars(folder)["valid/mel"]
    best = load_checkpoint(folder / "model-best.safetensors")
    assert best.training["steps"] == 2 * (logged.index(min(logged)) + 1)
    state = json.loads((folder / "state" / "step-00000006" / "state.json").read_text())
    assert state["best"] == pytest.approx(min(logged), rel=1e-5)

    monkeypatch.setattr(GeneratorTask, "validate", lambda *given: Validation({"mel": 99.0}, []))
    run_training(load_recipe(path, ["train.steps=8", "train.validate_every=2", "optimizer.lr=0.001"]), folder)
    assert load_checkpoint(folder / "model-best.safetensors").training["steps"] == best.training["steps"]
    assert load_checkpoint(folder / "model.safetensors").training["steps"] == 8


def test_an_epoch_is_counted_once(tmp_path: Path) -> None:
    """Recordings that come later do not change the learning rates of a run."""
    data = corpus.make(tmp_path / "data")
    optimizer = {"lr": 0.01, "warmup": 0, "schedule": "decay", "decay": 0.5, "decay_every": "epoch"}
    path = corpus.recipe(tmp_path, data, optimizer=optimizer)
    settings = ["train.batch_size=1", "data.valid_clips=1"]
    run_training(load_recipe(path, [*settings, "train.steps=2"]), tmp_path / "run")
    recordings = (data / "train.txt").read_text().split()
    (data / "train.txt").write_text("\n".join(recordings * 2))
    run_training(load_recipe(path, [*settings, "train.steps=6"]), tmp_path / "run")
    rates = corpus.scalars(tmp_path / "run")["train/learning_rate"]
    assert rates == pytest.approx([0.01 * 0.5 ** (step // len(recordings)) for step in range(6)])
