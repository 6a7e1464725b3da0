"""The worker of a corpus, in this process: the files are those of ``vocode``, whatever the inputs come as."""

import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support import models, signals
from tests.support.commands import files, refused
from tests.support.server import SMALL
from vocoders.checkpoint import save_checkpoint
from vocoders.cli.corpus.items import find_items, group_by_size, list_outputs, resolve_output
from vocoders.cli.corpus.worker import CorpusWorker, Result
from vocoders.cli.execution import Options, Worker
from vocoders.cli.plan import plan
from vocoders.cli.vocode import vocode
from vocoders.inference.vocoder import Vocoder


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder "in" of mels and sound files, and "alone", what ``vocode`` makes of them."""
    monkeypatch.chdir(tmp_path)
    for name, frames in (("a.npy", 12), ("b.npy", 40), ("deep/a.b.npy", 25), ("deep/one.npy", 1)):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "in" / name, models.mel(frames)[0].numpy())
    soundfile.write(tmp_path / "in" / "deep" / "voice.wav", signals.voice(8000, 0.5), 8000)
    (tmp_path / "in" / "notes.txt").write_text("no mel")
    assert vocode(["in", "-o", "alone", "-m", str(SMALL), "-q"]) == 0
    return tmp_path


def work(
    inputs: list[str], output: str, model: Path = SMALL, format: str = "wav", mel_config: str | None = None
) -> list[Result]:
    """Do a corpus with one worker, in one group."""
    output = resolve_output(output)
    worker = CorpusWorker(Options(model=str(model), mel_config=mel_config), format, overwrite=False, threads=1)
    return worker(find_items(inputs, output, format, list_outputs(output)))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


def test_outputs_have_the_names_that_vocode_gives(corpus: Path) -> None:
    for inputs in (["in"], ["in/a.npy", "in/deep"], ["in/*.npy"], ["in/**/*.npy"]):
        jobs, _ = plan(inputs, "out/", None)
        assert {item.target for item in find_items(inputs, resolve_output("out"), "wav", ())} == {
            str(job.target.absolute()) for job in jobs if job.target
        }


@pytest.mark.parametrize("inputs", ["in", "file://{}/in"])
@pytest.mark.parametrize("output", ["out", "file://{}/out"])
def test_files_and_urls_give_the_same_files(corpus: Path, inputs: str, output: str) -> None:
    results = work([inputs.format(corpus)], output.format(corpus))
    assert contents(corpus / "out") == contents(corpus / "alone")
    assert {result.entry["output"]: result.entry["samples"] for result in results} == {
        name: soundfile.info(str(corpus / "out" / name)).frames for name in files(corpus / "out")
    }
    again = work([inputs.format(corpus)], output.format(corpus))
    assert [result.entry for result in again] == [result.entry for result in results]
    assert sum(result.seconds for result in again) == 0
    assert sum("carries no mel config" in text for result in results for text, _ in result.notes) == 1


@pytest.mark.parametrize("url", ["", "file://{}/"])
def test_a_shard_gives_the_files_of_its_unpacked_folder(corpus: Path, url: str) -> None:
    with tarfile.open("shard-0.tar", "w") as shard:
        shard.add("in", "")
    results = work([f"{url.format(corpus)}shard-0.tar"], f"{url.format(corpus)}out")
    assert contents(corpus / "out" / "shard-0") == contents(corpus / "alone")
    assert all(result.entry["output"].startswith("shard-0/") for result in results)


def test_bad_members_of_a_shard_cost_nothing_else(corpus: Path) -> None:
    Path("bad.npy").write_bytes(b"nonsense")
    with tarfile.open("s.tar", "w") as shard:
        for source, name in (("bad.npy", "bad.npy"), ("in/a.npy", "../a.npy"), ("in/a.npy", "a.npy")):
            shard.add(source, name)
        shard.add("in/b.npy", "a.npz")  # both would become a.wav
    Path("cut.tar").write_bytes(Path("s.tar").read_bytes()[:1500])
    errors = {r.entry["input"].split("/")[-1]: r.entry["error"] for r in work(["s.tar"], "out") if "error" in r.entry}
    assert len(errors) == 3
    assert "s.tar/bad.npy is not a readable .npy file" in errors["bad.npy"]
    assert "as one before it does" in errors["a.npz"]
    assert files(corpus / "out") == {"s/a.wav"}
    assert (corpus / "out/s/a.wav").read_bytes() == (corpus / "alone/a.wav").read_bytes()
    assert "cut.tar is not a readable tar" in work(["cut.tar"], "out")[-1].entry["error"]


def test_analysis(corpus: Path) -> None:
    results = work(["in/deep/voice.wav"], "mels", format="npz")
    assert vocode(["in/deep/voice.wav", "-o", "voice.npz", "-m", str(SMALL), "-q"]) == 0
    np.testing.assert_array_equal(np.load("mels/voice.npz")["mel"], np.load("voice.npz")["mel"])
    assert results[0].entry["samples"] == 4000


def test_other_mel_configs(corpus: Path) -> None:
    """Analysis takes any, also one that no model speaks; audio of a mel of another has its rate."""
    (analysed,) = work(["in/deep/voice.wav"], "few", format="npz", mel_config="speecht5-16k:n_mels=20")
    assert (analysed.entry["sample_rate"], np.load("few/voice.npz")["mel"].shape[0]) == (16000, 20)
    work(["in/deep/voice.wav"], "mels", format="npz", mel_config="speecht5-16k")
    (spoken,) = work(["mels/voice.npz"], "raw", format="raw", mel_config="speecht5-16k")
    frames = np.load("mels/voice.npz")["mel"].shape[1]
    assert (spoken.entry["samples"], spoken.entry["sample_rate"]) == (256 * frames, 16000)


def test_batches_where_they_pay(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are equal to rounding, and a bad file costs nothing but itself."""
    save_checkpoint(models.checkpoint(), corpus / "model.safetensors")
    np.savez("in/bad.npz", mel=models.mel(20)[0].numpy(), f0=np.zeros(3))  # found when the batch is synthesised
    monkeypatch.setattr(Vocoder, "batching_pays", True)
    results = work(["in"], "out", corpus / "model.safetensors")
    assert ["f0" in r.entry.get("error", "") for r in results].count(True) == 1
    alone = Worker(Options(model="model.safetensors", quiet=True))
    (corpus / "single" / "deep").mkdir(parents=True)
    for job in plan(["in"], "single/", None)[0]:
        if job.source != Path("in/bad.npz"):
            alone.do(job)
    assert files(corpus / "out") == files(corpus / "single")
    for name in files(corpus / "out"):
        batch, one = (soundfile.read(corpus / folder / name, dtype="int16")[0] for folder in ("out", "single"))
        np.testing.assert_allclose(batch.astype(int), one, atol=1)


def test_groups_keep_all_items_in_order(corpus: Path) -> None:
    items = find_items(["in"], "/out", "wav", ())
    assert [item.size for item in items] == sorted((item.size for item in items), reverse=True)
    for most in (0, 3000, 10**6):
        groups = group_by_size(items, most)
        assert [item for group in groups for item in group] == items
        assert all(len(group) == 1 or sum(item.size for item in group) <= most for group in groups)


def test_what_is_refused(work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    mel = "mel12.npy"
    assert "--f0 is for a single input" in refused(work, capsys, mel, "-o", "out", "--f0", "f0.npy", "--ray")
    assert "--ray reads files" in refused(work, capsys, "-", "-o", "out", "--ray")
    assert "a file" in refused(work, capsys, mel, "-o", "voice.wav", "--ray")
    assert "gives each worker a GPU" in refused(work, capsys, mel, "-o", "out", "--ray", "--device", "cuda:1")
    assert "in the memory of one process" in refused(work, capsys, "memory://in", "-o", "out", "--ray")
    assert "there is no file file:" in refused(work, capsys, f"file://{work}/no", "-o", "out", "--ray")
    assert "cannot open nothing://in" in refused(work, capsys, "nothing://in", "-o", "out", "--ray")
    assert "would both become" in refused(work, capsys, mel, "./mel12.npy", "-o", "out", "--ray")
    assert "no Ray cluster answers at 127.0.0.1:9" in refused(work, capsys, mel, "-o", "out", "--ray", "127.0.0.1:9")
    assert "HOST:PORT, auto or local" in refused(work, capsys, mel, "-o", "out", "--ray", "ray://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "ray", None)
    message = refused(work, capsys, mel, "-o", "out", "--ray")
    assert "--ray needs ray, which is not installed: pip install '.[ray]'" in message


def test_what_is_done_needs_no_cluster(corpus: Path) -> None:
    """A corpus that the manifest says is done is not sent to workers."""
    output = resolve_output("alone")
    entries = [result.entry for result in work(["in"], "alone")]
    Path("alone/manifest.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert vocode(["in", "-o", output, "-m", str(SMALL), "--ray", "127.0.0.1:9"]) == 0
