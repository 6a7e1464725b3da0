"""A state that is damaged, a run that is interrupted, and two runs in one folder."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from recipes.train import main
from recipes.training.loop import run_training
from recipes.training.recipe import load_recipe
from recipes.training.schema import Recipe
from recipes.training.state import load_state, save_state
from recipes.training.step import Losses, Run, train_step
from recipes.training.tasks import Batch
from tests.support import corpus
from vocoders import VocoderError
from vocoders.checkpoint import load_checkpoint


def weights_of(step: int) -> torch.nn.Linear:
    model = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(model.weight, step)
    return model


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return load_recipe(corpus.recipe(tmp_path, tmp_path))


@pytest.fixture
def states(tmp_path: Path, recipe: Recipe) -> Path:
    """The folder of the states of steps 1 and 2, whose weights are 1 and 2."""
    folder = tmp_path / "run" / "state"
    for step in (1, 2):
        save_state(folder, step, 0.5, {"model": weights_of(step)}, {}, recipe)
    return folder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1  # in the last weight
    path.write_bytes(content)


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "weights truncated": lambda state: os.truncate(state / "tensors.safetensors", 100),
    "weights empty": lambda state: (state / "tensors.safetensors").write_bytes(b""),
    "weights missing": lambda state: (state / "tensors.safetensors").unlink(),
    "a bit of a weight": lambda state: flip(state / "tensors.safetensors"),
    "description empty": lambda state: (state / "state.json").write_text(""),
    "description without keys": lambda state: (state / "state.json").write_text("{}"),
    "description truncated": lambda state: os.truncate(state / "state.json", 30),
    "description missing": lambda state: (state / "state.json").unlink(),
    "step edited": lambda state: edit(state / "state.json", '"step": 2', '"step": 9'),
    "version edited": lambda state: edit(state / "state.json", '"version": 4', '"version": 2'),
    "checksums empty": lambda state: (state / "SHA256SUMS").write_bytes(b""),
    "checksums missing": lambda state: (state / "SHA256SUMS").unlink(),
    "one checksum": lambda state: os.truncate(state / "SHA256SUMS", 77),
    "all missing": empty,
    "weights a folder": lambda state: folder_instead(state / "tensors.safetensors"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_the_older_state_is_taken_beside_a_damaged_one(
    damage: Callable[[Path], object], states: Path, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(states / "step-00000002")
    model = weights_of(0)
    assert load_state(states, {"model": model}, {}, recipe) == (1, 0.5, None)
    assert float(model.weight[0, 0]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("note: a damaged state is left out (step-00000002: ")
    assert lines[0].endswith("), and the older step-00000001 beside it is taken")


def test_no_state_is_whole(states: Path, recipe: Recipe) -> None:
    for state in states.iterdir():
        (state / "state.json").unlink()
    model = weights_of(0)
    with pytest.raises(VocoderError) as error:
        load_state(states, {"model": model}, {}, recipe)
    assert str(error.value).startswith(f"every state in {states} is damaged (step-00000002: there is no file ")
    assert str(error.value).endswith(f"another --out --set generator.init={states.parent}/model.safetensors")
    assert float(model.weight[0, 0]) == 0


def test_a_damaged_state_is_not_kept_for_a_whole_one(states: Path, recipe: Recipe) -> None:
    """Step 2 is damaged, the run resumes from step 1, and saves more often than before."""
    save_state(states, 8, 0.5, {"model": weights_of(8)}, {}, recipe)
    (states / "step-00000008" / "state.json").unlink()
    save_state(states, 3, 0.5, {"model": weights_of(3)}, {}, recipe)
    assert sorted(path.name for path in states.iterdir()) == ["step-00000002", "step-00000003"]


def test_weights_of_another_network_are_refused_in_one_sentence(states: Path, recipe: Recipe) -> None:
    for model in (torch.nn.Linear(3, 2), torch.nn.LSTM(2, 2)):
        with pytest.raises(VocoderError, match=r"^the weights in the state .* are those of another release; resume"):
            load_state(states, {"model": model}, {}, recipe)


def test_a_run_resumes_from_the_older_state_and_says_so(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = corpus.recipe(tmp_path, data), tmp_path / "run"
    run_training(load_recipe(path, ["train.steps=4", "train.validate_every=99"]), folder)
    assert "resuming" not in capsys.readouterr().err
    os.truncate(folder / "state" / "step-00000004" / "tensors.safetensors", 1000)
    assert main([str(path), "--out", str(folder), "--device", "cpu", "--set", "train.validate_every=99"]) == 0
    error = capsys.readouterr().err
    assert "note: a damaged state is left out (step-00000004: its files are not as they were written" in error
    assert f"resuming {folder} from step 2 of 6\n" in error
    assert [load_checkpoint(folder / "model.safetensors").training["steps"]] == [6]


def interrupt_at(step: int, number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a signal to this process while it takes a step."""

    def interrupted(run: Run, batches: list[Batch]) -> Losses:
        if run.step == step:
            os.kill(os.getpid(), number)
        return train_step(run, batches)

    monkeypatch.setattr("recipes.training.loop.train_step", interrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_saved(
    number: signal.Signals,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the end of the step in work; the same command then resumes."""
    path, folder = corpus.recipe(tmp_path, data), tmp_path / "run"
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    settings = ["--device", "cpu", "--set", "train.save_every=100", "--set", "train.validate_every=100"]
    arguments = [str(path), "--out", str(folder), *settings]
    interrupt_at(2, number, monkeypatch)
    assert main(arguments) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "stopped and saved at step 3 of 6; the same command resumes"
    assert [state.name for state in (folder / "state").iterdir()] == ["step-00000003"]
    assert load_checkpoint(folder / "model.safetensors").training["steps"] == 3
    assert main(arguments) == 0
    assert f"resuming {folder} from step 3 of 6\n" in capsys.readouterr().err
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_a_second_interrupt_stops_at_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(run: Run, batches: list[Batch]) -> Losses:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        raise AssertionError("went on")

    monkeypatch.setattr("recipes.training.loop.train_step", interrupted)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt) as stop:
            run_training(load_recipe(corpus.recipe(tmp_path, data)), tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, usual)
    assert str(stop.value) == ""  # nothing was saved
    assert not (tmp_path / "run" / "state").exists()


def test_an_interrupt_of_all_processes_leaves_the_workers_at_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a terminal sends it. The training process, which does not get it here, needs further batches."""

    def interrupted(run: Run, batches: list[Batch]) -> Losses:
        if run.step == 1:
            (worker,) = multiprocessing.active_children()
            assert worker.pid is not None
            for _ in range(2):  # of a forked worker, the first one would end in the handler of the training process
                os.kill(worker.pid, signal.SIGINT)
                time.sleep(0.3)
        return train_step(run, batches)

    monkeypatch.setattr("recipes.training.loop.train_step", interrupted)
    path = corpus.recipe(tmp_path, data)
    run_training(load_recipe(path, ["data.workers=1", "train.steps=10"]), tmp_path / "run")


def test_two_runs_in_one_folder(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recipes.training.loop.WAIT", 0.0)
    path, folder = corpus.recipe(tmp_path, data), tmp_path / "run"
    folder.mkdir()
    with FileLock(folder / "lock"):
        assert main([str(path), "--out", str(folder), "--device", "cpu"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"recipes.train: another process trains in {folder}; wait for its end, or choose another --out"
    )
    assert [file.name for file in folder.iterdir()] == ["lock"]
