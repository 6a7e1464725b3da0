"""However a batch is divided among microbatches and ranks, training computes the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recipes.training.distributed import DistributedContext, Draws, microbatches
from recipes.training.loop import run_training
from recipes.training.recipe import load_recipe
from tests.support import ROOT, corpus, ranks
from vocoders import VocoderError

CPU = torch.device("cpu")
# Without what is a ratio over the whole batch, such as spectral convergence, which depends on how it is divided.
LOSSES = {"mel": 1.0, "draft_mel": 0.5, "log_magnitude": 1.0}
DISCRIMINATORS = {
    "multi-resolution": {"n_ffts": [256], "channels": 4},
    "multi-period": {"periods": [2], "channels": [4]},
}


def recipe(folder: Path, data: Path) -> Path:
    return corpus.recipe(folder, data, losses=LOSSES, discriminators=DISCRIMINATORS)


SET = ["train.batch_size=4", "train.steps=4", "optimizer.lr=0.001"]


def same(a: Path, b: Path) -> None:
    ours, theirs = load_file(a), load_file(b)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, rtol=1e-3, atol=2e-5, msg=key)


def test_every_item_gets_the_same_numbers() -> None:
    whole = Draws(3, 7, 4, slice(0, 4), CPU)
    cut = [Draws(3, 7, 4, slice(start, start + 2), CPU) for start in (0, 2)]
    for name in ("randn", "rand"):
        expected = getattr(whole, name)(1, 5)
        assert torch.equal(torch.cat([getattr(draws, name)(1, 5) for draws in cut]), expected)
    assert len({whole.chance(0.5), *(draws.chance(0.5) for draws in cut)}) == 1
    assert not torch.equal(Draws(3, 8, 4, slice(0, 4), CPU).randn(5), Draws(3, 7, 4, slice(0, 4), CPU).randn(5))


def test_microbatches_cover_the_batch_once() -> None:
    both = [items for rank in (0, 1) for items in microbatches(12, 3, DistributedContext(rank, 2))]
    taken = [i for items in both for i in range(12)[items]]
    assert sorted(taken) == list(range(12))
    with pytest.raises(VocoderError, match=r"batch_size = 12 must be a multiple of the 5 ranks times .* = 3"):
        microbatches(12, 3, DistributedContext(0, 5))


def test_accumulated_gradients_give_the_same_weights(data: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, data)
    whole = run_training(load_recipe(path, SET), tmp_path / "whole")
    cut = run_training(load_recipe(path, [*SET, "train.accumulate=2"]), tmp_path / "cut")
    same(whole, cut)


def options(settings: list[str]) -> list[str]:
    return [argument for setting in settings for argument in ("--set", setting)]


def check_as_one_rank(path: Path, settings: list[str], folder: Path) -> None:
    """The run of two ranks in ``folder / "two"`` gave the weights of a single one."""
    one = run_training(load_recipe(path, [s for s in settings if "accumulate" not in s]), folder / "one")
    same(one, folder / "two" / "model.safetensors")
    same(folder / "one" / "discriminators.safetensors", folder / "two" / "discriminators.safetensors")


@pytest.mark.slow
def test_two_ranks_of_torchrun_give_the_same_weights_as_one(data: Path, tmp_path: Path) -> None:
    """Two processes over gloo, one thread each; only the main rank writes."""
    path = recipe(tmp_path, data)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*torchrun, "-m", "recipes.train", str(path), "--out", str(tmp_path / "two"), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *options(SET)], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote ") == 1
    check_as_one_rank(path, SET, tmp_path)


@pytest.mark.slow
def test_so_do_ranks_with_microbatches_and_discriminators_that_start_late(data: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, data)
    settings = [*SET, "train.accumulate=2", "adversarial.start=2", "losses={mel: 1.0}"]
    arguments = [str(path), "--out", str(tmp_path / "two"), "--device", "cpu", *options(settings)]
    statuses, printed = ranks.train_on_two(arguments, arguments, tmp_path)
    assert statuses == [0, 0], printed
    assert printed.count("wrote ") == 1
    check_as_one_rank(path, settings, tmp_path)


@pytest.mark.slow
def test_ranks_that_find_different_states_stop(data: Path, tmp_path: Path) -> None:
    """As on two machines without a common disk, where the second finds no state."""
    path = recipe(tmp_path, data)
    run_training(load_recipe(path, [*SET, "train.steps=2"]), tmp_path / "rank0")
    one, other = (
        [str(path), "--out", str(tmp_path / name), "--device", "cpu", *options(SET)] for name in ("rank0", "rank1")
    )
    statuses, printed = ranks.train_on_two(one, other, tmp_path)
    assert 0 not in statuses
    assert "the ranks found the states of different steps, [2, 0]; the folder of a run must lie on a disk" in printed
